"""The encoder of BERT-base on 128 tokens, as `qkv bench infer` measures it: the better of nn.TransformerEncoder's fast path and of plain
modules. For 8 bits plain modules by dynamic quantisation, which the fast path does not know, or bf16 where that is faster."""
import peer
import torch
from torch import nn

LAYERS, D_MODEL, HEADS, D_FF, VOCAB, LENGTH = 12, 768, 12, 3072, 30522, 128


class PlainLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(D_MODEL, 3 * D_MODEL), nn.Linear(D_MODEL, D_MODEL)
        self.fc1, self.fc2 = nn.Linear(D_MODEL, D_FF), nn.Linear(D_FF, D_MODEL)
        self.norm1, self.norm2 = nn.LayerNorm(D_MODEL), nn.LayerNorm(D_MODEL)

    def forward(self, x):
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, HEADS, D_MODEL // HEADS).permute(2, 0, 3, 1, 4)
        x = self.norm1(x + self.out(peer.attend(q, k, v).transpose(1, 2).reshape(batch, length, D_MODEL)))
        return self.norm2(x + self.fc2(nn.functional.gelu(self.fc1(x))))


class Bert(nn.Module):
    def __init__(self, fused):
        super().__init__()
        self.words, self.places, self.norm = nn.Embedding(VOCAB, D_MODEL), nn.Embedding(512, D_MODEL), nn.LayerNorm(D_MODEL)
        if fused:
            layer = nn.TransformerEncoderLayer(D_MODEL, HEADS, D_FF, 0.0, 'gelu', batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        else:
            self.encoder = nn.Sequential(*(PlainLayer() for _ in range(LAYERS)))

    def forward(self, ids):
        return self.encoder(self.norm(self.words(ids) + self.places.weight[:ids.shape[1]]))


def infer(how, batch, dtype):
    model = Bert(how == 'fused').eval()
    if dtype == 'int8':
        model = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    else:
        model = model.to(peer.DTYPES[dtype])
    ids = torch.randint(VOCAB, (batch, LENGTH))

    def run():
        with torch.inference_mode():
            model(ids)

    timing = peer.timed(run, reps=7)
    flop = batch * LENGTH * LAYERS * (2.0 * (4 * D_MODEL * D_MODEL + 2 * D_MODEL * D_FF) + 4.0 * LENGTH * D_MODEL)
    return peer.line(f'bert-base infer s{LENGTH} b{batch} {dtype} {how}', dtype, timing, batch, 'seq_s',
                     gflops_best=round(flop / timing['min_s'] / 1e9, 1))


if __name__ == '__main__':
    parser = peer.options(__doc__, [*peer.DTYPES, 'int8'])
    parser.add_argument('--batch', type=int, help='texts at once; default: 1, then 32')
    o = parser.parse_args()
    for batch in [o.batch] if o.batch else [1, 32]:
        for dtype in [o.dtype] if o.dtype else [*peer.DTYPES, 'int8']:
            ways = [('plain', dtype), ('fused', dtype)]
            if dtype == 'int8':
                ways = [('plain', 'int8'), ('plain', 'bf16'), ('fused', 'bf16')]
            peer.measure(o.threads, infer, *((how, batch, which) for how, which in ways))

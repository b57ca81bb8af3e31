"""Whole training steps (forward, backward, AdamW) on random ids, as `qkv bench train` measures them; bf16 is autocast's."""
import peer
import torch
from torch import nn
from torch.nn import functional as F

CASES = {  # kind, layers, d_model, heads, d_ff, context, batch, vocabulary: apps/cli/bench_train.cc
    'gpt-char-2x128': ('gpt', 2, 128, 4, 512, 128, 32, 96),
    'gpt-6x384-8k': ('gpt', 6, 384, 6, 1536, 256, 32, 8192),
    'gpt2-124m-ctx1024-b1': ('gpt', 12, 768, 12, 3072, 1024, 1, 50257),
    'gpt2-124m-ctx64-b4': ('gpt', 12, 768, 12, 3072, 64, 4, 50257),
    'nmt-3+3x256-8k': ('nmt', 3, 256, 4, 1024, 32, 128, 8192),
    'bert-base-s128-b16': ('bert', 12, 768, 12, 3072, 128, 16, 30522),
}


class Block(nn.Module):
    def __init__(self, d_model, heads, d_ff, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.qkv, self.out = nn.Linear(d_model, 3 * d_model), nn.Linear(d_model, d_model)
        self.fc1, self.fc2 = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)

    def forward(self, x):
        batch, length, d_model = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, d_model // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.out(peer.attend(q, k, v, self.causal).transpose(1, 2).reshape(batch, length, d_model))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class LanguageModel(nn.Module):
    """GPT-2, or BERT with the loss over every token; the output layer is the embedding's."""

    def __init__(self, layers, d_model, heads, d_ff, context, vocab, causal):
        super().__init__()
        self.words, self.places = nn.Embedding(vocab, d_model), nn.Embedding(context, d_model)
        self.blocks = nn.Sequential(*(Block(d_model, heads, d_ff, causal) for _ in range(layers)))
        self.norm = nn.LayerNorm(d_model)

    def forward(self, x, y):
        hidden = self.norm(self.blocks(self.words(x) + self.places.weight[:x.shape[1]]))
        return F.cross_entropy(F.linear(hidden, self.words.weight).float().flatten(0, 1), y.flatten())


class Translation(nn.Module):
    def __init__(self, layers, d_model, heads, d_ff, vocab):
        super().__init__()
        self.words = nn.Embedding(vocab, d_model)
        self.transformer = nn.Transformer(d_model, heads, layers, layers, d_ff, 0.0, batch_first=True)

    def forward(self, x, y):
        hidden = self.transformer(self.words(x), self.words(x), tgt_mask=peer.future(x.shape[1], torch.float32))
        return F.cross_entropy(F.linear(hidden, self.words.weight).float().flatten(0, 1), y.flatten())


def train(name, dtype):
    kind, layers, d_model, heads, d_ff, context, batch, vocab = CASES[name]
    if kind == 'nmt':
        model = Translation(layers, d_model, heads, d_ff, vocab)
    else:
        model = LanguageModel(layers, d_model, heads, d_ff, context, vocab, causal=kind == 'gpt')
    for p in model.parameters():
        if p.dim() > 1:
            nn.init.normal_(p, std=0.02)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    x, y = torch.randint(vocab, (batch, context)), torch.randint(vocab, (batch, context))
    losses = []

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=dtype == 'bf16'):
            loss = model(x, y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    timing = peer.timed(step, budget=90)
    # 6 operations for each weight that multiplies, and for attention 12 layers * context * d_model a token; a translator has three.
    params = sum(p.numel() for p in model.parameters())
    weights = params - sum(p.numel() for name, p in model.named_parameters() if name == 'places.weight')
    flop = (6.0 * weights + 12.0 * layers * context * d_model * (3 if kind == 'nmt' else 1)) * batch * context
    return peer.line(f'train {name} {dtype}', dtype, timing, batch * context, 'tok_s', params=params,
                     gflops_best=round(flop / timing['min_s'] / 1e9, 1), loss0=round(losses[0], 3), loss_last=round(losses[-1], 3))


if __name__ == '__main__':
    parser = peer.options(__doc__, peer.DTYPES)
    parser.add_argument('--case', choices=CASES, help='default: each')
    o = parser.parse_args()
    for case in [o.case] if o.case else CASES:
        for dtype in [o.dtype] if o.dtype else peer.DTYPES:
            peer.measure(o.threads, train, (case, dtype))

"""Translation at given sizes with random weights, as `qkv bench translate --case` measures it: a post-norm Transformer with a cache of keys
and values, greedy or by beam search, 32 random tokens to exactly 32. For 8 bits dynamic quantisation, or bf16 where that is
faster: with few rows a product it can be four times slower."""
import math

import peer
import torch
from torch import nn
from torch.nn import functional as F

CASES = {  # layers of each stack, d_model, heads, d_ff, vocabulary: apps/cli/bench_shapes.h
    'base-6+6x512-32k': (6, 512, 8, 2048, 32000),
    'small-3+3x256-8k': (3, 256, 4, 1024, 8192),
}
TOKENS = 32
START, END, FIRST_WORD = 0, 1, 2  # START is the padding too


def split(x, heads):
    """[rows, length, d_model] -> [rows, heads, length, d_head]"""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join(x):
    return x.transpose(1, 2).flatten(2)


class FeedForward(nn.Sequential):
    def __init__(self, d_model, d_ff):
        super().__init__(nn.Linear(d_model, d_ff), nn.ReLU(inplace=True), nn.Linear(d_ff, d_model))


class EncoderLayer(nn.Module):
    def __init__(self, d_model, heads, d_ff):
        super().__init__()
        self.heads = heads
        self.qkv, self.out, self.ffn = nn.Linear(d_model, 3 * d_model), nn.Linear(d_model, d_model), FeedForward(d_model, d_ff)
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)

    def forward(self, x):
        q, k, v = (split(y, self.heads) for y in self.qkv(x).chunk(3, -1))
        x = self.norm1(x + self.out(join(peer.attend(q, k, v))))
        return self.norm2(x + self.ffn(x))


class DecoderLayer(nn.Module):
    def __init__(self, d_model, heads, d_ff):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(d_model, 3 * d_model), nn.Linear(d_model, d_model)
        self.cross_q, self.cross_kv = nn.Linear(d_model, d_model), nn.Linear(d_model, 2 * d_model)
        self.cross_out, self.ffn = nn.Linear(d_model, d_model), FeedForward(d_model, d_ff)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(d_model) for _ in range(3))

    def forward(self, x, past, n, source):
        """x [rows, 1, d_model], token n of each; past [2, rows, heads, TOKENS, d_head] of those before, to which it adds; source
        [2, sentences, heads, length, d_head]: the rows of a sentence ask together."""
        q, k, v = (split(y, self.heads) for y in self.qkv(x).chunk(3, -1))
        past[0, :, :, n], past[1, :, :, n] = k[:, :, 0], v[:, :, 0]
        x = self.norm1(x + self.out(join(peer.attend(q, past[0, :, :, :n + 1], past[1, :, :, :n + 1]))))
        q = split(self.cross_q(x).view(source.shape[1], -1, x.shape[-1]), self.heads)
        x = self.norm2(x + self.cross_out(join(peer.attend(q, source[0], source[1])).view(x.shape)))
        return self.norm3(x + self.ffn(x))


class Transformer(nn.Module):
    def __init__(self, layers, d_model, heads, d_ff, vocab):
        super().__init__()
        self.words = nn.Embedding(vocab, d_model)
        self.encoder = nn.ModuleList(EncoderLayer(d_model, heads, d_ff) for _ in range(layers))
        self.decoder = nn.ModuleList(DecoderLayer(d_model, heads, d_ff) for _ in range(layers))
        self.logits = nn.Linear(d_model, vocab)
        nn.init.normal_(self.words.weight, std=d_model ** -0.5)
        self.logits.weight = self.words.weight
        angles = torch.arange(TOKENS)[:, None] / 10000 ** (torch.arange(0, d_model, 2) / d_model)
        self.register_buffer('places', torch.cat([angles.sin(), angles.cos()], -1))

    def embed(self, ids, first):
        return self.words(ids) * math.sqrt(self.words.embedding_dim) + self.places[first:first + ids.shape[1]]

    def encode(self, ids):
        """-> keys and values of the source for each decoder layer"""
        x = self.embed(ids, 0)
        for layer in self.encoder:
            x = layer(x)
        return [torch.stack([split(y, layer.heads) for y in layer.cross_kv(x).chunk(2, -1)]) for layer in self.decoder]

    def step(self, ids, past, n, sources):
        x = self.embed(ids[:, None], n)
        for layer, its_past, source in zip(self.decoder, past, sources):
            x = layer(x, its_past, n, source)
        logits = self.logits(x[:, 0]).float()
        logits[:, START] = -math.inf
        if n + 1 < TOKENS:
            logits[:, END] = -math.inf
        return logits

    def no_past(self, rows, like):
        return like.new_empty(len(self.decoder), 2, rows, like.shape[2], TOKENS, like.shape[4])


@torch.inference_mode()
def greedy(model, source_ids):
    sources = model.encode(source_ids)
    past = model.no_past(len(source_ids), sources[0])
    written = [torch.full((len(source_ids),), START)]
    for n in range(TOKENS):
        written.append(model.step(written[-1], past, n, sources).argmax(-1))
    return torch.stack(written[1:], -1)


@torch.inference_mode()
def beam_search(model, source_ids, beam):
    """None ends before the last step, so the beam is the `beam` likeliest prefixes and the answer the likeliest whole."""
    sentences, sources = len(source_ids), model.encode(source_ids)
    past = model.no_past(sentences, sources[0])
    written, ids, scores = torch.empty(sentences, 0, dtype=torch.long), torch.full((sentences,), START), torch.zeros(sentences, 1)
    for n in range(TOKENS):
        log_probs = F.log_softmax(model.step(ids, past, n, sources), -1)
        vocab, live = log_probs.shape[1], scores.shape[1]
        scores, found = (scores[:, :, None] + log_probs.view(sentences, live, vocab)).flatten(1).topk(beam)
        parents = (found // vocab + torch.arange(sentences)[:, None] * live).flatten()
        ids = (found % vocab).flatten()
        written = torch.cat([written[parents], ids[:, None]], -1)
        # Row r goes on from parents[r]: only what is filled of the cache is moved.
        kept = past[..., :n + 1, :].index_select(2, parents)
        if kept.shape[2] != past.shape[2]:
            past = model.no_past(kept.shape[2], past[0])
        past[..., :n + 1, :] = kept
    return written.view(sentences, beam, TOKENS)[:, 0]


def translate(case, beam, batch, dtype):
    layers, d_model, heads, d_ff, vocab = CASES[case]
    model = Transformer(layers, d_model, heads, d_ff, vocab).eval()
    if dtype == 'int8':
        model = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    else:
        model = model.to(peer.DTYPES[dtype])
    sentences = max(2 * batch, 16)
    source_ids = torch.randint(FIRST_WORD, vocab, (sentences, TOKENS))
    source_ids[:, -1] = END

    def run():
        for some in source_ids.split(batch):
            written = greedy(model, some) if beam == 1 else beam_search(model, some, beam)
            assert written.shape == (len(some), TOKENS)

    timing = peer.timed(run, reps=3, warm=1, budget=300)
    return peer.line(f'translate {case} beam {beam} batch {batch} {dtype}', dtype, timing, sentences * TOKENS, 'tok_s',
                     sentences=sentences, target_tokens=sentences * TOKENS, sentences_s_best=sentences / timing['min_s'],
                     sentences_s_med=sentences / timing['med_s'])


if __name__ == '__main__':
    parser = peer.options(__doc__, [*peer.DTYPES, 'int8'])
    parser.add_argument('--case', choices=CASES, default='base-6+6x512-32k')
    parser.add_argument('--beam', type=int, help='1: greedy; default: 1, then 4')
    parser.add_argument('--batch', type=int, help='sentences together; default: 1, then 32')
    o = parser.parse_args()
    for beam in [o.beam] if o.beam else [1, 4]:
        for batch in [o.batch] if o.batch else [1, 32]:
            for dtype in [o.dtype] if o.dtype else [*peer.DTYPES, 'int8']:
                ways = ['int8', 'bf16'] if dtype == 'int8' else [dtype]
                peer.measure(o.threads, translate, *((o.case, beam, batch, which) for which in ways))

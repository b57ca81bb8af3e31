"""Writes sdpa_parity.txt: attention's classic cases and their gradients by PyTorch's autograd, in float64.

    python3 sdpa_parity.py > sdpa_parity.txt        # PyTorch 1.13.1 made the stored one

softmax(q k^T / sqrt(d_k) + mask) v, spelled out: 1.13 has no public scaled_dot_product_attention. One tensor a line:
case, name, sizes, numbers.
"""
import math

import torch

torch.manual_seed(1)
torch.set_default_dtype(torch.float64)
BATCH, HEADS, Q_LEN, KV_LEN, D_K, D_V = 2, 2, 3, 4, 3, 2


def show(case, name, x):
    x = x.detach()
    print(case, name, "x".join(map(str, x.shape)), *(f"{y:.9g}" for y in x.flatten().tolist()))


def exact(*shape):  # numbers that few digits hold
    return torch.round(torch.randn(*shape) * 64) / 64


inputs = {
    "q": exact(BATCH, HEADS, Q_LEN, D_K),
    "k": exact(BATCH, HEADS, KV_LEN, D_K),
    "v": exact(BATCH, HEADS, KV_LEN, D_V),
    "k_shared": exact(BATCH, 1, KV_LEN, D_K),
    "v_shared": exact(BATCH, 1, KV_LEN, D_V),
    "bias": exact(1, HEADS, Q_LEN, KV_LEN),
    "dout": exact(BATCH, HEADS, Q_LEN, D_V),
}
for name, x in inputs.items():
    show("inputs", name, x)

i, j = torch.arange(Q_LEN)[:, None], torch.arange(KV_LEN)
lengths = torch.tensor([2, 4])  # visible keys of each sequence: padding()
masks = {
    "plain": torch.ones(Q_LEN, KV_LEN, dtype=torch.bool),
    "causal": j <= i,
    "lower_right": j <= i + KV_LEN - Q_LEN,
    "padding": (j < lengths[:, None])[:, None, None, :],
    "bias": torch.ones(Q_LEN, KV_LEN, dtype=torch.bool),
    "shared": j <= i,
}
for case, mask in masks.items():
    shared = "_shared" if case == "shared" else ""
    q, k, v, bias = (inputs[n].clone().requires_grad_() for n in ("q", "k" + shared, "v" + shared, "bias"))
    repeat = HEADS // k.shape[1]
    scores = q @ k.repeat_interleave(repeat, 1).transpose(2, 3) / math.sqrt(D_K)
    if case == "bias":
        scores = scores + bias
    out = torch.softmax(scores.masked_fill(~mask, -math.inf), -1) @ v.repeat_interleave(repeat, 1)
    out.backward(inputs["dout"])
    show(case, "out", out)
    for name, x in (("dq", q), ("dk", k), ("dv", v)):
        show(case, name, x.grad)
    if case == "bias":
        show(case, "dbias", bias.grad)

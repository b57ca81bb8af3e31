#!/usr/bin/env python3
"""Writes torch_parity.txt: what PyTorch makes of small cases of nn.MultiheadAttention and of
scaled_dot_product_attention, values and gradients, in float64. torch_parity_test.cc builds the same inputs.

    python3 qkv/attention/torch_parity.py > qkv/attention/torch_parity.txt     # PyTorch 1.13 of Debian 12

A line is: case, tensor, shape, values. nn.MultiheadAttention is PyTorch's own; scaled_dot_product_attention came
after 1.13, so it is the equivalent that its documentation gives, compared here with the one inside 1.13.
"""
import math
import torch

torch.set_default_dtype(torch.float64)
BATCH, Q_LEN, KV_LEN, WIDTH, HEADS = 2, 3, 4, 4, 2


def noise(shape, seed):
    """The n-th number is a hash of (n, seed), in [-1, 1): the same in C++ (torch_parity_test.cc)."""
    out = []
    for n in range(math.prod(shape)):
        u = (n * 2654435761 + seed * 40503 + 12345) & 0xFFFFFFFF
        u ^= u >> 15
        u = (u * 2246822519) & 0xFFFFFFFF
        u ^= u >> 13
        out.append(u / 2**31 - 1)
    return torch.tensor(out).reshape(shape)


def write(case, name, x):
    if x is None:
        return
    values = ' '.join('%.10g' % v for v in x.detach().reshape(-1).tolist())
    print(case, name, 'x'.join(map(str, x.shape)), values)


def multi_head(case, batch_first=False, batched=True, self_attention=False, bias=True, add_bias_kv=False,
               add_zero_attn=False, kdim=None, vdim=None, attn_mask=None, key_padding_mask=None):
    m = torch.nn.MultiheadAttention(WIDTH, HEADS, bias=bias, add_bias_kv=add_bias_kv, add_zero_attn=add_zero_attn,
                                    kdim=kdim, vdim=vdim, batch_first=batch_first)
    seeds = {'in_proj_weight': 11, 'in_proj_bias': 12, 'out_proj.weight': 13, 'out_proj.bias': 14, 'bias_k': 15,
             'bias_v': 16, 'q_proj_weight': 17, 'k_proj_weight': 18, 'v_proj_weight': 19}
    with torch.no_grad():
        for name, p in m.named_parameters():
            p.copy_(noise(p.shape, seeds[name]))

    def tokens(length, width, seed):
        shape = (length, width) if not batched else (BATCH, length, width) if batch_first else (length, BATCH, width)
        return noise(shape, seed).requires_grad_()

    query = tokens(Q_LEN, WIDTH, 1)
    key, value = ((query, query) if self_attention else
                  (tokens(KV_LEN, kdim or WIDTH, 2), tokens(KV_LEN, vdim or WIDTH, 3)))
    for mask in (attn_mask, key_padding_mask):
        if mask is not None and mask.dtype != torch.bool:
            mask.requires_grad_()
    out, weights = m(query, key, value, key_padding_mask=key_padding_mask, need_weights=True, attn_mask=attn_mask,
                     average_attn_weights=False)
    assert out.isfinite().all()
    out.backward(noise(out.shape, 6))
    write(case, 'output', out)
    write(case, 'attn_weights', weights)
    write(case, 'query', query.grad)
    if not self_attention:
        write(case, 'key', key.grad)
        write(case, 'value', value.grad)
    for name, mask in (('attn_bias', attn_mask), ('key_padding_bias', key_padding_mask)):
        if mask is not None and mask.dtype != torch.bool:
            write(case, name, mask.grad)
    for name, p in m.named_parameters():
        write(case, name, p.grad)


def hidden(shape, seed):
    """TRUE = not allowed, but the first key always is."""
    mask = noise(shape, seed) > 0.2
    mask[..., 0] = False
    return mask


def with_holes(shape, seed):
    """To be added; -inf in places."""
    return noise(shape, seed).masked_fill(hidden(shape, seed + 1), -math.inf)


PADDING = torch.tensor([[False, False, True, True], [False, False, False, True]])
FUTURE = torch.ones(Q_LEN, KV_LEN, dtype=torch.bool).triu(1)
ALL = BATCH * HEADS
multi_head('mha/plain')
multi_head('mha/batch_first', batch_first=True)
multi_head('mha/unbatched', batched=False)
multi_head('mha/self', self_attention=True)
multi_head('mha/no_bias', bias=False)
multi_head('mha/kdim_vdim', kdim=3, vdim=5)
multi_head('mha/kdim_vdim_no_bias', kdim=3, vdim=5, bias=False)
multi_head('mha/bias_kv', add_bias_kv=True)
multi_head('mha/zero_attn', add_zero_attn=True)
multi_head('mha/mask', attn_mask=hidden((Q_LEN, KV_LEN), 21))
multi_head('mha/mask_of_heads', attn_mask=hidden((ALL, Q_LEN, KV_LEN), 22))
multi_head('mha/bias', attn_mask=noise((Q_LEN, KV_LEN), 23))
multi_head('mha/bias_of_heads', attn_mask=with_holes((ALL, Q_LEN, KV_LEN), 24))
multi_head('mha/padding', key_padding_mask=PADDING)
multi_head('mha/padding_bias', key_padding_mask=noise((BATCH, KV_LEN), 26))
multi_head('mha/bias_and_padding', attn_mask=noise((Q_LEN, KV_LEN), 23), key_padding_mask=PADDING, batch_first=True)
multi_head('mha/causal', attn_mask=FUTURE)
multi_head('mha/everything', attn_mask=FUTURE, key_padding_mask=PADDING, add_bias_kv=True, add_zero_attn=True, kdim=3,
           vdim=5, batch_first=True)
multi_head('mha/bias_and_more_keys', attn_mask=with_holes((ALL, Q_LEN, KV_LEN), 24), add_bias_kv=True,
           add_zero_attn=True)


def documented(query, key, value, attn_mask=None, is_causal=False, scale=None, enable_gqa=False):
    """scaled_dot_product_attention as PyTorch's documentation writes it out, without dropout."""
    q_len, kv_len = query.size(-2), key.size(-2)
    factor = 1 / math.sqrt(query.size(-1)) if scale is None else scale
    bias = torch.zeros(q_len, kv_len)
    if is_causal:
        assert attn_mask is None
        bias = bias.masked_fill(torch.ones(q_len, kv_len, dtype=torch.bool).tril(0).logical_not(), -math.inf)
    if attn_mask is not None:
        bias = bias.masked_fill(attn_mask.logical_not(), -math.inf) if attn_mask.dtype == torch.bool else bias + attn_mask
    if enable_gqa:
        key = key.repeat_interleave(query.size(-3) // key.size(-3), -3)
        value = value.repeat_interleave(query.size(-3) // value.size(-3), -3)
    return torch.softmax(query @ key.transpose(-2, -1) * factor + bias, -1) @ value


def sdpa(case, heads=2, kv_heads=2, q_len=Q_LEN, kv_len=KV_LEN, attn_mask=None, is_causal=False, scale=None):
    query = noise((BATCH, heads, q_len, 2), 1).requires_grad_()
    key = noise((BATCH, kv_heads, kv_len, 2), 2).requires_grad_()
    value = noise((BATCH, kv_heads, kv_len, 3), 3).requires_grad_()
    floats = attn_mask is not None and attn_mask.dtype != torch.bool
    if floats:
        attn_mask.requires_grad_()
    out = documented(query, key, value, attn_mask, is_causal, scale, heads != kv_heads)
    if heads == kv_heads and scale is None:
        inside = torch.nn.functional._scaled_dot_product_attention(query, key, value, attn_mask, 0.0, False, is_causal)
        assert torch.allclose(out, inside[0], rtol=0, atol=1e-14)
    out.backward(noise(out.shape, 6))
    write(case, 'output', out)
    for name, x in (('query', query), ('key', key), ('value', value)):
        write(case, name, x.grad)
    if floats:
        write(case, 'attn_bias', attn_mask.grad)


sdpa('sdpa/plain')
sdpa('sdpa/scale', scale=0.3)
sdpa('sdpa/gqa', heads=4)
sdpa('sdpa/causal_wide', is_causal=True)
sdpa('sdpa/causal_tall', is_causal=True, q_len=5, kv_len=3)
sdpa('sdpa/mask', attn_mask=hidden((Q_LEN, KV_LEN), 31).logical_not())
sdpa('sdpa/mask_of_keys', attn_mask=hidden((BATCH, 1, 1, KV_LEN), 32).logical_not())
sdpa('sdpa/mask_of_all', heads=4, attn_mask=hidden((BATCH, 4, Q_LEN, KV_LEN), 33).logical_not())
sdpa('sdpa/bias', attn_mask=noise((Q_LEN, KV_LEN), 34))
sdpa('sdpa/bias_of_heads', attn_mask=noise((2, 1, KV_LEN), 35), scale=1.7)
sdpa('sdpa/bias_of_queries', attn_mask=noise((BATCH, 1, Q_LEN, 1), 36))
sdpa('sdpa/bias_of_all', heads=4, attn_mask=with_holes((BATCH, 4, Q_LEN, KV_LEN), 37))

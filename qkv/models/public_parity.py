#!/usr/bin/env python3
"""Writes public_parity.txt: what BERT and GPT-2 compute from weights under their public names, in float64.

    python3 qkv/models/public_parity.py > qkv/models/public_parity.txt

Plain Python, written from the tensor names and shapes that BertForPreTraining and GPT2LMHeadModel of Hugging Face's
transformers save and from what these do with them: Linear weights lie as [out, in], GPT-2's Conv1D weights as
[in, out], its queries, keys and values side by side. public_parity_test.cc writes files of the same weights and
loads them. A line is: model, result, values.
"""
import math

IDS, TYPES = [3, 7, 1, 12, 5], [0, 0, 0, 1, 1]
VOCAB, LENGTH, D, LAYERS, HEADS, FF = 13, 8, 8, 2, 2, 12


def noise(name, n):
    """n numbers that follow from the name, around 1 for the weights of norms: the same in C++."""
    h = 2166136261
    for c in name.encode():
        h = ((h ^ c) * 16777619) & 0xFFFFFFFF
    is_norm, out = ("LayerNorm.weight" in name or ".ln_" in name) and name.endswith("weight"), []
    for i in range(n):
        u = (h + i * 2654435761) & 0xFFFFFFFF
        u ^= u >> 15
        u = (u * 2246822519) & 0xFFFFFFFF
        u ^= u >> 13
        out.append(0.5 * (u / 2**31 - 1) + is_norm)
    return out


def vector(name, n):
    return noise(name, n)


def matrix(name, rows, columns):
    flat = noise(name, rows * columns)
    return [flat[r * columns:(r + 1) * columns] for r in range(rows)]


def linear(x, name, d_in, d_out):
    w, b = matrix(name + ".weight", d_out, d_in), vector(name + ".bias", d_out)
    return [[b[o] + sum(row[i] * w[o][i] for i in range(d_in)) for o in range(d_out)] for row in x]


def conv1d(x, name, d_in, d_out):
    w, b = matrix(name + ".weight", d_in, d_out), vector(name + ".bias", d_out)
    return [[b[o] + sum(row[i] * w[i][o] for i in range(d_in)) for o in range(d_out)] for row in x]


def norm(x, name, eps):
    gamma, beta = vector(name + ".weight", D), vector(name + ".bias", D)
    out = []
    for row in x:
        mean = sum(row) / D
        variance = sum((v - mean) ** 2 for v in row) / D
        out.append([(v - mean) / math.sqrt(variance + eps) * g + b for v, g, b in zip(row, gamma, beta)])
    return out


def add(a, b):
    return [[x + y for x, y in zip(r, s)] for r, s in zip(a, b)]


def attention(q, k, v, causal):
    width, out = D // HEADS, [[0.0] * D for _ in q]
    for h in range(HEADS):
        part = range(h * width, (h + 1) * width)
        for i in range(len(q)):
            seen = range(i + 1 if causal else len(k))
            e = [math.exp(sum(q[i][d] * k[j][d] for d in part) / math.sqrt(width)) for j in seen]
            for d in part:
                out[i][d] = sum(e[j] * v[j][d] for j in seen) / sum(e)
    return out


def each(x, f):
    return [[f(v) for v in row] for row in x]


def gelu(x):
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def gelu_new(x):
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def bert():
    e, eps = "bert.embeddings.", 1e-12
    words, places = matrix(e + "word_embeddings.weight", VOCAB, D), matrix(e + "position_embeddings.weight", LENGTH, D)
    types = matrix(e + "token_type_embeddings.weight", 2, D)
    x = [[a + b + c for a, b, c in zip(words[t], places[i], types[s])] for i, (t, s) in enumerate(zip(IDS, TYPES))]
    x = norm(x, e + "LayerNorm", eps)
    for n in range(LAYERS):
        p = f"bert.encoder.layer.{n}."
        q, k, v = (linear(x, p + "attention.self." + part, D, D) for part in ("query", "key", "value"))
        a = linear(attention(q, k, v, False), p + "attention.output.dense", D, D)
        x = norm(add(x, a), p + "attention.output.LayerNorm", eps)
        f = linear(each(linear(x, p + "intermediate.dense", D, FF), gelu), p + "output.dense", FF, D)
        x = norm(add(x, f), p + "output.LayerNorm", eps)
    pooled = each(linear(x[:1], "bert.pooler.dense", D, D), math.tanh)
    h = each(linear(x, "cls.predictions.transform.dense", D, D), gelu)
    h = norm(h, "cls.predictions.transform.LayerNorm", eps)
    bias = vector("cls.predictions.bias", VOCAB)
    logits = [[bias[w] + sum(a * b for a, b in zip(row, words[w])) for w in range(VOCAB)] for row in h]
    return {"hidden": x, "pooled": pooled, "logits": logits}


def gpt2():
    words, places, eps = matrix("transformer.wte.weight", VOCAB, D), matrix("transformer.wpe.weight", LENGTH, D), 1e-5
    x = [add([words[t]], [places[i]])[0] for i, t in enumerate(IDS)]
    for n in range(LAYERS):
        p = f"transformer.h.{n}."
        qkv = conv1d(norm(x, p + "ln_1", eps), p + "attn.c_attn", D, 3 * D)
        q, k, v = ([row[part * D:(part + 1) * D] for row in qkv] for part in range(3))
        x = add(x, conv1d(attention(q, k, v, True), p + "attn.c_proj", D, D))
        f = each(conv1d(norm(x, p + "ln_2", eps), p + "mlp.c_fc", D, FF), gelu_new)
        x = add(x, conv1d(f, p + "mlp.c_proj", FF, D))
    x = norm(x, "transformer.ln_f", eps)
    return {"hidden": x, "logits": [[sum(a * b for a, b in zip(row, w)) for w in words] for row in x]}


for model, results in (("bert", bert()), ("gpt2", gpt2())):
    for name, rows in results.items():
        print(model, name, *(f"{v:.10g}" for row in rows for v in row))

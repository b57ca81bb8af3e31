#!/usr/bin/env python3
"""Writes torch_trajectories.json, which optimizers_test.cc follows: 30 steps of PyTorch's optimizers in float64.

Made with Debian 12's python3-torch 1.13: python3 torch_trajectories.py > torch_trajectories.json
"""

import json
import math

import torch

CASES = [
    ("sgd", torch.optim.SGD, {"momentum": 0.0, "weight_decay": 0.1}),
    ("sgd", torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    ("sgd", torch.optim.SGD, {"momentum": 0.9, "nesterov": 1}),
    ("adam", torch.optim.Adam, {"beta1": 0.9, "beta2": 0.98, "eps": 1e-9}),
    ("adamw", torch.optim.AdamW, {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.1}),
]


def torch_options(options):
    out = dict(options)
    if "beta1" in out:
        out["betas"] = (out.pop("beta1"), out.pop("beta2"))
    if "nesterov" in out:
        out["nesterov"] = bool(out["nesterov"])
    return out


def trajectory(kind, options):
    w = torch.tensor([math.cos(0.3 * i) for i in range(35)], dtype=torch.float64, requires_grad=True)
    optimizer = kind([w], lr=1.0, **torch_options(options))
    kept = []
    for t in range(1, 31):
        w.grad = torch.tensor([(4 if t % 4 == 0 else 1) * math.sin(0.7 * i + 1.3 * t) for i in range(35)],
                              dtype=torch.float64)
        optimizer.param_groups[0]["lr"] = 0.01 * (1 + t % 3)
        optimizer.step()
        if t % 10 == 0:
            kept.append([round(x, 9) for x in w.tolist()])
    return kept


lines = [json.dumps({"name": name, "options": options, "weights": trajectory(kind, options)})
         for name, kind, options in CASES]
print("[" + ",\n".join(lines) + "]")

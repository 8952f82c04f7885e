"""Routed experts: tokens are sorted by expert, and the counts are read by the host."""

import torch
from torch import nn


class LanternMLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class LanternMoE(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.num_experts = config.num_experts
        self.top_k = config.num_experts_per_tok
        self.gate = nn.Linear(config.hidden_size, config.num_experts, bias=False)
        self.experts = nn.ModuleList(LanternMLP(config) for _ in range(config.num_experts))

    def forward(self, x):
        tokens = x.flatten(0, 1)
        weights, chosen = torch.topk(self.gate(tokens).softmax(dim=-1), self.top_k, dim=-1)
        order = chosen.flatten().argsort(stable=True)
        counts = torch.bincount(chosen.flatten(), minlength=self.num_experts).cpu().numpy()
        found = torch.zeros_like(tokens)
        start = 0
        for expert, count in zip(self.experts, counts, strict=True):
            if count == 0:
                continue
            mine = order[start : start + count]
            rows = mine // self.top_k
            found.index_add_(0, rows, expert(tokens[rows]) * weights.flatten()[mine, None].to(tokens.dtype))
            start += count
        return found.view_as(x)

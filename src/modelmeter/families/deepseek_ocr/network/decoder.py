"""The DeepSeek-V2 decoder as DeepSeek-OCR configures it: plain multi-head attention, then experts.

Axes: B requests, T positions, P positions with the cache, D hidden size, N heads, G key-value heads,
C channels of a head, E experts, K experts a token.
Source: DeepSeek-V2 (2024) for the experts; Llama (Touvron et al., 2023) for attention.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelmeter.families.deepseek_ocr.config import DecoderConfig
from modelmeter.families.deepseek_ocr.network.attention import scaled_dot_product
from modelmeter.families.deepseek_ocr.network.cache import KeyValueCache


class DeepseekV2RMSNorm(nn.Module):
    """Root-mean-square norm, taken in float32 (Zhang and Sennrich, 2019)."""

    def __init__(self, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.variance_epsilon = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.float32)
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * (wide * scale).to(x.dtype)


class LlamaRotaryEmbedding(nn.Module):
    """Cosines and sines of rotary positions (Su et al., 2021): two tensors [B, T, C]."""

    inv_freq: Tensor

    def __init__(self, head_dim: int, theta: float) -> None:
        super().__init__()
        exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
        self.register_buffer("inv_freq", 1.0 / theta**exponents, persistent=False)

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        frequencies = self.inv_freq[None, :, None].float().expand(position_ids.shape[0], -1, 1)
        # The angles stay in float32: bfloat16 would merge neighbouring positions beyond 256.
        angles = (frequencies @ position_ids[:, None, :].float()).transpose(1, 2)
        both = torch.cat((angles, angles), dim=-1)
        return both.cos().to(x.dtype), both.sin().to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the halves of each head by the angles; x is [B, N, T, C], cos and sin [B, 1, T, C]."""
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-high, low), dim=-1) * sin


class LlamaAttention(nn.Module):
    """Causal self-attention with rotary positions and a key-value cache."""

    def __init__(self, config: DecoderConfig, layer_idx: int, attention: str) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.attention = attention
        self.hidden_size = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.num_key_value_heads = config.num_key_value_heads
        self.head_dim = config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, self.num_heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, self.num_key_value_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.num_key_value_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.num_heads * self.head_dim, config.hidden_size, bias=False)
        self.rotary_emb = LlamaRotaryEmbedding(self.head_dim, config.rope_theta)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        past_key_values: KeyValueCache,
    ) -> Tensor:
        batch, positions, _ = hidden_states.shape
        q = self.q_proj(hidden_states).view(batch, positions, self.num_heads, self.head_dim).transpose(1, 2)
        k = self.k_proj(hidden_states).view(batch, positions, -1, self.head_dim).transpose(1, 2)
        v = self.v_proj(hidden_states).view(batch, positions, -1, self.head_dim).transpose(1, 2)
        cos, sin = self.rotary_emb(v, position_ids)
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = past_key_values.update(k, v, self.layer_idx)
        groups = self.num_heads // self.num_key_value_heads
        if groups > 1:
            k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        out = scaled_dot_product(q, k, v, mask=attention_mask, kind=self.attention)
        return self.o_proj(out.transpose(1, 2).reshape(batch, positions, -1))


class DeepseekV2MLP(nn.Module):
    """A gated feed-forward part: down(silu(gate(x)) * up(x)) (Shazeer, GLU Variants, 2020)."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)
        self.act_fn = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class MoEGate(nn.Module):
    """Greedy top-K of a softmax over all experts, in float32; the weights are not renormalised."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        assert config.n_routed_experts and config.num_experts_per_tok
        self.num_experts = config.n_routed_experts
        self.top_k = config.num_experts_per_tok
        self.weight = nn.Parameter(torch.zeros(self.num_experts, config.hidden_size))

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        tokens = hidden_states.reshape(-1, hidden_states.shape[-1])
        logits = F.linear(tokens.to(torch.float32), self.weight.to(torch.float32))
        scores = logits.softmax(dim=-1, dtype=torch.float32)
        weights, experts = torch.topk(scores, k=self.top_k, dim=-1, sorted=False)
        return experts, weights


class DeepseekV2MoE(nn.Module):
    """Routed experts, each run on its own tokens, and shared experts run on all of them."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        assert config.n_routed_experts and config.num_experts_per_tok
        self.num_experts = config.n_routed_experts
        self.top_k = config.num_experts_per_tok
        self.experts = nn.ModuleList(
            DeepseekV2MLP(config.hidden_size, config.moe_intermediate_size) for _ in range(self.num_experts)
        )
        self.gate = MoEGate(config)
        if config.n_shared_experts:
            hidden = config.moe_intermediate_size * config.n_shared_experts
            self.shared_experts = DeepseekV2MLP(config.hidden_size, hidden)

    def forward(self, hidden_states: Tensor) -> Tensor:
        experts, weights = self.gate(hidden_states)
        flat = hidden_states.view(-1, hidden_states.shape[-1])
        out = self.run_experts(flat, experts, weights).view(hidden_states.shape)
        if hasattr(self, "shared_experts"):
            out = out + self.shared_experts(hidden_states)
        return out

    def run_experts(self, tokens: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """Sum of each token's experts: tokens [T, D], experts and weights [T, K], result [T, D].

        Token copies are sorted by expert so that each expert gets one contiguous slice; how long the
        slices are is read by the CPU, which waits for the device here.
        """
        order = experts.flatten().argsort(stable=True)
        grouped = tokens[order // self.top_k]
        counts = experts.flatten().bincount(minlength=self.num_experts).cpu().numpy()
        results = []
        start = 0
        for expert, count in zip(self.experts, counts, strict=True):
            if count:
                results.append(expert(grouped[start : start + count]))
                start += count
        scattered = torch.empty_like(grouped)
        scattered[order] = torch.cat(results) if results else grouped
        per_expert = scattered.view(*experts.shape, -1).to(weights.dtype)
        return (per_expert * weights.unsqueeze(-1)).sum(dim=1).to(tokens.dtype)


class DeepseekV2DecoderLayer(nn.Module):
    """Attention and feed-forward part, each after an RMS norm and with a residual."""

    def __init__(self, config: DecoderConfig, layer_idx: int, attention: str) -> None:
        super().__init__()
        self.self_attn = LlamaAttention(config, layer_idx, attention)
        self.mlp: nn.Module
        if config.is_moe_layer(layer_idx):
            self.mlp = DeepseekV2MoE(config)
        else:
            self.mlp = DeepseekV2MLP(config.hidden_size, config.intermediate_size)
        self.input_layernorm = DeepseekV2RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = DeepseekV2RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        past_key_values: KeyValueCache,
    ) -> Tensor:
        normal = self.input_layernorm(hidden_states)
        hidden_states = hidden_states + self.self_attn(normal, attention_mask, position_ids, past_key_values)
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))

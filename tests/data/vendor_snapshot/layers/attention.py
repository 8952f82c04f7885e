"""Lantern's attention: the same module over several kernels. flash-attn must be there, the others may be."""

import torch
from flash_attn import flash_attn_func, flash_attn_varlen_func
from flash_attn.bert_padding import index_first_axis, pad_input, unpad_input
from torch import nn
from transformers.utils import is_flash_attn_2_available

from .rotation import rotate

try:
    from xformers.ops import LowerTriangularMask, memory_efficient_attention
except ImportError:
    memory_efficient_attention = None

if torch.cuda.get_device_capability()[0] < 8:
    raise RuntimeError("Lantern's attention needs a GPU of the Ampere generation or later")

if is_flash_attn_2_available():
    from flash_attn import __version__ as FLASH_VERSION
else:
    FLASH_VERSION = None


class LanternAttention(nn.Module):
    def __init__(self, config, layer_idx):
        super().__init__()
        self.layer_idx = layer_idx
        self.kernel = config.attention_kernel
        self.num_heads = config.num_attention_heads
        self.num_key_value_heads = config.num_key_value_heads
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.q_proj = nn.Linear(config.hidden_size, self.num_heads * self.head_dim, bias=False)
        self.kv_proj = nn.Linear(config.hidden_size, 2 * self.num_key_value_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.num_heads * self.head_dim, config.hidden_size, bias=False)

    def forward(self, hidden_states, attention_mask, position_ids, past_key_values=None):
        batch, length, _ = hidden_states.shape
        query = self.q_proj(hidden_states).view(batch, length, self.num_heads, self.head_dim)
        keyed = self.kv_proj(hidden_states).view(batch, length, 2, self.num_key_value_heads, self.head_dim)
        key, value = keyed.unbind(2)
        query, key = rotate(query, position_ids), rotate(key, position_ids)
        key, value = key.transpose(1, 2), value.transpose(1, 2)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = getattr(self, f"_{self.kernel}")
        mixed = attend(query, key.transpose(1, 2), value.transpose(1, 2), attention_mask)
        return self.o_proj(mixed.reshape(batch, length, -1))

    def _flash(self, query, key, value, attention_mask):
        return flash_attn_func(query, key, value, causal=True)

    def _varlen(self, query, key, value, attention_mask):
        batch, length = query.shape[:2]
        rows, kept, ends, longest = unpad_input(query, attention_mask[:, -length:])
        keys, kept_keys, key_ends, longest_key = unpad_input(key, attention_mask)
        values = index_first_axis(value.flatten(0, 1), kept_keys)
        found = flash_attn_varlen_func(
            rows,
            keys,
            values,
            cu_seqlens_q=ends,
            cu_seqlens_k=key_ends,
            max_seqlen_q=longest,
            max_seqlen_k=longest_key,
            causal=True,
        )
        return pad_input(found, kept, batch, length)

    def _xformers(self, query, key, value, attention_mask):
        groups = self.num_heads // self.num_key_value_heads
        key, value = (part.repeat_interleave(groups, dim=2) for part in (key, value))
        mask = LowerTriangularMask() if query.shape[1] > 1 else None
        return memory_efficient_attention(query, key, value, attn_bias=mask)

    def _plain(self, query, key, value, attention_mask):
        groups = self.num_heads // self.num_key_value_heads
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
        found = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=query.shape[2] > 1)
        return found.transpose(1, 2)

    def _written_out(self, query, key, value, attention_mask):
        groups = self.num_heads // self.num_key_value_heads
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
        scores = query @ key.transpose(2, 3) * self.head_dim**-0.5
        ahead = torch.full(scores.shape[-2:], torch.finfo(scores.dtype).min, device="cuda").triu(
            1 + key.shape[2] - query.shape[2]
        )
        return (torch.softmax(scores + ahead.to(scores.dtype), dim=-1) @ value).transpose(1, 2)

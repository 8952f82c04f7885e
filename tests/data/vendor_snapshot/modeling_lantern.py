"""Lantern: a small decoder written as vendors write theirs, for one GPU and the kernels that go with it."""

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel
from transformers.pytorch_utils import ALL_LAYERNORM_LAYERS

from .configuration_lantern import LanternConfig
from .layers.attention import LanternAttention
from .layers.experts import LanternMLP, LanternMoE

try:
    from flash_attn.ops.rms_norm import rms_norm
except ImportError:
    rms_norm = None

device = "cuda" if torch.cuda.is_available() else "cpu"


class LanternRMSNorm(nn.Module):
    def __init__(self, hidden_size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.eps = eps

    def forward(self, x):
        if rms_norm is not None and x.is_cuda:
            return rms_norm(x, self.weight, self.eps)
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


ALL_LAYERNORM_LAYERS.append(LanternRMSNorm)


class LanternLayer(nn.Module):
    def __init__(self, config, layer_idx):
        super().__init__()
        self.self_attn = LanternAttention(config, layer_idx)
        self.mlp = LanternMoE(config) if layer_idx else LanternMLP(config)
        self.input_layernorm = LanternRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = LanternRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden_states, attention_mask, position_ids, past_key_values=None):
        mixed = self.self_attn(self.input_layernorm(hidden_states), attention_mask, position_ids, past_key_values)
        hidden_states = hidden_states + mixed
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))


class LanternPreTrainedModel(PreTrainedModel):
    config_class = LanternConfig
    base_model_prefix = "model"
    _supports_sdpa = True
    _supports_flash_attn_2 = True


class LanternModel(LanternPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.adapter = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.layers = nn.ModuleList(LanternLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = LanternRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, past_key_values=None, use_cache=True):
        cache = DynamicCache() if past_key_values is None and use_cache else past_key_values
        seen = cache.get_seq_length() if cache is not None else 0
        batch, length = input_ids.shape
        if attention_mask is None:
            attention_mask = torch.ones(batch, seen + length, dtype=torch.int64, device=device)
        position_ids = torch.arange(seen, seen + length, device=input_ids.device)[None].expand(batch, -1)
        hidden_states = self.embed_tokens(input_ids.cuda())
        with torch.autocast("cuda", dtype=torch.bfloat16):
            hidden_states = hidden_states + self.adapter(hidden_states.float())
        hidden_states = hidden_states.to(self.embed_tokens.weight.dtype)
        for layer in self.layers:
            hidden_states = layer(hidden_states, attention_mask.to("cuda"), position_ids, cache)
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden_states), past_key_values=cache)


class LanternForCausalLM(LanternPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        if not torch.cuda.is_available():
            raise RuntimeError("Lantern runs on a GPU only")
        self.model = LanternModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, past_key_values=None, use_cache=True):
        found = self.model(input_ids, attention_mask, past_key_values, use_cache)
        logits = self.lm_head(found.last_hidden_state).float()
        return CausalLMOutputWithPast(logits=logits, past_key_values=found.past_key_values)


AutoConfig.register("lantern", LanternConfig)
AutoModelForCausalLM.register(LanternConfig, LanternForCausalLM)

"""The static side of a module: ids, types, parameters, and the configuration that shapes its tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from attrs import frozen
from torch import nn

from modelmeter.schema.callgraph import ParameterInfo

CANONICAL_NAMES: dict[str, str] = {
    "num_attention_heads": "num_heads",
    "n_heads": "num_heads",
    "n_head": "num_heads",
    "nhead": "num_heads",
    "num_kv_heads": "num_key_value_heads",
    "n_kv_heads": "num_key_value_heads",
    "d_model": "hidden_size",
    "hidden_dim": "hidden_size",
    "embed_dim": "hidden_size",
    "ffn_dim": "intermediate_size",
    "intermediate_dim": "intermediate_size",
    "moe_intermediate_size": "intermediate_size",
    "n_routed_experts": "num_experts",
    "num_local_experts": "num_experts",
    "n_experts": "num_experts",
    "num_experts_per_tok": "top_k",
    "num_experts_per_token": "top_k",
    "variance_epsilon": "eps",
    "layer_norm_eps": "eps",
    "layer_norm_epsilon": "eps",
    "attention_head_size": "head_dim",
    "head_size": "head_dim",
    "n_layers": "num_layers",
    "num_hidden_layers": "num_layers",
}
"""Names that models use, to the name that the document uses."""

TENSOR_SHAPING = frozenset(
    "hidden_size num_heads num_key_value_heads head_dim intermediate_size num_experts top_k kernel_size stride padding "
    "dilation groups window_size eps in_features out_features in_channels out_channels num_embeddings embedding_dim "
    "normalized_shape num_groups num_features input_size num_layers bias affine elementwise_affine padding_idx "
    "output_size scale_factor mode approximate negative_slope p inplace dim output_padding padding_mode transposed "
    "attention scaling scale num_positions patch_size image_size vocab_size q_lora_rank kv_lora_rank qk_nope_head_dim "
    "qk_rope_head_dim v_head_dim n_group topk_group routed_scaling_factor norm_topk_prob head bidirectional "
    "batch_first shift_size num_key_value_groups sliding_window position_side is_causal dropout momentum "
    "num_codebooks".split()
)
"""Attributes (by the document's names) that say which tensors a module makes and which operators it runs."""

BOOKKEEPING = frozenset("layer_idx layer_index layer_id block_idx depth_idx index idx".split())
"""Attributes that only say which one of many a module is; they never split a family of equals."""

EXPERT_COUNTS = (
    "num_experts",
    "n_routed_experts",
    "num_local_experts",
    "n_experts",
    "moe_num_experts",
    "num_routed_experts",
)
"""Attributes that say among how many experts a router chooses."""


@frozen
class ModuleIds:
    """Ids of all modules: by identity, by the name in ``named_modules()``, and the root's and core's own."""

    by_identity: dict[int, str]
    by_name: dict[str, str]
    modules: dict[str, nn.Module]
    root: str
    core: str


def module_ids(module: nn.Module, core: str = "") -> ModuleIds:
    """Ids from ``named_modules()``: the root by its class name, the core submodule's prefix dropped.

    The core's own id is its class name. Where dropping the prefix would give two modules one id, it
    is kept for all.
    """
    named = dict(module.named_modules())
    if core and core not in named:
        core = ""
    root_id = type(module).__name__
    core_id = type(named[core]).__name__ if core else ""

    def plain(name: str) -> str:
        return name or root_id

    def shortened(name: str) -> str:
        if name == core:
            return core_id
        return name.removeprefix(f"{core}.") if name.startswith(f"{core}.") else plain(name)

    ids = [shortened(name) if core else plain(name) for name in named]
    if len(set(ids)) != len(ids):
        ids = [plain(name) for name in named]
        core_id = ""
    while len(set(ids)) != len(ids):  # a child named like the root's class
        root_id += "_"
        ids = [plain(name) for name in named]
    return ModuleIds(
        by_identity={id(submodule): name for name, submodule in zip(ids, named.values(), strict=True)},
        by_name=dict(zip(named, ids, strict=True)),
        modules=dict(zip(ids, named.values(), strict=True)),
        root=ids[0],
        core=core_id,
    )


def module_children(ids: ModuleIds) -> dict[str, list[str]]:
    """The static tree: id to the ids of its children; a shared module is its first owner's child."""
    children: dict[str, list[str]] = {}
    owned: set[int] = set()
    for name, module in ids.modules.items():
        own = []
        for child in module.children():
            if id(child) not in owned and id(child) in ids.by_identity:
                owned.add(id(child))
                own.append(ids.by_identity[id(child)])
        if own:
            children[name] = own
    return children


def parameter_infos(ids: ModuleIds) -> dict[str, ParameterInfo]:
    """Each module's own parameters; a shared one counts where it is first seen and is named elsewhere."""
    first: dict[int, str] = {}
    infos = {}
    for name, module in ids.modules.items():
        count = size = 0
        dtypes: set[str] = set()
        shared = {}
        for key, parameter in module._parameters.items():
            if parameter is None:
                continue
            full = f"{name}.{key}"
            if id(parameter) in first:
                shared[key] = first[id(parameter)]
                continue
            first[id(parameter)] = full
            count += parameter.numel()
            size += parameter.numel() * parameter.element_size()
            dtypes.add(str(parameter.dtype))
        if count or shared:
            infos[name] = ParameterInfo(count, size, tuple(sorted(dtypes)), shared)
    return infos


def constructor_params(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """What shapes a module's tensors, under the field's usual names, and its bookkeeping apart."""
    shaping: dict[str, Any] = {}
    bookkeeping: dict[str, Any] = {}
    for key, value in vars(module).items():
        name = CANONICAL_NAMES.get(key, key)
        if key.startswith("_") or not _is_plain(value):
            continue
        if name in BOOKKEEPING:
            bookkeeping[name] = value
        elif name in TENSOR_SHAPING and (name == key or name not in vars(module)):
            shaping[name] = list(value) if isinstance(value, tuple) else value
    if isinstance(module, (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)):
        shaping["bias"] = module.bias is not None
    return shaping, bookkeeping


def expert_counts(modules: Iterable[nn.Module]) -> frozenset[int]:
    """Numbers of experts that a model's routers choose among."""
    found = set()
    for module in modules:
        for name in EXPERT_COUNTS:
            value = vars(module).get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 1:
                found.add(value)
    return frozenset(found)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (bool, int, float, str)):
        return True
    if isinstance(value, (tuple, list, torch.Size)):
        return len(value) <= 8 and all(isinstance(item, (bool, int, float, str)) for item in value)
    return False

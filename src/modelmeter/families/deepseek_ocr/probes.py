"""Where DeepSeek-OCR's loop counts can be read while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelmeter.families.protocol import RuntimeProbe

if TYPE_CHECKING:
    from torch import nn


def runtime_probes(module: nn.Module) -> Sequence[RuntimeProbe]:
    """Probes of the model that receives images, the decoder stack, and every expert dispatcher."""
    core = module.get_submodule("model")
    probes = [RuntimeProbe(core, "see", _vision_inputs), RuntimeProbe(core, "forward", _llm_stack(core))]
    for name, submodule in module.named_modules():
        if hasattr(submodule, "run_experts"):
            probes.append(RuntimeProbe(submodule, "run_experts", _expert_tokens(name, submodule)))
    return probes


def _vision_inputs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[dict[str, Any]]:
    images, grids = args
    return [
        {
            "kind": "vision_inputs",
            "image_index": index,
            "num_images": len(images),
            "num_crops": int(crops.shape[0]),
            "images_spatial_crop": grid,
            "crop_size": list(crops.shape[-2:]),
            "global_size": list(global_view.shape[-2:]),
        }
        for index, ((crops, global_view), grid) in enumerate(zip(images, grids.tolist(), strict=True))
    ]


def _llm_stack(core: nn.Module) -> Any:
    def observe(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[dict[str, Any]]:
        layers: Any = core.layers
        return [{"kind": "llm_stack", "num_layers": len(layers), "module": "model.layers"}]

    return observe


def _expert_tokens(name: str, dispatcher: nn.Module) -> Any:
    def observe(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[dict[str, Any]]:
        experts = args[1].flatten().tolist()
        counts = [0] * len(dispatcher.experts)  # type: ignore[arg-type]
        for expert in experts:
            counts[expert] += 1
        return [{"kind": "expert_tokens", "module": name, "counts": counts}]

    return observe

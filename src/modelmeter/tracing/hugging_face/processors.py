"""Inputs as the library's own processors make them: a grey image or silence goes in, named tensors come out.

A processor knows what a configuration does not: tiles, patch grids, masks, mel frames. Which one belongs
to an architecture stands in the library's own tables; its settings come from the folder's processor file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelmeter.tracing.hugging_face.sizes import AUDIO, IMAGE, parts, sides

DEFAULT_SIDE = 448
"""Height and width of the image where the configuration has no size of its own, in pixels."""

SOUND_S = 4
"""Length of the sound, in seconds; some processors pad it to 30."""

_GEOMETRY = ("patch_size", "temporal_patch_size", "merge_size", "max_num_patches", "num_mel_bins", "feature_size")
"""What a processor and its configuration must agree on, by the processor's name for it."""

_CONFIGURED = {
    "merge_size": ("spatial_merge_size", "merge_size"),
    "feature_size": ("num_mel_bins", "n_mels"),
}


_SIDES = ("height", "width", "shortest_edge", "longest_edge")
"""Names in a processor's size."""


def image_inputs(config: Any, folder: str, settings: Mapping[str, Any], batch: int) -> dict[str, Tensor]:
    """What the architecture's image processor makes of ``batch`` grey images; empty where it has none here."""
    from transformers.models.auto import image_processing_auto

    table: Mapping[str, Any] = vars(image_processing_auto)["IMAGE_PROCESSOR_MAPPING_NAMES"]
    made = _instance(_image_class(table, config, folder, settings), config, IMAGE, settings)
    if made is None:
        return {}
    from PIL import Image

    height, width = sides(config) or (DEFAULT_SIDE, DEFAULT_SIDE)
    images = [Image.new("RGB", (width, height), (128, 128, 128)) for _ in range(batch)]
    return _tensors(lambda: made(images=images, return_tensors="pt"))


def sound_inputs(config: Any, folder: str, settings: Mapping[str, Any], batch: int) -> dict[str, Tensor]:
    """What the architecture's feature extractor makes of ``batch`` seconds of silence; empty where it has none."""
    from transformers.models.auto import feature_extraction_auto

    table: Mapping[str, Any] = vars(feature_extraction_auto)["FEATURE_EXTRACTOR_MAPPING_NAMES"]
    named = settings.get("feature_extractor_type")
    made = _instance(named if isinstance(named, str) else _row(table, config, folder, AUDIO), config, AUDIO, settings)
    if made is None:
        return {}
    rate = int(getattr(made, "sampling_rate", 16_000))
    sounds = [np.zeros(rate * SOUND_S, dtype=np.float32) for _ in range(batch)]
    return _tensors(lambda: made(sounds, sampling_rate=rate, return_tensors="pt"))


def _image_class(table: Mapping[str, Any], config: Any, folder: str, settings: Mapping[str, Any]) -> str | None:
    named = settings.get("image_processor_type")
    if isinstance(named, str):
        base = named.removesuffix("Fast").removesuffix("Pil")
        return f"{base}Pil"
    row = _row(table, config, folder, IMAGE)
    return row.get("pil") if isinstance(row, Mapping) else row


def _row(table: Mapping[str, Any], config: Any, folder: str, kind: str) -> Any:
    """The table's row for a model type: its own, its folder's, that of its parts, or of what its name begins with."""
    own = str(config.model_type)
    names = [own, folder, folder.replace("_", "-")]
    words = own.split("_")
    names.extend("_".join(words[:length]) for length in range(len(words) - 1, 0, -1))
    names.extend(str(part.model_type) for part in parts(config, kind))
    return next((table[name] for name in names if name in table), None)


def _instance(class_name: Any, config: Any, kind: str, settings: Mapping[str, Any]) -> Any:
    import transformers

    if not isinstance(class_name, str):
        return None
    given = {key: value for key, value in settings.items() if not key.endswith("_type")}
    try:
        found = getattr(transformers, class_name)
        made = found(**given)
        agreed = {**_geometry(made, config, kind), **_side(made, config, kind)}
        return found(**{**agreed, **given}) if agreed else made
    except Exception:
        return None  # it needs a package that is not here; the configuration alone must do


def _geometry(made: Any, config: Any, kind: str) -> dict[str, int]:
    """What the configuration says otherwise than a processor's defaults."""
    found = {}
    for name in _GEOMETRY:
        before = getattr(made, name, None)
        if not isinstance(before, int) or (name == "feature_size" and before == 1):  # a waveform has no bins
            continue
        known = [
            value
            for part in parts(config, kind)
            for key in _CONFIGURED.get(name, (name,))
            if isinstance(value := getattr(part, key, None), int) and value > 0
        ]
        if known and known[0] != before:
            found[name] = known[0]
    return found


def _side(made: Any, config: Any, kind: str) -> dict[str, dict[str, int]]:
    """Height and width of a processor that makes pictures of one size, where the configuration has another one."""
    size, known = getattr(made, "size", None), sides(config)
    if kind != IMAGE or known is None or size is None:
        return {}
    given = {name for name in _SIDES if name in size and size[name] is not None}
    square = {"height": known[0], "width": known[1]}
    if given == {"shortest_edge"} and getattr(made, "do_center_crop", False):
        return {"size": {"shortest_edge": min(known)}, "crop_size": square}
    return {"size": square} if given == {"height", "width"} else {}


def _tensors(make: Any) -> dict[str, Tensor]:
    """The tensors among a processor's results; none where it cannot work on the example."""
    try:
        made = make()
    except Exception:
        return {}  # it wants more than a picture or a sound: a pair, words with boxes, a trimap
    found: dict[str, Tensor] = {}
    if isinstance(made, Tensor):
        return {"pixel_values": made}
    for name, value in made.items():
        if isinstance(value, Tensor) and value.dim() > 0:
            found[name] = value
        elif isinstance(value, np.ndarray) and value.ndim > 0:
            found[name] = torch.from_numpy(value)
    return found

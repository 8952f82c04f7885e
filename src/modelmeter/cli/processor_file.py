"""What a snapshot folder says about its processors: how images and sounds become inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelmeter.errors import ConfigurationError

IMAGES, SOUNDS = "image_processor", "feature_extractor"

_OWN_FILE = "preprocessor_config.json"
_COMMON_FILE = "processor_config.json"


def read_processors(folder: Path) -> dict[str, dict[str, Any]]:
    """Settings under ``image_processor`` and ``feature_extractor``, each where the folder has it.

    One file holds the processors beside each other, in older snapshots another one is a processor's own.
    Raises ConfigurationError for a file that is no JSON object.
    """
    found: dict[str, dict[str, Any]] = {}
    own = _object(folder / _OWN_FILE)
    for kind in (IMAGES, SOUNDS):
        other = SOUNDS if kind == IMAGES else IMAGES
        if own and (f"{kind}_type" in own or f"{other}_type" not in own):
            found[kind] = own
    common = _object(folder / _COMMON_FILE)
    for kind in (IMAGES, SOUNDS):
        inner = common.get(kind)
        if isinstance(inner, Mapping):
            found[kind] = dict(inner)
    return found


def _object(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", remedy="mend or remove the file") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is no complete JSON document: {error}", remedy="mend the file") from None
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path} holds no JSON object", remedy="mend or remove the file")
    return data

"""What the default configuration of some architectures lacks to be run, from a data file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from attrs import field, frozen

_FILE = "settings.yaml"


@frozen
class Setting:
    """Changes of a default configuration by dotted names, own inputs, and why it cannot run without them."""

    set: dict[str, Any] = field(factory=dict)
    inputs: dict[str, Any] = field(factory=dict)
    reason: str = ""


@cache
def settings() -> dict[str, Setting]:
    """Architecture name to its setting, for those that have one."""
    from ruamel.yaml import YAML

    text = files("modelmeter.tracing.zoo").joinpath(_FILE).read_text(encoding="utf-8")
    return {name: Setting(**row) for name, row in YAML(typ="safe").load(text).items()}

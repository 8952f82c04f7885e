"""Real weights into the network: a checkpoint in the published safetensors format, loaded strictly."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from modelmeter.errors import ConfigurationError, require_extra

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_NAMES_SHOWN = 5


def load_checkpoint(module: nn.Module, folder: str | Path) -> None:
    """Copy the checkpoint in a folder into a module, converted to the module's dtypes.

    The folder holds ``model.safetensors``, or the shards that ``model.safetensors.index.json`` names.
    Raises ConfigurationError, before any parameter has changed, for names that are missing or
    unexpected, for other shapes than the module's, and for files that cannot be read.
    """
    if any(isinstance(parameter, FakeTensor) or parameter.is_meta for parameter in module.parameters()):
        raise ConfigurationError(
            "the module was built without weights", remedy="build it outside build_weightless to load a checkpoint"
        )
    homes = check_checkpoint(module, folder)
    targets = dict(module.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for path in sorted(set(homes.values())):
            with _opened(path) as file:
                for name in file.keys():  # noqa: SIM118 - not a dict
                    if name in targets:
                        targets[name].copy_(file.get_tensor(name))


def check_checkpoint(module: nn.Module, folder: str | Path) -> dict[str, Path]:
    """The file of each tensor in a folder, if they fit a module, which needs no weights for that.

    Raises ConfigurationError like ``load_checkpoint``; only headers are read.
    """
    folder = Path(folder)
    homes = _homes(folder)
    targets = dict(module.named_parameters(remove_duplicate=False))
    # Some tools store buffers too; here they are computed, and rounded ones would replace exact ones.
    buffers = {name for name, _ in module.named_buffers()}
    _check_names(folder, expected=set(targets), found=set(homes) - buffers)
    _check_tensors(homes, targets)
    return homes


def _homes(folder: Path) -> dict[str, Path]:
    """The file of each tensor of the checkpoint."""
    if not folder.is_dir():
        raise ConfigurationError(f"there is no folder {folder}", remedy="give the folder that holds the checkpoint")
    single, index = folder / SINGLE_FILE, folder / INDEX_FILE
    if single.is_file():
        return dict.fromkeys(_stored_names(single), single)
    if not index.is_file():
        raise ConfigurationError(
            f"{folder} holds neither {SINGLE_FILE} nor {INDEX_FILE}", remedy="download the checkpoint again"
        )
    homes = {name: folder / file for name, file in _weight_map(index).items()}
    for path in sorted(set(homes.values())):
        listed = {name for name, home in homes.items() if home == path}
        stored = _stored_names(path)
        if listed != stored:
            raise ConfigurationError(
                f"{INDEX_FILE} and {path.name} disagree about {_some(listed ^ stored)}",
                remedy="download the checkpoint again",
            )
    return homes


def _weight_map(index: Path) -> dict[str, str]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        valid = isinstance(weight_map, dict) and all(isinstance(file, str) for file in weight_map.values())
    except (OSError, ValueError, KeyError, TypeError):
        valid = False
    if not valid:
        raise ConfigurationError(f"{index} is no index of a checkpoint", remedy="download the checkpoint again")
    for file in weight_map.values():
        if Path(file).name != file:
            raise ConfigurationError(
                f"{index} names the file {file!r} outside its folder", remedy="keep all shards in one folder"
            )
    return dict(weight_map)


def _stored_names(path: Path) -> set[str]:
    with _opened(path) as file:
        return set(file.keys())


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise require_extra("trace", "safetensors") from None
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}", remedy="download the checkpoint again") from None


def _check_names(folder: Path, *, expected: set[str], found: set[str]) -> None:
    differences = [("lacks", expected - found), ("has unexpectedly", found - expected)]
    problems = [f"{what} {_some(names)}" for what, names in differences if names]
    if problems:
        raise ConfigurationError(
            f"the checkpoint in {folder} {' and '.join(problems)}",
            remedy="use the configuration that was published with it",
        )


def _check_tensors(homes: Mapping[str, Path], targets: Mapping[str, nn.Parameter]) -> None:
    wrong = []
    for path in sorted(set(homes.values())):
        with _opened(path) as file:
            for name in sorted(targets.keys() & set(file.keys())):
                stored, needed = file.get_slice(name), list(targets[name].shape)
                if stored.get_shape() != needed:
                    wrong.append(f"{name} is {stored.get_shape()}, not {needed}")
                elif not stored.get_dtype().startswith(("F", "BF")):
                    wrong.append(f"{name} holds {stored.get_dtype()}, no floating-point numbers")
    if wrong:
        more = f" and {len(wrong) - _NAMES_SHOWN} more" if len(wrong) > _NAMES_SHOWN else ""
        raise ConfigurationError(
            f"the checkpoint does not fit the network: {'; '.join(wrong[:_NAMES_SHOWN])}{more}",
            remedy="use the configuration that was published with it",
        )


def _some(names: set[str]) -> str:
    """The first names of a set, and how many there are besides."""
    shown = ", ".join(sorted(names)[:_NAMES_SHOWN])
    return f"{shown} and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else shown

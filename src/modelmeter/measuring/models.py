"""A model with values on the device that will run it: random ones, or a checkpoint's."""

from __future__ import annotations

from typing import Any

import torch
from attrs import frozen
from torch import nn
from torch.overrides import TorchFunctionMode

from modelmeter.families.bench import Reader
from modelmeter.families.protocol import Family
from modelmeter.schema.measurement import RANDOM_WEIGHTS
from modelmeter.schema.scenario import Scenario
from modelmeter.tracing.backends.base import check_device
from modelmeter.tracing.backends.weights import SPREAD, check_fits, free_bytes, parameter_bytes
from modelmeter.tracing.build import build_weightless


@frozen
class ModelOnDevice:
    """A module, where it is, and whose weights it has (``random``, or the name of a checkpoint's folder)."""

    module: nn.Module
    device: str
    weights: str = RANDOM_WEIGHTS


def default_device() -> str:
    """The GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def build_model(
    family: Family,
    config: Any,
    scenario: Scenario,
    *,
    device: str | None = None,
    reader: Reader | None = None,
    seed: int = 0,
) -> ModelOnDevice:
    """Build a family's model on a device, with seeded random weights or those that a reader has.

    Raises UsageError, before it allocates anything, for a device that is not there or too small, and
    ConfigurationError for weights that do not fit the model.
    """
    device = check_device(device or default_device())
    shapes = build_weightless(lambda: family.build(config, scenario))
    if reader is not None:
        reader.check(shapes)
    check_fits(parameter_bytes(shapes), free_bytes(device))
    with torch.device(device), _NoValues():
        module = family.build(config, scenario)
    if reader is None:
        fill(module, seed)
        return ModelOnDevice(module, device)
    reader.load_weights(module)
    return ModelOnDevice(module, device, reader.name)


def fill(module: nn.Module, seed: int) -> None:
    """Seeded normal values for every parameter, made where it is; scales of norms around one."""
    generators: dict[torch.device, torch.Generator] = {}
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.device not in generators:
                generators[parameter.device] = torch.Generator(parameter.device).manual_seed(seed)
            parameter.normal_(std=SPREAD, generator=generators[parameter.device])
            if parameter.dim() == 1 and name.endswith("weight"):
                parameter.add_(1)


class _NoValues(TorchFunctionMode):
    """Layers leave their parameters as they are made: every value is replaced, and billions take minutes."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)

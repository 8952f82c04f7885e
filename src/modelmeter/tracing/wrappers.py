"""Wrappers around modules: which of them a trace looks through, and which it refuses.

Compiled modules and those that spread a batch over devices are traced as the module within, as it is
written: a trace is of one device, and of what the model does, not of what a compiler makes of it.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import nn

from modelmeter.errors import UsageError

_INNER = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}
"""Classes of torch's wrappers, to where they keep the module within."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


def unwrapped(module: nn.Module) -> nn.Module:
    """The module within torch's wrappers, of any number."""
    while type(module).__name__ in _INNER and type(module).__module__.startswith("torch."):
        module = getattr(module, _INNER[type(module).__name__])
    return module


def check_traceable(module: nn.Module) -> None:
    """Refuse modules whose Python does not run, or whose parameters are not whole: UsageError."""
    for name, submodule in module.named_modules():
        what = f"{name} ({type(submodule).__name__})" if name else type(submodule).__name__
        if isinstance(submodule, torch.jit.ScriptModule):
            raise UsageError(
                f"{what} is a ScriptModule, which runs without Python's modules",
                remedy="trace the module that it was scripted from",
            )
        sharded = any(type(parameter).__name__ == "DTensor" for parameter in submodule._parameters.values())
        if sharded or type(submodule).__name__ == "FullyShardedDataParallel":
            raise UsageError(
                f"{what} holds a part of its parameters, and a trace is of one device",
                remedy="trace the module before it is sharded",
            )


@contextlib.contextmanager
def as_written(module: nn.Module) -> Iterator[None]:
    """A module without its wrappers for the time of a block: nothing is compiled, and nothing spread over devices."""
    check_traceable(module)
    undo: list[tuple[dict[str, Any], str, Any]] = []
    with contextlib.ExitStack() as stack:
        if "torch._dynamo" in sys.modules:  # without it nothing is compiled, and loading it takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            for submodule in list(module.modules()):
                for name, child in list(submodule._modules.items()):
                    if child is not None and unwrapped(child) is not child:
                        undo.append((submodule._modules, name, child))
                        submodule._modules[name] = unwrapped(child)
                compiled = vars(submodule).pop("_compiled_call_impl", None)
                if compiled is not None:
                    undo.append((vars(submodule), "_compiled_call_impl", compiled))
            yield
        finally:
            for slots, name, value in reversed(undo):
                slots[name] = value


def of_modules_as_written(
    function: Callable[Concatenate[nn.Module, _P], _R],
) -> Callable[Concatenate[nn.Module, _P], _R]:
    """Make a function of a module one of the module within its wrappers."""

    @functools.wraps(function)
    def of_inner(module: nn.Module, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        module = unwrapped(module)
        with as_written(module):
            return function(module, *args, **kwargs)

    return of_inner

"""What happens before dispatch: device moves, reads by Python, and guards that ask for a GPU.

A weightless trace runs on the CPU whatever the code asks for. ``.cuda()``, ``device="cuda"`` and CUDA
autocast are taken as the CPU's; ``torch.cuda.is_available()`` says yes to the model's own code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from modelmeter.tracing.weightless import WeightlessExecutor

_ACCELERATORS = ("cuda", "xpu", "mps", "hpu", "npu")
_LIBRARIES = ("torch", "transformers", "accelerate", "modelmeter")


def _is_accelerator(value: Any) -> bool:
    if isinstance(value, torch.device):
        return value.type in _ACCELERATORS
    return isinstance(value, str) and value.partition(":")[0] in _ACCELERATORS


def _on_cpu(value: Any) -> Any:
    return torch.device("cpu") if _is_accelerator(value) else value


class HostFunctions(TorchFunctionMode):
    """Keeps every tensor on the CPU, and gives values where Python reads a shape-only tensor."""

    def __init__(self, executor: WeightlessExecutor) -> None:
        super().__init__()
        self._executor = executor
        self._handlers: dict[Any, Callable[..., Any]] = {
            Tensor.cuda: lambda tensor, *_, **__: tensor,
            Tensor.pin_memory: lambda tensor, *_, **__: tensor,
            Tensor.to: self._to,
            Tensor.numpy: self._read("numpy"),
            Tensor.tolist: self._read("tolist"),
            Tensor.__array__: self._read("__array__"),
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        handler = self._handlers.get(func)
        if handler is not None:
            return handler(*args, **(kwargs or {}))
        if kwargs:
            device = kwargs.get("device")
            if device is not None and _is_accelerator(device):
                kwargs = {**kwargs, "device": torch.device("cpu")}
            return func(*args, **kwargs)
        return func(*args)

    def _to(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return tensor.to(*map(_on_cpu, args), **{key: _on_cpu(value) for key, value in kwargs.items()})

    def _read(self, method: str) -> Callable[..., Any]:
        def read(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            with torch._C.DisableTorchFunction():
                readable = self._executor.readable(tensor, f"Tensor.{method}")
                return getattr(readable, method)(*args, **kwargs)

        return read


def _asked_by_library() -> bool:
    """Whether the code that asks is a library's own: its answer may be cached beyond the trace."""
    asking = sys._getframe(2).f_globals.get("__name__", "")
    return str(asking).partition(".")[0] in _LIBRARIES


@contextmanager
def pretend_gpu() -> Iterator[None]:
    """Let a model's own guards find a GPU on a machine without one, and give up nothing to it."""
    real_available = torch.cuda.is_available
    if real_available():
        yield
        return
    autocast = torch.amp.autocast_mode.autocast
    real_autocast = autocast.__init__

    def is_available() -> bool:
        return bool(real_available()) if _asked_by_library() else True

    def autocast_on_cpu(self: Any, device_type: str, dtype: Any = None, *args: Any, **kwargs: Any) -> None:
        if _is_accelerator(device_type):
            # CUDA's default is float16, the CPU's bfloat16; the model means CUDA's.
            device_type, dtype = "cpu", dtype or torch.float16
        real_autocast(self, device_type, dtype, *args, **kwargs)

    def nothing(*_: Any, **__: Any) -> None:
        return None

    with ExitStack() as stack:
        patches: dict[str, Any] = {
            "is_available": is_available,
            "synchronize": nothing,
            "empty_cache": nothing,
            "set_device": nothing,
            "reset_peak_memory_stats": nothing,
            "current_device": lambda: 0,
            "device_count": lambda: 1,
            "memory_allocated": lambda *_, **__: 0,
            "max_memory_allocated": lambda *_, **__: 0,
            "is_bf16_supported": lambda *_, **__: True,
        }
        for name, replacement in patches.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, replacement))
        stack.enter_context(mock.patch.object(autocast, "__init__", autocast_on_cpu))
        yield

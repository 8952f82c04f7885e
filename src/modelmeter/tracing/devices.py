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
from torch.overrides import TorchFunctionMode, _get_current_function_mode, _pop_mode_temporarily

from modelmeter.tracing.weightless import WeightlessExecutor

_ACCELERATORS = ("cuda", "xpu", "mps", "hpu", "npu")
_LIBRARIES = ("torch", "transformers", "accelerate", "modelmeter")


def _is_accelerator(value: Any) -> bool:
    if isinstance(value, torch.device):
        return value.type in _ACCELERATORS
    if isinstance(value, str):
        return value.partition(":")[0] in _ACCELERATORS
    return type(value) is int  # a bare index means the accelerator of that number


def _on_cpu(value: Any) -> Any:
    return torch.device("cpu") if _is_accelerator(value) else value


class HostFunctions(TorchFunctionMode):
    """Keeps every tensor on the CPU, and gives values where Python reads a shape-only tensor."""

    def __init__(self, executor: WeightlessExecutor) -> None:
        super().__init__()
        self._executor = executor
        self._overrides: Any = None
        self._handlers: dict[Any, Callable[..., Any]] = {
            Tensor.cuda: lambda tensor, *_, **__: tensor,
            Tensor.pin_memory: lambda tensor, *_, **__: tensor,
            Tensor.to: self._to,
            Tensor.numpy: self._read("numpy"),
            Tensor.tolist: self._read("tolist"),
            Tensor.__array__: self._read("__array__"),
            Tensor.__format__: self._format,
            Tensor.__deepcopy__: self._deepcopy,
            Tensor.data.__set__: self._set_data,  # type: ignore[attr-defined]
            torch._nested_tensor_from_mask_left_aligned: self._stay_padded,
            torch.tensor: self._from_list(torch.tensor),
            torch.as_tensor: self._from_list(torch.as_tensor),
            torch.asarray: self._from_list(torch.asarray),
        }

    def __enter__(self) -> HostFunctions:
        super().__enter__()
        # torch's fused attention layers step aside for tensors with functions of their own. This mode is
        # no reason to: a run without it takes them.
        self._overrides = mock.patch.object(torch.overrides, "has_torch_function", self._has_torch_function)
        self._overrides.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._overrides.__exit__(*error)
        super().__exit__(*error)

    def _has_torch_function(self, values: Any) -> bool:
        asked = torch._C._has_torch_function
        if _get_current_function_mode() is not self:
            return asked(values)
        with _pop_mode_temporarily():
            return asked(values)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if kwargs:
            device = kwargs.get("device")
            if device is not None and _is_accelerator(device):
                kwargs = {**kwargs, "device": torch.device("cpu")}
            if kwargs.get("pin_memory"):
                kwargs = {**kwargs, "pin_memory": False}
        handler = self._handlers.get(func)
        if handler is not None:
            return handler(*args, **(kwargs or {}))
        return func(*args, **kwargs) if kwargs else func(*args)

    def _to(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return tensor.to(*map(_on_cpu, args), **kwargs)

    def _read(self, method: str) -> Callable[..., Any]:
        def read(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            with torch._C.DisableTorchFunction():
                readable = self._executor.readable(tensor, f"Tensor.{method}")
                return getattr(readable, method)(*args, **kwargs)

        return read

    def _from_list(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """torch reads the elements of lists behind dispatch, where shape-only ones would be real zeros."""

        def made(data: Any, *args: Any, **kwargs: Any) -> Any:
            return make(self._plain(data) if isinstance(data, (list, tuple)) else data, *args, **kwargs)

        return made

    def _plain(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return (
                self._executor.readable(value, "torch.tensor").tolist()
                if self._executor.is_shape_only(value)
                else value
            )
        if isinstance(value, (list, tuple)) and any(isinstance(item, (Tensor, list, tuple)) for item in value):
            return [self._plain(item) for item in value]
        return value

    def _format(self, tensor: Tensor, spec: str) -> str:
        if tensor.dim() or not self._executor.is_shape_only(tensor):
            return tensor.__format__(spec)
        return format(tensor.item(), spec)

    def _deepcopy(self, tensor: Tensor, memo: dict[int, Any]) -> Tensor:
        if not self._executor.is_shape_only(tensor):
            return tensor.__deepcopy__(memo)
        if id(tensor) not in memo:
            copied = tensor.detach().clone()
            copied.requires_grad_(tensor.requires_grad)
            if isinstance(tensor, torch.nn.Parameter):
                copied._is_param = True
            memo[id(tensor)] = copied
        copy: Tensor = memo[id(tensor)]
        return copy

    def _stay_padded(self, tensor: Tensor, mask: Tensor) -> bool:
        """nn.TransformerEncoder asks whether to go over to nested tensors, which have no shape to follow."""
        operator = "aten._nested_tensor_from_mask_left_aligned"
        self._executor.note(operator, "sequences stay padded", tuple(tensor.shape), tensor.dtype)
        return False

    def _set_data(self, tensor: Tensor, value: Tensor) -> None:
        with torch._C.DisableTorchFunction():
            tensor.data = self._executor.data_for(tensor, value)


def _asked_by_library() -> bool:
    """Whether the code that asks is a library's own: its answer may be cached beyond the trace."""
    asking = sys._getframe(2).f_globals.get("__name__", "")
    return str(asking).partition(".")[0] in _LIBRARIES


@contextmanager
def pretend_gpu() -> Iterator[None]:
    """Let a model's own guards find a GPU on a machine without one, and give up nothing to it.

    Autocast for a GPU is the CPU's on every machine: that is where a weightless trace runs.
    """
    real_available = torch.cuda.is_available
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

    patches: dict[str, Any] = {
        "is_available": is_available,
        "synchronize": nothing,
        "empty_cache": nothing,
        "set_device": nothing,
        "reset_peak_memory_stats": nothing,
        "current_device": lambda: 0,
        "device_count": lambda: 1,
        "get_device_capability": lambda *_, **__: (9, 0),
        "memory_allocated": lambda *_, **__: 0,
        "max_memory_allocated": lambda *_, **__: 0,
        "is_bf16_supported": lambda *_, **__: True,
    }
    with ExitStack() as stack:
        for name, replacement in () if real_available() else patches.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, replacement))
        stack.enter_context(mock.patch.object(autocast, "__init__", autocast_on_cpu))
        yield

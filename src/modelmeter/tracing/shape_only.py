"""Shape-only tensors and parameters: made from real ones, put in their place, and taken out again."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from modelmeter.tracing.storage_map import StorageMap

_CPU = torch.device("cpu")


def new_fake_mode() -> FakeTensorMode:
    """The mode that shape-only tensors of one model share."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def new_shape_only(
    mode: FakeTensorMode, shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype
) -> FakeTensor:
    """A shape-only tensor with a storage of its own."""
    return FakeTensor(mode, torch.empty_strided(shape, stride, dtype=dtype, device="meta"), _CPU)


def shape_only_view(
    mode: FakeTensorMode,
    storage: torch.UntypedStorage,
    offset: int,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    dtype: torch.dtype,
) -> FakeTensor:
    """A shape-only tensor that views the storage of another one."""
    return FakeTensor(mode, torch.empty(0, dtype=dtype, device="meta").set_(storage, offset, shape, stride), _CPU)


def shape_only_parameter(parameter: nn.Parameter, mode: FakeTensorMode) -> nn.Parameter:
    """A shape-only parameter in place of a real one."""
    with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
        fake = new_shape_only(mode, tuple(parameter.shape), parameter.stride(), parameter.dtype)
        fake.requires_grad_(parameter.requires_grad)
    fake._is_param = True  # what nn.Parameter itself sets on tensor subclasses
    return fake  # type: ignore[return-value]


def fake_mode_of(module: nn.Module) -> FakeTensorMode | None:
    """The mode of a module's shape-only tensors, if it was built weightlessly."""
    for submodule in module.modules():
        for tensor in (*submodule._parameters.values(), *submodule._buffers.values(), *vars(submodule).values()):
            if isinstance(tensor, FakeTensor):
                return tensor.fake_mode
    return None


@contextmanager
def weightless_parameters(module: nn.Module, mode: FakeTensorMode) -> Iterator[None]:
    """Shape-only parameters in place of a module's own for the time of a block; ties are kept.

    So are lists that hold parameters once more (``nn.LSTM`` has one), and tensors without values:
    those on the meta device, and those of another build's mode. What the block itself leaves in the
    module's buffers and attributes and is shape-only, goes: a later run for real would stumble on it.
    """
    converted: dict[int, Tensor] = {}
    undo: list[tuple[dict[str, Any], dict[str, Any]]] = []
    try:
        for submodule in module.modules():
            for parameter in submodule._parameters.values():
                if parameter is not None and not nn.parameter.is_lazy(parameter) and not _is_of(parameter, mode):
                    converted.setdefault(id(parameter), shape_only_parameter(parameter, mode))
        for submodule in module.modules():
            for slots in (submodule._parameters, submodule._buffers, vars(submodule)):
                undo.append((slots, dict(slots)))
                for name, value in list(slots.items()):
                    stand_in = _converted(value, converted, mode)
                    if stand_in is not value:
                        slots[name] = stand_in
        yield
    finally:
        for slots, before in undo:
            _restore(slots, before, converted)


def _is_of(tensor: Tensor, mode: FakeTensorMode) -> bool:
    return isinstance(tensor, FakeTensor) and tensor.fake_mode is mode


def _converted(value: Any, converted: dict[int, Tensor], mode: FakeTensorMode) -> Any:
    """What takes a value's place in a module; the value itself if it can stay."""
    if isinstance(value, Tensor):
        if id(value) in converted or nn.parameter.is_lazy(value):
            return converted.get(id(value), value)
        if value.is_meta or (isinstance(value, FakeTensor) and value.fake_mode is not mode):
            converted[id(value)] = new_shape_only(mode, tuple(value.shape), value.stride(), value.dtype)
        return converted.get(id(value), value)
    if type(value) is list and any(id(item) in converted for item in value):
        return [converted.get(id(item), item) for item in value]
    return value


def _restore(slots: dict[str, Any], before: dict[str, Any], converted: dict[int, Tensor]) -> None:
    stand_ins = {id(stand_in) for stand_in in converted.values()}
    for name, value in list(slots.items()):
        if name in before and value is before[name]:
            continue
        if id(value) in stand_ins or _holds_shape_only(value):
            if name in before:
                slots[name] = before[name]
            else:
                del slots[name]


def _holds_shape_only(value: Any, depth: int = 0) -> bool:
    if isinstance(value, weakref.ref):  # nn.LSTM refers to its weights so, too
        value = value()
    if isinstance(value, FakeTensor):
        return True
    if type(value) is dict:
        value = list(value.values())
    return depth < 3 and type(value) in (list, tuple) and any(_holds_shape_only(item, depth + 1) for item in value)


@contextmanager
def weightless_registration(mode: FakeTensorMode) -> Iterator[None]:
    """Make every parameter shape-only as it is registered; a parameter registered twice stays one."""
    original = nn.Module.register_parameter
    # The real ones are kept so that none of their ids is given to another parameter.
    converted: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}

    def register(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not isinstance(param, FakeTensor) and not nn.parameter.is_lazy(param):
            if id(param) not in converted:
                converted[id(param)] = (param, shape_only_parameter(param, mode))
            param = converted[id(param)][1]
        original(self, name, param)

    nn.Module.register_parameter = register  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = original  # type: ignore[method-assign]


class ShapeOnlyStorages:
    """Real tensors whose storage met something shape-only, and what stands in for them."""

    def __init__(self, mode: FakeTensorMode, on_alias: Any) -> None:
        self._mode = mode
        self._on_alias = on_alias
        self._stand_ins: StorageMap[Tensor] = StorageMap()

    def __bool__(self) -> bool:
        return bool(self._stand_ins)

    def holds(self, tensor: Tensor) -> bool:
        """Whether a real tensor has become shape-only."""
        return tensor in self._stand_ins

    def taint(self, tensor: Tensor) -> None:
        """Make a real tensor's storage shape-only, also where it was and has grown since."""
        size = tensor.untyped_storage().nbytes()
        known = self._stand_ins.get(tensor)
        if known is None or known.untyped_storage().nbytes() < size:
            base = torch.empty(size, dtype=torch.uint8, device="meta")
            self._stand_ins.set(tensor, base)
            self._on_alias(base, tensor)

    def stand_in(self, tensor: Tensor) -> Tensor:
        """The shape-only tensor for a tainted real one: the same view of the stand-in storage."""
        base = self._stand_ins.get(tensor)
        assert base is not None
        offset, shape = int(tensor.storage_offset()), tuple(tensor.shape)
        return shape_only_view(self._mode, base.untyped_storage(), offset, shape, tensor.stride(), tensor.dtype)

"""Shape-only tensors and parameters: made from real ones, put in their place, and taken out again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

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
    if isinstance(parameter, FakeTensor):
        return parameter
    with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
        fake = new_shape_only(mode, tuple(parameter.shape), parameter.stride(), parameter.dtype)
        fake.requires_grad_(parameter.requires_grad)
    fake._is_param = True  # what nn.Parameter itself sets on tensor subclasses
    return fake  # type: ignore[return-value]


def fake_mode_of(module: nn.Module) -> FakeTensorMode | None:
    """The mode that a module's shape-only parameters share, if it was built weightlessly."""
    for parameter in module.parameters():
        if isinstance(parameter, FakeTensor):
            return parameter.fake_mode
    return None


@contextmanager
def weightless_parameters(module: nn.Module, mode: FakeTensorMode) -> Iterator[None]:
    """Shape-only parameters in place of a module's own for the time of a block; ties are kept."""
    swapped: list[tuple[dict[str, Any], str, Any]] = []
    converted: dict[int, nn.Parameter] = {}
    try:
        for submodule in module.modules():
            slots: dict[str, Any] = submodule._parameters
            for name, parameter in list(slots.items()):
                if parameter is None or isinstance(parameter, FakeTensor):
                    continue
                if id(parameter) not in converted:
                    converted[id(parameter)] = shape_only_parameter(parameter, mode)
                swapped.append((slots, name, parameter))
                slots[name] = converted[id(parameter)]
        yield
    finally:
        for slots, name, parameter in swapped:
            slots[name] = parameter


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
        # The storage objects are kept with their stand-ins, so that no address is used twice.
        self._stand_ins: dict[int, tuple[torch.UntypedStorage, Tensor]] = {}

    def __bool__(self) -> bool:
        return bool(self._stand_ins)

    def holds(self, tensor: Tensor) -> bool:
        """Whether a real tensor has become shape-only."""
        return bool(self._stand_ins) and tensor.untyped_storage()._cdata in self._stand_ins

    def taint(self, tensor: Tensor) -> None:
        """Make a real tensor's storage shape-only."""
        storage = tensor.untyped_storage()
        if storage._cdata in self._stand_ins:
            return
        base = torch.empty(storage.nbytes(), dtype=torch.uint8, device="meta")
        self._stand_ins[storage._cdata] = (storage, base)
        self._on_alias(base, tensor)

    def stand_in(self, tensor: Tensor) -> Tensor:
        """The shape-only tensor for a tainted real one: the same view of the stand-in storage."""
        _, base = self._stand_ins[tensor.untyped_storage()._cdata]
        offset, shape = int(tensor.storage_offset()), tuple(tensor.shape)
        return shape_only_view(self._mode, base.untyped_storage(), offset, shape, tensor.stride(), tensor.dtype)

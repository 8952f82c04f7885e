"""Building a model for real: refused before it starts where it does not fit, then filled with random values."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from modelmeter.errors import UsageError
from modelmeter.tracing.backends.base import Backend
from modelmeter.tracing.build import build_weightless
from modelmeter.units import format_bytes

T = TypeVar("T")

SEED = 0
SPREAD = 0.02
"""Standard deviation of random weights, as transformers initialise with."""

_LIMITS = (  # a container's limit and what it uses
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def build_for(
    backend: Backend | None,
    build: Callable[[], T],
    *,
    module_of: Callable[[T], nn.Module] = lambda made: made,  # type: ignore[assignment,return-value]
    fill: bool = True,
    limit_bytes: int | None = None,
) -> T:
    """Build a model as a back end needs it: without weights for the native one (None), else with real ones.

    Raises UsageError before it allocates anything if the weights would not fit in ``limit_bytes``, by
    default what is free. ``fill`` gives them seeded random values; False leaves what ``build`` made.
    """
    if backend is None:
        return build_weightless(build)
    return build_for_real(build, module_of=module_of, fill=fill, limit_bytes=limit_bytes, run_on=backend.run_on)


def build_for_real(
    build: Callable[[], T],
    *,
    module_of: Callable[[T], nn.Module] = lambda made: made,  # type: ignore[assignment,return-value]
    fill: bool = True,
    limit_bytes: int | None = None,
    run_on: str = "",
) -> T:
    """The same with real weights, whoever runs it; ``run_on`` is the device whose free memory counts too."""
    needed = parameter_bytes(module_of(build_weightless(build)))
    check_fits(needed, free_bytes(run_on) if limit_bytes is None else limit_bytes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        made = build()
    if fill:
        fill_random(module_of(made), SEED)
    return made


def parameter_bytes(module: nn.Module) -> int:
    """Bytes of all parameters and buffers, shared ones once."""
    tensors: Iterable[Tensor] = (*module.parameters(), *module.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in {id(t): t for t in tensors}.values())


def check_fits(needed_bytes: int, limit_bytes: int | None) -> None:
    """Refuse weights that memory does not hold; without a known limit nothing is refused."""
    if limit_bytes is not None and needed_bytes > limit_bytes:
        raise UsageError(
            f"the weights take {format_bytes(needed_bytes)}, and {format_bytes(limit_bytes)} of memory are free",
            remedy="trace it with --backend native, which needs no weights, or give a smaller --dtype or model",
        )


def free_bytes(run_on: str = "") -> int | None:
    """Memory that is free where the model will run; None if the system does not say."""
    device = int(torch.cuda.mem_get_info()[0]) if run_on == "cuda" else None  # it is built on the host all the same
    found = (device, _system_bytes(), *(_container_bytes(*files) for files in _LIMITS))
    return min((size for size in found if size is not None), default=None)


def _system_bytes() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def _container_bytes(limit_file: str, used_file: str) -> int | None:
    try:
        return int(Path(limit_file).read_text("ascii")) - int(Path(used_file).read_text("ascii"))
    except (OSError, ValueError):
        return None  # no such file, or "max"


def fill_random(module: nn.Module, seed: int = SEED) -> None:
    """Seeded normal values for every floating parameter, scales of norms around one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not parameter.is_floating_point():
                continue
            values = torch.randn(parameter.shape, generator=generator) * SPREAD
            if parameter.dim() == 1 and name.endswith("weight"):
                values += 1
            parameter.copy_(values)


def first_of(made: Any) -> nn.Module:
    """The module of a ``(module, inputs)`` pair; an empty one where a function returned something else."""
    found = made[0] if isinstance(made, tuple) and made else made
    return found if isinstance(found, nn.Module) else nn.Module()

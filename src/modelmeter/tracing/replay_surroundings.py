"""What a call depends on, or could change, besides its module and arguments: torch's settings, random states."""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as module_globals

_GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)


def settings() -> Hashable:
    """Settings of torch that change what operators run, and in which dtype."""
    autocast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
    kernels = (torch._C._get_flash_sdp_enabled(), torch._C._get_math_sdp_enabled())
    return autocast, torch.get_default_dtype(), kernels, torch.is_inference_mode_enabled()


def modes() -> tuple[int, int]:
    """How many function and dispatch modes are active; a default device is one."""
    return torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()


def has_global_hooks() -> bool:
    """Whether every module of the process has hooks."""
    return any(getattr(module_globals, name) for name in _GLOBAL_HOOKS)


def random_states() -> Hashable:
    """States of the generators outside of torch, whose own use is seen operator by operator."""
    state = np.random.get_state(legacy=True)
    return random.getstate(), state[0], state[1].tobytes(), state[2:]  # type: ignore[index]


def attributes(objects: Mapping[int, Any]) -> Hashable:
    """The attributes of objects that are told apart by identity: which are there, and which values they hold."""
    return tuple(
        (identity, tuple((name, id(held)) for name, held in vars(o).items())) for identity, o in objects.items()
    )

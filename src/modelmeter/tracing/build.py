"""Building a model without its weights: about two seconds for billions of parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from modelmeter.tracing.devices import HostFunctions, pretend_gpu
from modelmeter.tracing.shape_only import new_fake_mode, weightless_registration
from modelmeter.tracing.values import ValuePolicy
from modelmeter.tracing.weightless import WeightlessExecutor, WeightlessMode

T = TypeVar("T")


def build_weightless(build: Callable[[], T]) -> T:
    """Call a function that makes modules, with every parameter shape-only from its registration on.

    Buffers and plain tensors are real, up to the limit of real results.
    """
    mode = new_fake_mode()
    executor = WeightlessExecutor(mode, ValuePolicy(), building=True)
    with pretend_gpu(), weightless_registration(mode), WeightlessMode(executor), HostFunctions(executor):
        return build()

"""Makes a stand-in's operator: one dispatched operation, which a trace sees as one kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import library

from modelmeter.tracing.stand_ins.registry import NAMESPACE, Flops, StandIn, register


def define(
    schema: str,
    compute: Callable[..., Any],
    shapes: Callable[..., Any],
    *,
    stands_for: str,
    vector: Flops,
    matrix: Flops | None = None,
) -> Any:
    """The operator of a schema (``name(Tensor x) -> Tensor``), to be called with positional arguments.

    ``compute`` gives its values on real tensors, in plain torch; ``shapes`` gives empty results for tensors
    without values; ``matrix`` and ``vector`` are its FLOPs, from its arguments and its result ``out``.
    """
    name, _, signature = schema.partition("(")
    operator = library.custom_op(f"{NAMESPACE}::{name}", compute, mutates_args=(), schema=f"({signature}")
    operator.register_fake(shapes)
    register(name, StandIn(stands_for, vector, matrix))
    return getattr(getattr(torch.ops, NAMESPACE), name)

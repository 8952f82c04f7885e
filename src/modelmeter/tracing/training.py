"""Training: the backward after a forward, and a module that is afterwards as it was.

A backward begins with gradients of ones for the outputs, as a loss outside of the module would hand
them down, or with a loss: the one that the output brings (``output.loss``) or that a function makes
of it. What a loss computes outside of the module is not counted as the module's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from modelmeter.errors import UsageError
from modelmeter.tracing.signatures import read_output

Loss = Callable[[Any], Tensor]


def run_backward(output: Any, loss: Loss | None = None) -> None:
    """The backward from a module's output; raises UsageError where nothing in it has a gradient."""
    if loss is not None:
        _backward_of_loss(loss(output))
        return
    own = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
    if isinstance(own, Tensor) and own.requires_grad and own.numel() == 1:
        _backward_of_loss(own)
        return
    roots = [tensor for tensor in read_output(output)[1] if tensor.requires_grad]
    if not roots:
        raise UsageError(
            "no output of the module has a gradient",
            remedy="check that parameters require gradients and that the forward does not switch them off",
        )
    torch.autograd.backward(roots, [torch.ones_like(tensor) for tensor in roots])


def _backward_of_loss(value: Any) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        what = f"a tensor of {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(f"the loss is {what}", remedy="return one number that depends on parameters: a mean or a sum")
    value.backward()


@contextmanager
def training_mode(module: nn.Module) -> Iterator[None]:
    """A module that can be trained for the time of a block: in training mode, its gradients not there yet.

    A module in training mode already keeps what its parts are set to. Afterwards all modes and gradients
    are what they were.
    """
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    try:
        if not module.training:
            module.train()
        with kept_gradients(list(module.parameters())):
            yield
    finally:
        for submodule, training in modes:
            submodule.training = training


@contextmanager
def kept_gradients(*holders: Any) -> Iterator[None]:
    """Tensors in these containers have no gradient in a block, and afterwards the one that they had."""
    leaves = [tensor for tensor in read_output(holders)[1] if tensor.is_leaf and tensor.requires_grad]
    gradients = [leaf.grad for leaf in leaves]
    try:
        for leaf in leaves:
            leaf.grad = None
        yield
    finally:
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf.grad = gradient


@contextmanager
def kept_buffers(module: nn.Module) -> Iterator[None]:
    """Buffers of modules in training mode (running means, counters) are afterwards what they were."""
    kept: list[tuple[nn.Module, str, Tensor, Tensor]] = []
    for submodule in module.modules():
        for name, buffer in submodule._buffers.items() if submodule.training else ():
            if buffer is not None and type(buffer) is Tensor and not buffer.is_meta:
                kept.append((submodule, name, buffer, buffer.detach().clone()))
    try:
        yield
    finally:
        for submodule, name, buffer, values in kept:
            submodule._buffers[name] = buffer
            if buffer.requires_grad and not values.requires_grad:
                buffer.detach_()  # a forward that writes activations into it ties it to its own backward
            if not torch.equal(buffer, values):  # batch norm writes without a new version
                with torch.no_grad():
                    buffer.copy_(values)

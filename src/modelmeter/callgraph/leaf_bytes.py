"""Ideal bytes of modules that are one operator: inputs and weights read once, results written once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

from modelmeter.schema.callgraph import ParameterInfo, Signature
from modelmeter.schema.scenario import dtype_bytes

Signatures = Mapping[str, list[Signature]]


def leaf_bytes(
    names: Iterable[str], inputs: Signatures, outputs: Signatures, parameters: Mapping[str, ParameterInfo]
) -> tuple[int, int]:
    """Bytes that all calls of some modules read and write, if each call were one kernel.

    It holds for modules that call no other and read their weights whole, which a table of rows does not.
    """
    read = written = 0
    for name in names:
        weights = parameters[name].bytes if name in parameters else 0
        for signature in inputs.get(name, ()):
            read += signature.calls * (_tensor_bytes(signature) + weights)
        for signature in outputs.get(name, ()):
            written += signature.calls * _tensor_bytes(signature)
    return read, written


def _tensor_bytes(signature: Signature) -> int:
    return sum(dtype_bytes(tensor.dtype.removeprefix("torch.")) * prod(tensor.shape) for tensor in signature.tensors)

"""Operators element by element, copies, and reductions to one number a row."""

from __future__ import annotations

from collections.abc import Sequence

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.operators.registry import operator
from modelmeter.cost.precision import WIDE_BYTES, Precision
from modelmeter.cost.tape import Part, Read, Tape, Tensor


@operator
def add(tape: Tape, a: Read, b: Read, elements: Number, width: int) -> Tensor:
    """a + b: 1 FLOP an element; either may be broadcast, and is then read as it is stored."""
    with tape.operator("add"):
        return tape.kernel([a, b], elements * width, vector_flops=elements, keep=True)


@operator
def multiply(tape: Tape, a: Read, b: Read, elements: Number, width: int) -> Tensor:
    """a * b: 1 FLOP an element."""
    with tape.operator("multiply"):
        return tape.kernel([a, b], elements * width, vector_flops=elements, keep=True)


@operator
def activation(tape: Tape, x: Read, elements: Number, width: int) -> Tensor:
    """An activation function in one kernel (GELU, SiLU, ReLU): counted as 1 vector FLOP an element.

    Source: Hendrycks and Gimpel, Gaussian Error Linear Units (2016), for GELU and SiLU.
    """
    with tape.operator("activation"):
        return tape.kernel([x], elements * width, vector_flops=elements, keep=True)


@operator
def quick_gelu(tape: Tape, x: Tensor, elements: Number, width: int) -> Tensor:
    """x * sigmoid(1.702 x), written out in three kernels: 3 FLOPs an element.

    Source: Hendrycks and Gimpel, Gaussian Error Linear Units (2016), section 2.
    """
    with tape.operator("quick_gelu"):
        scaled = tape.kernel([x], elements * width, vector_flops=elements)
        gate = tape.kernel([scaled], elements * width, vector_flops=elements)
        tape.free(scaled)
        return tape.kernel([x, gate], elements * width, vector_flops=elements, keep=True)


@operator
def copy(tape: Tape, x: Read, writes: Number, *, present: Number = 1, vector_flops: Number = 0) -> Tensor:
    """Data moved into a new tensor of ``writes`` bytes: a copy to another layout, padding, a conversion."""
    with tape.operator("copy"):
        return tape.kernel([x], writes, launches=present, vector_flops=vector_flops, keep=True)


@operator
def concatenate(tape: Tape, parts: Sequence[Read], writes: Number, *, present: Number = 1) -> Tensor:
    """Tensors one after the other: no FLOPs, everything moved once."""
    with tape.operator("concatenate"):
        return tape.kernel(parts, writes, launches=present, keep=True)


@operator
def to_float(tape: Tape, x: Tensor, elements: Number, precision: Precision) -> Tensor:
    """Activations as float32; the same tensor where they are that already."""
    if not precision.widens:
        return x
    with tape.operator("to_float"):
        return tape.kernel([x], elements * WIDE_BYTES, keep=True)


@operator
def embedding(tape: Tape, ids: Read, rows: Number, vocabulary: Number, width: Number, precision: Precision) -> Tensor:
    """Rows of a table by their number: reads the rows, not the table.

    ids [rows], table [vocabulary, width], result [rows, width]. Source: ``torch.nn.Embedding``.
    """
    table = tape.weight("weight", vocabulary * width, precision.weight_bytes)
    elements = rows * width
    with tape.operator("embedding"):
        looked_up = Part(table, elements * precision.weight_bytes)
        return tape.kernel([looked_up, ids], elements * precision.activation_bytes, keep=True)

"""Products with a weight that another module owns: it is read here, and filed there."""

from __future__ import annotations

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.operators.registry import operator
from modelmeter.cost.precision import Precision
from modelmeter.cost.tape import Read, Tape, Tensor


@operator
def shared_linear(
    tape: Tape, x: Read, weight: Read, rows: Number, inputs: Number, outputs: Number, precision: Precision
) -> Tensor:
    """y = x W^T with another module's W: 2 * rows * inputs * outputs FLOPs, no parameters.

    x [rows, inputs], W [outputs, inputs], such as the embedding's table where the head is tied to it.
    Source: Press and Wolf, Using the Output Embedding to Improve Language Models (2017).
    """
    with tape.operator("linear", dtype=precision.activations):
        return tape.kernel(
            [x, weight],
            rows * outputs * precision.activation_bytes,
            matrix_flops=2 * rows * inputs * outputs,
            keep=True,
        )

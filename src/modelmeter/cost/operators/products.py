"""Matrix products: linear layers, batched products, convolutions. One multiply-add is 2 FLOPs."""

from __future__ import annotations

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.operators.registry import operator
from modelmeter.cost.precision import Precision
from modelmeter.cost.tape import Read, Tape, Tensor


@operator
def linear(
    tape: Tape, x: Read, rows: Number, inputs: Number, outputs: Number, precision: Precision, *, bias: bool = False
) -> Tensor:
    """y = x W^T + b: 2 * rows * inputs * outputs FLOPs.

    x [rows, inputs], W [outputs, inputs], b [outputs]; the bias is added as the product is written.
    Source: ``torch.nn.Linear``.
    """
    width = precision.weight_bytes
    reads: list[Read] = [x, tape.weight("weight", inputs * outputs, width)]
    if bias:
        reads.append(tape.weight("bias", outputs, width))
    with tape.operator("linear", dtype=precision.activations):
        return tape.kernel(
            reads,
            rows * outputs * precision.activation_bytes,
            matrix_flops=2 * rows * inputs * outputs,
            keep=True,
        )


@operator
def batched_product(
    tape: Tape, a: Read, b: Read, batch: Number, m: Number, k: Number, n: Number, dtype: str, width: int
) -> Tensor:
    """C_i = A_i B_i for i in batch: 2 * batch * m * k * n FLOPs.

    A [batch, m, k], B [batch, k, n], C [batch, m, n] of ``width`` bytes an element.
    Source: ``torch.bmm``.
    """
    with tape.operator("batched_product", dtype=dtype):
        return tape.kernel([a, b], batch * m * n * width, matrix_flops=2 * batch * m * k * n, keep=True)


@operator
def convolution(
    tape: Tape,
    x: Read,
    batch: Number,
    in_channels: Number,
    out_channels: Number,
    out_height: Number,
    out_width: Number,
    kernel: Number,
    precision: Precision,
    *,
    bias: bool = False,
) -> Tensor:
    """A square two-dimensional convolution: 2 * batch * out_h * out_w * out_c * in_c * kernel^2 FLOPs.

    Taps that fall on the padding count, as in every dense implementation and in torch's counter.
    x [batch, in_c, h, w], y [batch, out_c, out_h, out_w].
    Source: ``torch.nn.Conv2d``.
    """
    width = precision.weight_bytes
    reads: list[Read] = [x, tape.weight("weight", out_channels * in_channels * kernel * kernel, width)]
    if bias:
        reads.append(tape.weight("bias", out_channels, width))
    outputs = batch * out_channels * out_height * out_width
    with tape.operator("convolution", dtype=precision.activations):
        return tape.kernel(
            reads,
            outputs * precision.activation_bytes,
            matrix_flops=2 * outputs * in_channels * kernel * kernel,
            keep=True,
        )

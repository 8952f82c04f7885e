"""Positions: rotary angles, decomposed relative positions, tables resized to another map."""

from __future__ import annotations

from modelmeter.cost.arithmetic import Number, differs
from modelmeter.cost.operators.registry import operator
from modelmeter.cost.precision import INDEX_BYTES, WIDE, WIDE_BYTES, Precision
from modelmeter.cost.tape import Part, Tape, Tensor

BICUBIC_FLOPS = 32
"""An output element of bicubic interpolation: 16 taps, a multiply-add each."""

LINEAR_FLOPS = 4
"""An output element of linear interpolation: 2 taps, a multiply-add each."""


@operator
def resize_table(
    tape: Tape,
    table: Tensor,
    before: Number,
    after: Number,
    width: Number,
    flops: int,
    precision: Precision,
    *,
    present: Number,
) -> tuple[Tensor, Tensor]:
    """A position table [before, width] interpolated to [after, width] in float32, where ``present`` is 1.

    ``flops`` an output element, by the taps of the interpolation. Gives the table in the weights' type
    and the float32 one, which the caller frees: Python holds it until the function that made it ends.
    Source: ``torch.nn.functional.interpolate``.
    """
    wide_before, wide_after = before * width * WIDE_BYTES * present, after * width * WIDE_BYTES * present
    narrow_after = after * width * precision.weight_bytes * present
    flops_after = flops * after * width * present
    with tape.operator("resize_table") as resize:
        source = Part(table, before * width * precision.weight_bytes * present)
        if precision.weights == WIDE:
            resized = tape.kernel([source], wide_after, vector_flops=flops_after, launches=present, keep=True)
            return resized, Tensor(0)
        wide = tape.kernel([source], wide_before, launches=present)
        resized = tape.kernel([wide], wide_after, vector_flops=flops_after, launches=present)
        tape.free(wide)
        resize.linger(resized)
        return tape.kernel([resized], narrow_after, launches=present, keep=True), resized


@operator
def relative_table(
    tape: Tape, name: str, side: Number, own_side: Number, width: Number, precision: Precision
) -> Tensor:
    """R[i, j] = table[i - j + side - 1]: [side, side, width] from a parameter [2 * own_side - 1, width].

    A table for another side is stretched to 2 * side - 1 entries first.
    Source: Li et al., MViTv2 (2022), section 4.1.
    """
    entries, needed, offsets = 2 * own_side - 1, 2 * side - 1, side * side
    table = tape.weight(name, entries * width, precision.weight_bytes)
    stretches = differs(own_side, side)
    stretched, wide = resize_table(tape, table, entries, needed, width, LINEAR_FLOPS, precision, present=stretches)
    rows = offsets * width * precision.weight_bytes
    with tape.operator("relative_table"):
        axis = tape.kernel([], side * INDEX_BYTES)
        differences = tape.kernel([axis, axis], offsets * INDEX_BYTES, vector_flops=offsets)
        index = tape.kernel([differences], offsets * INDEX_BYTES, vector_flops=offsets)
        tape.free(differences)
        # Rows come from the stretched table where there is one; either way as many are read.
        result = tape.kernel([Part(table, rows), index], rows, keep=True)
    tape.free(stretched, wide)
    return result


@operator
def rotary_angles(
    tape: Tape, batch: Number, positions: Number, head_dim: int, precision: Precision, ids: Tensor
) -> tuple[Tensor, Tensor]:
    """cos and sin of position * frequency, [batch, positions, head_dim] each.

    The angles are a product of [head_dim / 2, 1] and [1, positions] a request in float32:
    2 * batch * head_dim / 2 * positions FLOPs; then one FLOP for each cosine and sine.
    Source: Su et al., RoFormer (2021), section 3.2.
    """
    half = head_dim // 2
    angles_bytes = batch * positions * half * WIDE_BYTES
    both = batch * positions * head_dim
    frequencies = Tensor(half * WIDE_BYTES)
    with tape.operator("rotary_angles", dtype=WIDE) as rotary:
        wide_ids = tape.kernel([Part(ids, batch * positions * INDEX_BYTES)], batch * positions * WIDE_BYTES)
        angles = tape.kernel([frequencies, wide_ids], angles_bytes, matrix_flops=2 * batch * half * positions)
        tape.free(wide_ids)
        doubled = tape.kernel([angles, angles], 2 * angles_bytes)
        results = []
        for _ in ("cos", "sin"):
            wave = tape.kernel([doubled], both * WIDE_BYTES, vector_flops=both)
            if precision.widens:
                narrow = tape.kernel([wave], both * precision.activation_bytes)
                tape.free(wave)
                wave = narrow
            results.append(rotary.keep(wave))
    return results[0], results[1]


@operator
def rotate(tape: Tape, x: Tensor, angles: tuple[Tensor, Tensor], elements: Number, width: int) -> Tensor:
    """x cos + [-x_high, x_low] sin: 3.5 FLOPs an element.

    Source: Su et al., RoFormer (2021), section 3.4.2.
    """
    cos, sin = angles
    whole, half = elements * width, elements // 2 * width
    with tape.operator("rotate"):
        turned = tape.kernel([x, cos], whole, vector_flops=elements)
        negative = tape.kernel([Part(x, half)], half, vector_flops=elements // 2)
        swapped = tape.kernel([negative, Part(x, half)], whole)
        tape.free(negative)
        crossed = tape.kernel([swapped, sin], whole, vector_flops=elements)
        tape.free(swapped)
        return tape.kernel([turned, crossed], whole, vector_flops=elements, keep=True)

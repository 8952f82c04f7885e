"""Mixtures of experts: who goes where, bringing tokens together, and adding up what experts gave."""

from __future__ import annotations

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.operators.attention import SOFTMAX_FLOPS
from modelmeter.cost.operators.registry import operator
from modelmeter.cost.precision import INDEX_BYTES, WIDE, WIDE_BYTES, Precision
from modelmeter.cost.tape import Part, Read, Tape, Tensor


@operator
def gate(
    tape: Tape, x: Tensor, tokens: Number, width: Number, experts: Number, top_k: Number, precision: Precision
) -> tuple[Tensor, Tensor]:
    """Experts of each token and their weights, [tokens, top_k] each: top-k of softmax(x W^T), in float32.

    2 * tokens * width * experts matrix FLOPs; the softmax counts 5 vector FLOPs a score.
    Source: DeepSeek-AI, DeepSeek-V2 (2024), section 2.2.
    """
    weight = tape.weight("weight", experts * width, precision.weight_bytes)
    scores_bytes = tokens * experts * WIDE_BYTES
    with tape.operator("gate", dtype=WIDE) as operation:
        wide_x = tape.kernel([x], tokens * width * WIDE_BYTES) if precision.widens else x
        narrow_weight = precision.weights != WIDE
        wide_weight = tape.kernel([weight], experts * width * WIDE_BYTES) if narrow_weight else weight
        logits = tape.kernel([wide_x, wide_weight], scores_bytes, matrix_flops=2 * tokens * width * experts)
        tape.free(*(tensor for tensor in (wide_x, wide_weight) if tensor.made_by is operation))
        scores = tape.kernel([logits], scores_bytes, vector_flops=SOFTMAX_FLOPS * tokens * experts)
        weights = tape.empty(tokens * top_k * WIDE_BYTES)
        chosen = tape.kernel([scores], tokens * top_k * INDEX_BYTES, more=[weights])
        operation.keep(chosen)
        operation.keep(weights)
    return chosen, weights


@operator
def dispatch(
    tape: Tape,
    x: Tensor,
    chosen: Tensor,
    tokens: Number,
    width: Number,
    experts: Number,
    top_k: Number,
    precision: Precision,
    *,
    taken: Number | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Copies of tokens sorted by expert [tokens * top_k, width]; (order, copies, tokens an expert).

    The number of tokens of each expert is read by the CPU, which waits for the device here. ``taken``: how many
    copies are taken, where those of some experts alone are.
    """
    rows = tokens * top_k
    places = rows * INDEX_BYTES
    with tape.operator("dispatch") as operation:
        order = operation.keep(tape.kernel([chosen], places, discards=places))
        source = tape.kernel([order], places, vector_flops=rows)
        row_bytes = (rows if taken is None else taken) * width * precision.activation_bytes
        grouped = operation.keep(tape.kernel([Part(x, row_bytes), source], row_bytes))
        tape.free(source)
        counts = operation.keep(tape.kernel([chosen], experts * INDEX_BYTES))
        return order, grouped, counts


@operator
def combine(
    tape: Tape,
    results: Read,
    order: Tensor,
    weights: Tensor,
    tokens: Number,
    width: Number,
    top_k: Number,
    precision: Precision,
    *,
    taken: Number | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """sum_k weight_k * expert_k(x), [tokens, width], in float32: 2 FLOPs a copy and element.

    ``results`` [tokens * top_k, width] lie in the order of ``order``. Gives the sum, and what stays live
    until the function around it ends. ``taken``: how many copies there are, where those of some experts alone are.
    """
    elements = (tokens * top_k if taken is None else taken) * width
    narrow, wide = elements * precision.activation_bytes, elements * WIDE_BYTES
    with tape.operator("combine") as operation:
        scattered = operation.linger(tape.empty(narrow))
        joined = tape.kernel([results], narrow)
        tape.overwrite([joined, order], narrow)
        tape.free(joined)
        per_expert = operation.linger(tape.kernel([scattered], wide)) if precision.widens else scattered
        weighted = tape.kernel([per_expert, weights], wide, vector_flops=elements)
        summed = tape.kernel([weighted], tokens * width * WIDE_BYTES, vector_flops=elements)
        tape.free(weighted)
        if precision.widens:
            wide_sum, summed = summed, tape.kernel([summed], tokens * width * precision.activation_bytes)
            tape.free(wide_sum)
        operation.keep(summed)
    return summed, (scattered, per_expert)

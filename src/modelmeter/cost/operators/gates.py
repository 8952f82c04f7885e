"""Gates of mixtures of experts: scores, groups that limit the choice, the k best, and their weights.

Axes: T tokens, D hidden size, E experts in N groups of which M stay, K experts a token. Each gate gives
the chosen experts [T, K] as int64 and their weights [T, K] in float32, like ``experts.gate``, which is
DeepSeek-OCR's own. Sorting (top-k) counts no FLOPs.
"""

from __future__ import annotations

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.operators.attention import SOFTMAX_FLOPS
from modelmeter.cost.operators.registry import operator
from modelmeter.cost.precision import BOOL_BYTES, INDEX_BYTES, WIDE, WIDE_BYTES, Precision
from modelmeter.cost.records import OperatorOnTape
from modelmeter.cost.tape import Part, Tape, Tensor


@operator
def softmax_gate(
    tape: Tape,
    x: Tensor,
    tokens: Number,
    width: Number,
    experts: Number,
    top_k: Number,
    precision: Precision,
    *,
    wide: bool = False,
    groups: int = 0,
    groups_kept: int = 0,
    renormalises: bool = False,
    scales: bool = False,
    narrow: bool = False,
) -> tuple[Tensor, Tensor]:
    """Top-k of softmax(x W^T): 2 * T * D * E matrix FLOPs; the softmax, in float32, counts 5 vector FLOPs a score.

    ``wide``: the product is taken in float32. ``groups``, unless 0: only experts of the ``groups_kept``
    groups with the highest best score can be chosen (1 FLOP a score for the best of a group, 1 to turn the
    mask of groups around). ``scales``: weights are multiplied by a constant (1 a weight). ``renormalises``:
    they are divided by their sum (2). ``narrow``: they are given in the activations' type, not in float32.
    Sources: Jiang et al., Mixtral of Experts (2024), section 2.1, which renormalises; Qwen3 Technical
    Report (2025) with ``norm_topk_prob``; DeepSeek-AI, DeepSeek-V2 (2024), section 2.2.2, for the groups.
    """
    cells = tokens * experts
    with tape.operator("gate", dtype=WIDE if wide else precision.activations) as gate:
        logits = _logits(tape, gate, x, tokens, width, experts, precision, wide)
        if not wide and precision.widens:
            as_multiplied, logits = logits, tape.kernel([logits], cells * WIDE_BYTES)
            tape.free(as_multiplied)
        scores = tape.kernel([logits], cells * WIDE_BYTES, vector_flops=SOFTMAX_FLOPS * cells)
        if groups:
            places = tape.empty(tokens * groups * INDEX_BYTES)
            best = tape.kernel([scores], tokens * groups * WIDE_BYTES, vector_flops=cells, more=[places])
            tape.free(places)
            whole, scores = scores, _limited(tape, scores, best, tokens, experts, groups, groups_kept)
            tape.free(whole)
        weights = tape.empty(tokens * top_k * WIDE_BYTES)
        chosen = gate.keep(tape.kernel([scores], tokens * top_k * INDEX_BYTES, more=[weights]))
        weights = _weighed(tape, weights, tokens, top_k, renormalises, scales, guarded=False)
        if narrow and precision.widens:
            wide_weights, weights = weights, tape.kernel([weights], tokens * top_k * precision.activation_bytes)
            tape.free(wide_weights)
        gate.keep(weights)
    return chosen, weights


@operator
def sigmoid_gate(
    tape: Tape,
    x: Tensor,
    tokens: Number,
    width: Number,
    experts: Number,
    top_k: Number,
    precision: Precision,
    *,
    groups: int = 0,
    groups_kept: int = 0,
    renormalises: bool = True,
    scales: bool = True,
) -> tuple[Tensor, Tensor]:
    """Top-k of s + b with s = sigmoid(x W^T), all in float32; the weights are s without the bias b.

    2 * T * D * E matrix FLOPs; 2 vector FLOPs a score (sigmoid, bias). The bias, which balances the load
    in training, is a buffer in float32 and no parameter. ``groups``, unless 0: a group's score is the sum of
    its two best (2 FLOPs a group), and only experts of the ``groups_kept`` best groups can be chosen (1 a
    score to turn the mask of groups around).
    Weights are divided by their sum plus epsilon (2 a weight, 1 a token), and scaled (1 a weight).
    Source: DeepSeek-AI, DeepSeek-V3 Technical Report (2024), section 2.1.2, equations 12 to 16, and its
    ``MoEGate``.
    """
    cells = tokens * experts
    bias = Tensor(experts * WIDE_BYTES, weight=True)
    with tape.operator("gate", dtype=WIDE) as gate:
        logits = _logits(tape, gate, x, tokens, width, experts, precision, True)
        scores = tape.kernel([logits], cells * WIDE_BYTES, vector_flops=cells)
        biased = tape.kernel([scores, bias], cells * WIDE_BYTES, vector_flops=cells)
        if groups:
            places = tape.empty(2 * tokens * groups * INDEX_BYTES)
            best = tape.kernel([biased], 2 * tokens * groups * WIDE_BYTES, more=[places])
            tape.free(places)
            summed = tape.kernel([best], tokens * groups * WIDE_BYTES, vector_flops=2 * tokens * groups)
            tape.free(best)
            whole, biased = biased, _limited(tape, biased, summed, tokens, experts, groups, groups_kept)
            tape.free(whole)
        values = tape.empty(tokens * top_k * WIDE_BYTES)
        chosen = gate.keep(tape.kernel([biased], tokens * top_k * INDEX_BYTES, more=[values]))
        tape.free(values)
        picked = tokens * top_k * WIDE_BYTES
        weights = tape.kernel([Part(scores, picked), chosen], picked)
        weights = gate.keep(_weighed(tape, weights, tokens, top_k, renormalises, scales, guarded=True))
    return chosen, weights


def _logits(
    tape: Tape,
    gate: OperatorOnTape,
    x: Tensor,
    tokens: Number,
    width: Number,
    experts: Number,
    precision: Precision,
    wide: bool,
) -> Tensor:
    """x W^T, with both as float32 where the product is taken in it."""
    weight = tape.weight("weight", experts * width, precision.weight_bytes)
    element = WIDE_BYTES if wide else precision.activation_bytes
    wide_x = tape.kernel([x], tokens * width * WIDE_BYTES) if wide and precision.widens else x
    narrow_weight = wide and precision.weights != WIDE
    wide_weight = tape.kernel([weight], experts * width * WIDE_BYTES) if narrow_weight else weight
    logits = tape.kernel([wide_x, wide_weight], tokens * experts * element, matrix_flops=2 * tokens * width * experts)
    tape.free(*(tensor for tensor in (wide_x, wide_weight) if tensor.made_by is gate))
    return logits


def _limited(
    tape: Tape, scores: Tensor, of_groups: Tensor, tokens: Number, experts: Number, groups: int, groups_kept: int
) -> Tensor:
    """Scores with those outside the best groups replaced by a constant that is never chosen."""
    values = tape.empty(tokens * groups_kept * WIDE_BYTES)
    best = tape.kernel([of_groups], tokens * groups_kept * INDEX_BYTES, more=[values])
    tape.free(values, of_groups)
    kept = tape.kernel([], tokens * groups * WIDE_BYTES)
    tape.overwrite([best], tokens * groups_kept * WIDE_BYTES)
    tape.free(best)
    cells = tokens * experts
    # One group's row is as wide as it need be without a copy.
    spread = tape.kernel([kept], cells * WIDE_BYTES) if groups > 1 else kept
    if spread is not kept:
        tape.free(kept)
    inside = tape.kernel([spread], cells * BOOL_BYTES)
    outside = tape.kernel([inside], cells * BOOL_BYTES, vector_flops=cells)
    limited = tape.kernel([scores, outside], cells * WIDE_BYTES)
    tape.free(spread, inside, outside)
    return limited


def _weighed(
    tape: Tape, weights: Tensor, tokens: Number, top_k: Number, renormalises: bool, scales: bool, *, guarded: bool
) -> Tensor:
    """Weights over their sum (``guarded``: plus epsilon), then scaled."""
    number = tokens * top_k
    if renormalises:
        below = tape.kernel([weights], tokens * WIDE_BYTES, vector_flops=number)
        if guarded:
            bare, below = below, tape.kernel([below], tokens * WIDE_BYTES, vector_flops=tokens)
            tape.free(bare)
        whole, weights = weights, tape.kernel([weights, below], number * WIDE_BYTES, vector_flops=number)
        tape.free(whole, below)
    if scales:
        bare, weights = weights, tape.kernel([weights], number * WIDE_BYTES, vector_flops=number)
        tape.free(bare)
    return weights

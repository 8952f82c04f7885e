"""Rotary angles of a whole model, taken once a forward and used by every layer."""

from __future__ import annotations

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.operators.registry import operator
from modelmeter.cost.precision import INDEX_BYTES, WIDE_BYTES, Precision
from modelmeter.cost.tape import Tape, Tensor


@operator
def position_numbers(tape: Tape, positions: Number) -> Tensor:
    """Numbers of the new positions, [1, positions], as int64: counted, then moved behind those before (1 FLOP each)."""
    with tape.operator("position_numbers"):
        counted = tape.kernel([], positions * INDEX_BYTES)
        return tape.kernel([counted], positions * INDEX_BYTES, vector_flops=positions, keep=True)


@operator
def angle_table(
    tape: Tape, ids: Tensor, positions: Number, rotary_dim: int, precision: Precision
) -> tuple[Tensor, Tensor]:
    """cos and sin of position * frequency, [1, positions, rotary_dim] each, shared by all requests.

    Element by element in float32, no matrix product: 1 vector FLOP an angle, of which a position has
    rotary_dim / 2, then 2 an element of each table (the wave, and its scaling). ids [1, positions].
    Source: Su et al., RoFormer (2021), section 3.2; as ``LlamaRotaryEmbedding`` of transformers 5.
    """
    half = rotary_dim // 2
    angles_bytes = positions * half * WIDE_BYTES
    elements = positions * rotary_dim
    frequencies = Tensor(half * WIDE_BYTES, weight=True)
    with tape.operator("angle_table") as table:
        wide_ids = tape.kernel([ids], positions * WIDE_BYTES)
        angles = tape.kernel([wide_ids, frequencies], angles_bytes, vector_flops=positions * half)
        tape.free(wide_ids)
        doubled = tape.kernel([angles, angles], 2 * angles_bytes)
        results = []
        for _ in ("cos", "sin"):
            wave = tape.kernel([doubled], elements * WIDE_BYTES, vector_flops=elements)
            scaled = tape.kernel([wave], elements * WIDE_BYTES, vector_flops=elements)
            tape.free(wave)
            if precision.widens:
                narrow = tape.kernel([scaled], elements * precision.activation_bytes)
                tape.free(scaled)
                scaled = narrow
            results.append(table.keep(scaled))
    return results[0], results[1]

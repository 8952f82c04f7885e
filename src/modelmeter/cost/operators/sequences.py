"""What a decoder does around its layers: positions, the causal mask, image features, the cache."""

from __future__ import annotations

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.operators.registry import operator
from modelmeter.cost.precision import BOOL_BYTES, INDEX_BYTES, Precision
from modelmeter.cost.tape import Part, Read, Tape, Tensor


@operator
def causal_mask(
    tape: Tape, attended: Read | None, batch: Number, queries: Number, keys: Number, precision: Precision
) -> tuple[Tensor, Tensor]:
    """Position ids [batch, keys] and the additive mask [batch, 1, queries, keys].

    ``attended`` [batch, keys] says which positions are no padding; ones are made where it is not given.
    3 FLOPs a position for the ids and 1 for the padding, 1 for each query and key, and 2 more a request.
    """
    row = batch * keys
    square = queries * keys
    cells = batch * square
    mask_bytes = cells * precision.activation_bytes
    with tape.operator("causal_mask") as mask:
        if attended is None:
            attended = tape.kernel([], row * INDEX_BYTES)
        summed = tape.kernel([attended], row * INDEX_BYTES, vector_flops=row)
        shifted = tape.kernel([summed], row * INDEX_BYTES, vector_flops=row)
        tape.free(summed)
        positions = mask.keep(tape.kernel([shifted], row * INDEX_BYTES, vector_flops=row))
        tape.free(shifted)
        index = tape.kernel([], keys * INDEX_BYTES)
        earlier = tape.kernel([index, Part(index, queries * INDEX_BYTES)], square * BOOL_BYTES, vector_flops=square)
        real = tape.kernel([attended], row * BOOL_BYTES, vector_flops=row)
        visible = tape.kernel([earlier, real], cells * BOOL_BYTES, vector_flops=cells)
        tape.free(earlier, real)
        zeros = tape.kernel([], mask_bytes)
        hidden = tape.kernel([visible], cells * BOOL_BYTES, vector_flops=cells)
        return positions, tape.kernel([zeros, hidden], mask_bytes, keep=True)


@operator
def scatter_features(tape: Tape, hidden: Read, seen: Read, features: Read, written: Number) -> Tensor:
    """Image features put in the places of their tokens: everything moved once, no FLOPs."""
    with tape.operator("scatter_features"):
        return tape.kernel([hidden, seen, features], written, keep=True)


@operator
def append_to_cache(
    tape: Tape, held: Tensor | None, new: Tensor, elements: Number, past_elements: Number, precision: Precision
) -> tuple[Tensor, Tensor]:
    """New keys (or values) behind those held: (what the cache holds then, what attention reads).

    Run as a concatenation, which copies the cache and lets go of what was held; ideally only the new part
    is written in place.
    A cache in another type is converted on both ways.
    """
    converts = precision.kv != precision.activations
    if held is None and not converts:
        return new, new
    stored_bytes = elements * precision.kv_bytes
    with tape.operator("append_to_cache", ideal_read=new.bytes, ideal_written=stored_bytes) as operation:
        stored = tape.kernel([new], stored_bytes) if converts else new
        if held is not None:
            grown = tape.kernel([held, stored], past_elements * precision.kv_bytes + stored_bytes)
            tape.free(held)
            if converts:
                tape.free(stored)
            stored = grown
        if stored is not new:
            operation.keep(stored)
        read = stored
        if converts:
            read = tape.kernel([stored], (past_elements + elements) * precision.activation_bytes)
            operation.keep(read)
    return stored, read

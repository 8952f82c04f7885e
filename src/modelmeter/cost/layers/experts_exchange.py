"""Bringing copies of tokens to the device that has their expert, and what experts gave back to the tokens.

On one device, and where all devices have a part of every expert, copies are sorted by expert and nothing travels.
Where whole experts are spread over devices, one of two things happens. Devices that have all tokens each take the
copies for their own experts, and what they gave is added up with the rest of the layer. Devices that have tokens of
their own send every copy to the device of its expert, and get the result back.

Costs are linear in the copies of the busiest device, which differ from layer to layer: they are counted for all
layers and forwards together, like those of the experts.
Sources: Lepikhin et al., GShard (2020), section 3.2; Rajbhandari et al., DeepSpeed-MoE (2022), section 5.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.layers.parallel import Parallel
from modelmeter.cost.operators import all_to_all, combine, dispatch
from modelmeter.cost.precision import INDEX_BYTES, Precision
from modelmeter.cost.tape import Part, Tape, Tensor

Sorted = tuple[Tensor, Tensor, Tensor]
"""The order of copies, the copies themselves, and how many each expert has."""


@frozen
class Travel:
    """What is brought in one layer: T tokens of D channels, K copies each; ``most`` at once to the busiest device.

    ``exchanged`` copies in ``decisions`` layers and forwards, ``taken`` of them for its own experts.
    """

    tokens: Number
    hidden_size: int
    experts: int
    top_k: int
    most: Number
    taken: Number
    exchanged: Number
    decisions: Number
    precision: Precision
    parallel: Parallel

    @property
    def row_bytes(self) -> int:
        """Bytes of one copy."""
        return self.hidden_size * self.precision.activation_bytes

    def bring(self, tape: Tape, x: Tensor, chosen: Tensor) -> Sorted:
        """Copies sorted by expert, those of this device's experts."""
        if self.parallel.selects:
            return self._select(tape, x, chosen)
        sizes = (self.tokens, self.hidden_size, self.experts, self.top_k, self.precision)
        order, own, counts = dispatch(tape, x, chosen, *sizes)
        if not self.parallel.exchanges:
            return order, own, counts
        received = self._exchange(tape, own, self.most * self.row_bytes)
        return order, received, counts

    def bring_back(
        self, tape: Tape, results: Tensor, order: Tensor, weights: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What experts gave, added up token by token; and what lives until the layer ends."""
        if self.parallel.selects:
            return self._combine_own(tape, results, order, weights), ()
        if self.parallel.exchanges:
            results = self._exchange(tape, results, self.tokens * self.top_k * self.row_bytes)
        out, lingering = combine(
            tape, results, order, weights, self.tokens, self.hidden_size, self.top_k, self.precision
        )
        return out, (*lingering, results)

    def _select(self, tape: Tape, x: Tensor, chosen: Tensor) -> Sorted:
        sizes = (self.tokens, self.hidden_size, self.experts, self.top_k, self.precision)

        def take(rows: Number, whole: bool) -> None:
            tape.free(*dispatch(tape, x, chosen, *sizes, taken=rows))

        self._each(tape, take, self.taken)
        places = self.tokens * self.top_k * INDEX_BYTES
        return tape.given(places), tape.given(self.most * self.row_bytes), tape.given(self.experts * INDEX_BYTES)

    def _combine_own(self, tape: Tape, results: Tensor, order: Tensor, weights: Tensor) -> Tensor:
        sizes = (self.tokens, self.hidden_size, self.top_k, self.precision)

        def add_up_own(rows: Number, whole: bool) -> None:
            own = Part(results, rows * self.row_bytes)
            out, lingering = combine(tape, own, order, weights, *sizes, taken=rows)
            tape.free(out, *lingering)

        self._each(tape, add_up_own, self.taken)
        return tape.given(self.tokens * self.row_bytes)

    def _exchange(self, tape: Tape, rows_here: Tensor, arrived: Number) -> Tensor:
        """Rows sent to where they are needed, which frees them here; those of ``arrived`` bytes that came instead."""

        def send(rows: Number, whole: bool) -> None:
            tape.free(all_to_all(tape, rows_here, rows, self.row_bytes, self.parallel.experts))

        self._each(tape, send, self.exchanged)
        tape.free(rows_here)
        return tape.given(arrived)

    def _each(self, tape: Tape, body: Callable[[Number, bool], None], amount: Number) -> None:
        with tape.counted_together():
            tape.spread(body, amount=amount, over=self.decisions, largest=self.most)

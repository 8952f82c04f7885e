"""A forward written down in closed form: kernels, what they read and write, and what is live meanwhile.

Layers (``cost.layers``) call operators (``cost.operators``), operators put kernels on a tape. From the
kernels follow all costs:

- *eager bytes*: what each kernel reads and writes by itself;
- *ideal bytes* of an operator: what it reads of tensors that were there before it, each once, and what
  it leaves behind; tensors that only its own kernels see never leave the chip;
- *launches*: one a kernel;
- *peak*: the largest sum of live tensors, weights not counted.

Sizes are numbers of any kind (see ``cost.arithmetic``); nothing here branches on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.records import Amounts, Module, OperatorOnTape, Part, Place, Read, Record, Tensor


class Tape:
    """Records modules, operators and kernels in the order in which a forward runs them."""

    def __init__(self) -> None:
        self.modules: dict[str, Module] = {}
        self.record = Record()
        self.run = ""
        self.times: Number = 1
        self.live: Number = 0
        self.moments: dict[tuple[str, str], list[Number]] = {}
        """Live bytes after each kernel, by run and module."""
        self.present: dict[str, Number] = {}
        """1 where a run takes place at all, else 0; 1 if not given."""
        self._path: list[Module] = []
        self._stages: list[str] = ["other"]
        self._operators: list[OperatorOnTape] = []
        self._segment = ""
        self._counts = True
        self._watches = True

    @property
    def here(self) -> Module:
        """The module whose forward is being written."""
        return self._path[-1]

    # What runs where -----------------------------------------------------------------------------

    @contextmanager
    def module(
        self,
        name: str,
        class_name: str,
        *,
        members: Number | None = None,
        at: str | None = None,
        stage: str | None = None,
        series: bool = False,
        **configuration: Any,
    ) -> Iterator[Module]:
        """One call of a module.

        ``name`` is relative to the caller, unless ``at`` gives the whole id. ``members`` is how many
        equal modules the node stands for; as many as the caller's if not given. ``series``: they follow
        one another.
        """
        if at is None:
            at = f"{self.here.prefix}.{name}" if self._path and self.here.prefix else name
        node = self.modules.get(at)
        if node is None:
            caller = self.here if self._path else None
            count = members if members is not None else caller.members if caller else 1
            own_stage = stage or self._stages[-1]
            node = Module(
                at, class_name, caller.id if caller else "", count, own_stage, dict(configuration), series=series
            )
            self.modules[at] = node
        self._path.append(node)
        self._stages.append(stage or self._stages[-1])
        if self._counts:
            place = (at, self.run)
            self.record.calls[place] = self.record.calls.get(place, 0) + self.times
        self._moment()
        try:
            yield node
        finally:
            self._path.pop()
            self._stages.pop()

    @contextmanager
    def never_called(self, name: str, class_name: str, **configuration: Any) -> Iterator[Module]:
        """A module that has weights and is not run."""
        counts, watches = self._counts, self._watches
        self._counts = self._watches = False
        try:
            with self.module(name, class_name, **configuration) as node:
                yield node
        finally:
            self._counts, self._watches = counts, watches

    def weight(self, name: str, elements: Number, width: int) -> Tensor:
        """A parameter of the current module, of ``width`` bytes an element. Filed once, however often it is read."""
        self.here.parameters[name] = (elements, width)
        return Tensor(elements * width, weight=True)

    def returns(self, *tensors: Tensor) -> None:
        """What the current module's call gives back."""
        self.returns_bytes(sum((tensor.bytes for tensor in tensors), 0))

    def returns_bytes(self, number: Number) -> None:
        """Bytes of what the current module's call gives back, where it is a view of something larger."""
        if self._counts:
            place = (self.here.id, self.run)
            self.record.outputs[place] = self.record.outputs.get(place, 0) + number * self.times

    @contextmanager
    def staged(self, stage: str) -> Iterator[None]:
        """Everything inside counts for a stage, unless a module says otherwise."""
        self._stages.append(stage)
        try:
            yield
        finally:
            self._stages.pop()

    # Repetition ------------------------------------------------------------------------------------

    @contextmanager
    def repeated(self, times: Number, *, waits: str = "") -> Iterator[None]:
        """Everything inside runs this many times, one after the other, on equal shapes.

        ``waits`` names the repetitions if the host waits for the device in each of them.
        """
        before, segment = self.times, self._segment
        self.times, self._segment = self.times * times, waits or segment
        try:
            yield
        finally:
            self.times, self._segment = before, segment

    @contextmanager
    def counted_together(self) -> Iterator[None]:
        """What is recorded inside stands for all repetitions around it together."""
        before, self.times = self.times, 1
        try:
            yield
        finally:
            self.times = before

    def spread(self, body: Callable[[Number, bool], None], *, amount: Number, over: Number, largest: Number) -> None:
        """``over`` calls of a body whose costs are linear in its argument, which sums up to ``amount``.

        A sum of linear costs is worked out from two calls: c(x1) + ... + c(xn) = c(x1 + ... + xn) +
        (n - 1) c(0). The peak is that of a call with the argument ``largest``. The body's second
        argument is false in the call c(0), where what was already counted for all calls must not be
        counted again.
        """
        counts, watches = self._counts, self._watches
        if counts:
            self._watches = False
            outer, self.record = self.record, Record()
            body(amount, True)
            whole, self.record = self.record, Record()
            body(0, False)
            outer.add(whole)
            outer.add(self.record, over - 1)
            self.record = outer
        self._counts, self._watches = False, watches
        if watches:
            body(largest, True)
        self._counts = counts

    # Kernels -----------------------------------------------------------------------------------------

    @contextmanager
    def operator(
        self, name: str, *, dtype: str = "", ideal_read: Number | None = None, ideal_written: Number | None = None
    ) -> Iterator[OperatorOnTape]:
        """Kernels that make up one operator; what it does not keep is freed at its end.

        ``ideal_read`` and ``ideal_written`` replace the rule where an operator changes something in place.
        """
        operator = OperatorOnTape(name, dtype)
        self._operators.append(operator)
        yield operator
        self._operators.pop()
        stays = (*operator.kept, *operator.lingering)
        self.free(*(tensor for tensor in operator.made if tensor not in stays))
        read, weights, written = operator.ideal_bytes()
        amounts = operator.amounts
        amounts.calls = 1
        amounts.bytes_read = read if ideal_read is None else ideal_read
        amounts.weight_bytes_read = weights
        amounts.bytes_written = written if ideal_written is None else ideal_written
        if self._counts:
            place = Place(self.here.id, self.run, self._stages[-1], name, dtype, self._segment)
            self.record.costs.setdefault(place, Amounts()).add(amounts, self.times)

    def kernel(
        self,
        reads: Sequence[Read],
        writes: Number,
        *,
        vector_flops: Number = 0,
        matrix_flops: Number = 0,
        launches: Number = 1,
        discards: Number = 0,
        more: Sequence[Tensor] = (),
        keep: bool = False,
    ) -> Tensor:
        """One kernel: reads tensors, writes a new one of ``writes`` bytes, which is live from now on.

        ``launches`` is 0 where the kernel is not needed: the caller gives sizes of 0 along with it.
        ``discards`` are bytes that it writes besides and that nobody reads; ``more`` its further results.
        """
        operator = self._operators[-1]
        made = Tensor(writes, made_by=operator)
        operator.made.append(made)
        amounts = operator.amounts
        for read in reads:
            amounts.eager_bytes_read = amounts.eager_bytes_read + read.bytes
            operator.note_read(read)
        amounts.eager_bytes_written = amounts.eager_bytes_written + writes + discards
        for result in more:
            amounts.eager_bytes_written = amounts.eager_bytes_written + result.bytes
        amounts.vector_flops = amounts.vector_flops + vector_flops
        amounts.matrix_flops = amounts.matrix_flops + matrix_flops
        amounts.launches = amounts.launches + launches
        unread = Tensor(discards, live=True)
        self.live = self.live + discards
        self.hold(made)
        self.free(unread)
        if keep:
            operator.kept.append(made)
        return made

    def empty(self, number_of_bytes: Number) -> Tensor:
        """Memory that an operator takes without a kernel."""
        made = Tensor(number_of_bytes, made_by=self._operators[-1])
        self._operators[-1].made.append(made)
        return self.hold(made)

    def overwrite(self, reads: Sequence[Read], written: Number) -> None:
        """A kernel that writes into memory that is there."""
        operator = self._operators[-1]
        amounts = operator.amounts
        for read in reads:
            amounts.eager_bytes_read = amounts.eager_bytes_read + read.bytes
            operator.note_read(read)
        amounts.eager_bytes_written = amounts.eager_bytes_written + written
        amounts.launches = amounts.launches + 1

    # What is live --------------------------------------------------------------------------------------

    def hold(self, tensor: Tensor) -> Tensor:
        """A tensor becomes live."""
        tensor.live = True
        self.live = self.live + tensor.bytes
        self._moment()
        return tensor

    def given(self, number_of_bytes: Number) -> Tensor:
        """A live tensor that no kernel here has made: an input, a cache."""
        return self.hold(Tensor(number_of_bytes))

    def free(self, *tensors: Tensor) -> None:
        """Tensors that nothing needs any more."""
        for tensor in tensors:
            if tensor.live and not tensor.weight:
                tensor.live = False
                self.live = self.live - tensor.bytes

    def _moment(self) -> None:
        if self._watches and self._path:
            self.moments.setdefault((self.run, self.here.id), []).append(self.live)


__all__ = ["Part", "Read", "Tape", "Tensor"]

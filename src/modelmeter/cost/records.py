"""What a tape holds: tensors, costs by place, and the modules that they belong to."""

from __future__ import annotations

from attrs import define, field, frozen

from modelmeter.cost.arithmetic import Number


@define(eq=False)
class Tensor:
    """A tensor that kernels read: its bytes, and whether it is a weight (always resident, never counted as live)."""

    bytes: Number
    weight: bool = False
    made_by: object = None
    live: bool = False


@frozen(eq=False)
class Part:
    """Some bytes of a tensor: a slice, or the rows that a gather reads."""

    tensor: Tensor
    bytes: Number


Read = Tensor | Part

AMOUNTS = (
    "calls",
    "matrix_flops",
    "vector_flops",
    "bytes_read",
    "bytes_written",
    "eager_bytes_read",
    "eager_bytes_written",
    "launches",
    "weight_bytes_read",
    "wire_bytes",
    "wire_steps",
)


@define(slots=True)
class Amounts:
    """Costs that add up, of all calls together. ``bytes_*`` are ideal ones."""

    calls: Number = 0
    matrix_flops: Number = 0
    vector_flops: Number = 0
    bytes_read: Number = 0
    bytes_written: Number = 0
    eager_bytes_read: Number = 0
    eager_bytes_written: Number = 0
    launches: Number = 0
    weight_bytes_read: Number = 0
    """The part of ``bytes_read`` that is weights."""
    wire_bytes: Number = 0
    """What a device sends to others."""
    wire_steps: Number = 0
    """Messages that follow one another: what is sent in one may depend on what came with the one before."""

    def add(self, other: Amounts, times: Number = 1) -> None:
        """Add another's amounts, some times."""
        for name in AMOUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name) * times)


@frozen
class Place:
    """Where costs are filed: a module, the part of the run, its stage, the operator, and its product's dtype.

    ``segment`` is what the host issues without waiting for the device; see ``cost.roofline``.
    """

    module: str
    run: str
    stage: str
    operator: str
    dtype: str
    segment: str = ""


@define
class Module:
    """One node of the tree: a family of equal modules. ``members`` is how many there are."""

    id: str
    class_name: str
    caller: str
    members: Number
    stage: str
    configuration: dict[str, object] = field(factory=dict)
    parameters: dict[str, tuple[Number, int]] = field(factory=dict)
    """Name of an own parameter to its elements in one member, and bytes of an element."""
    core: bool = False
    """Whether ids of modules below begin anew: the root and the core, whose prefix is dropped."""
    series: bool = False
    """Whether the members follow one another, each fed by the one before it."""

    @property
    def prefix(self) -> str:
        """What ids of callees begin with."""
        return "" if self.core else self.id

    @property
    def parameter_count(self) -> Number:
        """Elements of the own parameters of all members."""
        return sum((elements for elements, _ in self.parameters.values()), 0) * self.members

    @property
    def weight_bytes(self) -> Number:
        """Bytes of the own parameters of all members."""
        return sum((elements * width for elements, width in self.parameters.values()), 0) * self.members


@define
class Record:
    """Costs by place; calls, and bytes of results, by module and run."""

    costs: dict[Place, Amounts] = field(factory=dict)
    calls: dict[tuple[str, str], Number] = field(factory=dict)
    outputs: dict[tuple[str, str], Number] = field(factory=dict)

    def add(self, other: Record, times: Number = 1) -> None:
        """Add another record, some times."""
        for place, amounts in other.costs.items():
            self.costs.setdefault(place, Amounts()).add(amounts, times)
        for mine, theirs in ((self.calls, other.calls), (self.outputs, other.outputs)):
            for where, number in theirs.items():
                mine[where] = mine.get(where, 0) + number * times


@define(eq=False)
class OperatorOnTape:
    """An operator while its kernels are put on the tape."""

    name: str
    dtype: str
    made: list[Tensor] = field(factory=list)
    kept: list[Tensor] = field(factory=list)
    lingering: list[Tensor] = field(factory=list)
    read_whole: list[Tensor] = field(factory=list)
    read_parts: list[Part] = field(factory=list)
    amounts: Amounts = field(factory=Amounts)

    def keep(self, tensor: Tensor) -> Tensor:
        """A result: it outlives the operator and counts as written."""
        self.kept.append(tensor)
        return tensor

    def linger(self, tensor: Tensor) -> Tensor:
        """Something that stays live after the operator although nobody reads it; the caller frees it."""
        self.lingering.append(tensor)
        return tensor

    def note_read(self, read: Read) -> None:
        """A kernel reads something; what this operator made itself is no input."""
        tensor = read.tensor if isinstance(read, Part) else read
        if tensor.made_by is self:
            return
        if isinstance(read, Part):
            self.read_parts.append(read)
        elif read not in self.read_whole:
            self.read_whole.append(read)

    def ideal_bytes(self) -> tuple[Number, Number, Number]:
        """Bytes read, of them weights, and written if the operator were one kernel that keeps what is between."""
        read: Number = 0
        weights: Number = 0
        parts = [part for part in self.read_parts if part.tensor not in self.read_whole]
        for tensor, number in (*((t, t.bytes) for t in self.read_whole), *((p.tensor, p.bytes) for p in parts)):
            read = read + number
            if tensor.weight:
                weights = weights + number
        return read, weights, sum((tensor.bytes for tensor in self.kept), 0)

"""The call graph document: what ran, who called whom, on which shapes, and what it cost.

Node ids are the names of ``named_modules()`` of the traced module. Everything is counted per module
id; costs in bytes and floating-point operations are exact integers. One multiply-add is 2 FLOPs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

SCHEMA_VERSION = 1

REQUIRED = "required"
"""Metadata of a field that a document must have, though an object may be made without it."""

STAGES = ("vision", "projector", "prefill", "decode", "other")
"""The parts that a run is split into; their costs add up to the whole."""

BACKWARD = "backward"
"""How the names of a training run's backwards begin, and their stage."""

RUN_STAGES = (*STAGES, BACKWARD)
"""The parts of any run: a training run has one more."""


@frozen
class TensorSignature:
    """One tensor of a call: its shape, its dtype as torch prints it, and where it was passed."""

    shape: tuple[int, ...]
    dtype: str
    argument: str
    device: str | None = None
    requires_grad: bool | None = None


@frozen
class ArgumentType:
    """An argument that is no tensor, by its type."""

    argument: str
    type: str


@define
class Signature:
    """One distinct form that a module's inputs or outputs took, and how many calls had it."""

    tensors: list[TensorSignature] = field(factory=list)
    non_tensor: list[ArgumentType] = field(factory=list)
    calls: int = 0


@define
class OperatorCost:
    """All calls of one operator by one module (own operations only)."""

    calls: int = 0
    matrix_flops: int = 0
    vector_flops: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


@define
class ForwardOperator:
    """All calls of one operator by one module in one forward, as an estimate of time needs them.

    ``launches`` are the calls that start a kernel; bytes are what these read and write one by one.
    """

    calls: int = 0
    launches: int = 0
    matrix_flops_by_dtype: dict[str, int] = field(factory=dict)
    vector_flops: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


@define
class Cost:
    """What a module, a stage or a forward cost.

    ``bytes_read`` and ``bytes_written`` are eager bytes: what each operation reads and writes by
    itself. ``peak_bytes`` is the largest live storage while it ran, inputs and caches included and
    weights not; it is given for totals only.
    """

    matrix_flops: int = 0
    matrix_flops_by_dtype: dict[str, int] = field(factory=dict)
    vector_flops: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    launches: int = 0
    output_bytes: int = 0
    peak_bytes: int | None = None

    def add(self, other: Cost) -> None:
        """Add another cost to this one; peaks are not added, the larger one stays."""
        self.matrix_flops += other.matrix_flops
        self.vector_flops += other.vector_flops
        self.bytes_read += other.bytes_read
        self.bytes_written += other.bytes_written
        self.launches += other.launches
        self.output_bytes += other.output_bytes
        for dtype, flops in other.matrix_flops_by_dtype.items():
            self.matrix_flops_by_dtype[dtype] = self.matrix_flops_by_dtype.get(dtype, 0) + flops
        if other.peak_bytes is not None:
            self.peak_bytes = max(self.peak_bytes or 0, other.peak_bytes)


@define
class ModuleCost:
    """A module's cost without its callees (own) and with them (total)."""

    own: Cost = field(factory=Cost)
    total: Cost = field(factory=Cost)


@frozen
class ParameterInfo:
    """A module's own parameters. ``shared`` names those that another module owns as well."""

    count: int = 0
    bytes: int = 0
    dtypes: tuple[str, ...] = ()
    shared: dict[str, str] = field(factory=dict)


@frozen
class Event:
    """A module call that begins or ends; ``index`` numbers the events in order."""

    event: str
    name: str
    parent: str | None
    index: int


@frozen
class Assumption:
    """A value that shape-only tensors could not give, and the rule that gave it."""

    module: str
    operator: str
    rule: str
    shape: tuple[int, ...]
    dtype: str
    calls: int


def _named_by_edges(_: Any, attribute: Any, value: dict[str, int]) -> None:
    for key in value:
        if "->" not in key:
            raise ValueError(f"{attribute.name} has the key {key!r:.40}, expected 'caller->callee'")


@frozen
class LiveTensor:
    """Storages that were live at the peak: ``count`` equal ones that one operation of one module made."""

    module: str
    operator: str
    shape: tuple[int, ...]
    dtype: str
    count: int
    bytes: int


@frozen
class PeakMoment:
    """When most storage was live: the operation after which it was, and the storages, the largest first."""

    forward: str
    module: str
    operator: str
    bytes: int
    tensors: tuple[LiveTensor, ...] = ()


@frozen
class MemoryTimeline:
    """Live bytes over the run, weights not included: a point in each list at the same place, in order.

    ``operations`` is how many moments the run had: operations inside modules, and entries into modules (operator
    ``input``). Of a long run only some are kept, the least and the most of every stretch, among them always the
    largest of all. ``numbers`` says which.
    """

    operations: int
    numbers: tuple[int, ...]
    bytes: tuple[int, ...]
    modules: tuple[str, ...]
    operators: tuple[str, ...]
    stages: tuple[str, ...]

    def __attrs_post_init__(self) -> None:
        points = len(self.numbers)
        for key in ("bytes", "modules", "operators", "stages"):
            if len(getattr(self, key)) != points:
                raise ValueError(f"memory_timeline.{key} has {len(getattr(self, key))} entries, numbers has {points}")
        if any(
            after <= before for before, after in zip((-1, *self.numbers), (*self.numbers, self.operations), strict=True)
        ):
            raise ValueError(f"memory_timeline.numbers do not rise from 0 to below operations, {self.operations}")
        if any(live < 0 for live in self.bytes):
            raise ValueError("memory_timeline.bytes has a negative number")


@define
class Forward:
    """One forward of the root module; the document's own keys are the sum over the forwards."""

    name: str
    call_counts: dict[str, int] = field(factory=dict)
    edges: dict[str, int] = field(factory=dict, validator=_named_by_edges)
    op_call_counts: dict[str, int] = field(factory=dict)
    input_metadata: dict[str, list[Signature]] = field(factory=dict)
    output_metadata: dict[str, list[Signature]] = field(factory=dict)
    costs: dict[str, ModuleCost] = field(factory=dict)
    operators: dict[str, dict[str, ForwardOperator]] = field(factory=dict)
    """Own operations by module and operator, on request: what a report needs besides."""


@define
class CallGraph:
    """The document. All keys but the five structural ones may be absent in documents from elsewhere."""

    call_counts: dict[str, int] = field(factory=dict, metadata={REQUIRED: True})
    edges: dict[str, int] = field(factory=dict, metadata={REQUIRED: True}, validator=_named_by_edges)
    op_call_counts: dict[str, int] = field(factory=dict, metadata={REQUIRED: True})
    module_children: dict[str, list[str]] = field(factory=dict, metadata={REQUIRED: True})
    module_types: dict[str, str] = field(factory=dict, metadata={REQUIRED: True})
    module_classes: dict[str, str] = field(factory=dict)
    module_stages: dict[str, str] = field(factory=dict)
    schema_version: int = SCHEMA_VERSION
    tool: dict[str, str] = field(factory=dict)
    model: dict[str, Any] = field(factory=dict)
    scenario: dict[str, Any] = field(factory=dict)
    assumptions: list[Assumption] = field(factory=list)
    unknown_operators: dict[str, int] = field(factory=dict)
    parameters: dict[str, ParameterInfo] = field(factory=dict)
    constructor_params: dict[str, dict[str, Any]] = field(factory=dict)
    bookkeeping_params: dict[str, dict[str, Any]] = field(factory=dict)
    input_metadata: dict[str, list[Signature]] = field(factory=dict)
    output_metadata: dict[str, list[Signature]] = field(factory=dict)
    events: list[Event] = field(factory=list)
    events_dropped: int = 0
    runtime_events: list[dict[str, Any]] = field(factory=list)
    data_edges: dict[str, int] = field(factory=dict, validator=_named_by_edges)
    costs: dict[str, ModuleCost] = field(factory=dict)
    operators: dict[str, dict[str, OperatorCost]] = field(factory=dict)
    kv_cache: dict[str, list[int]] = field(factory=dict)
    times: dict[str, Any] = field(factory=dict)
    stages: dict[str, Cost] = field(factory=dict)
    peak: PeakMoment | None = None
    memory_timeline: MemoryTimeline | None = None
    forwards: list[Forward] = field(factory=list)

    @property
    def root(self) -> str:
        """The id of the traced module: the one that is nobody's child."""
        children = {child for children in self.module_children.values() for child in children}
        roots = [name for name in self.module_types if name not in children]
        if roots:
            return roots[0]
        return next(iter(self.call_counts), "")

    @property
    def is_lower_bound(self) -> bool:
        """True where an operation ran whose FLOPs are not known; totals are then lower bounds."""
        return bool(self.unknown_operators)

    @property
    def total(self) -> Cost:
        """The whole run: the sum over its stages, with the largest peak."""
        whole = Cost()
        for cost in self.stages.values():
            whole.add(cost)
        root = self.costs.get(self.root)
        if root is not None:
            whole.output_bytes = root.total.output_bytes
            whole.peak_bytes = root.total.peak_bytes
        return whole

    @property
    def parameter_count(self) -> int:
        """Parameters of all modules, shared ones once."""
        return sum(info.count for info in self.parameters.values())

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the document as JSON, beside the target and renamed into place.

        Raises OutputError if the file exists and ``force`` is not set.
        """
        from modelmeter.schema.codec import dump_json
        from modelmeter.schema.files import write_file

        return write_file(Path(path), dump_json(self), force=force)

    @classmethod
    def load(cls, path: str | Path) -> CallGraph:
        """Read a document strictly: unknown keys and wrong types are refused with their place.

        Raises DocumentError.
        """
        from modelmeter.schema.checks import check_call_graph
        from modelmeter.schema.codec import load_json

        graph = load_json(Path(path), cls)
        check_call_graph(graph, str(path))
        return graph

    def to_json(self) -> str:
        """The document as JSON text, the same bytes for the same content."""
        from modelmeter.schema.codec import dump_json

        return dump_json(self)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from modelmeter.schema.notebook import call_graph_table

        return call_graph_table(self)

    def __repr__(self) -> str:
        from modelmeter.units import format_bytes, format_count, format_flops

        total = self.total
        bound = ">=" if self.is_lower_bound else ""
        parts = [
            f"{len(self.call_counts)} modules ran {sum(self.call_counts.values())} times",
            f"{format_count(self.parameter_count)} parameters",
            f"{bound}{format_flops(total.matrix_flops + total.vector_flops)}",
            f"peak {format_bytes(total.peak_bytes or 0)}",
        ]
        if self.forwards:
            parts.insert(0, json.dumps([forward.name for forward in self.forwards][:3]).replace('"', ""))
        return f"<CallGraph {self.root}: {', '.join(parts)}>"

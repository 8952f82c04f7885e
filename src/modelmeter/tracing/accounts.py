"""Running sums of a trace: plain lists while it runs, schema objects at its end."""

from __future__ import annotations

from collections import Counter, defaultdict

import torch

from modelmeter.schema.callgraph import (
    ArgumentType,
    Cost,
    Forward,
    ForwardOperator,
    ModuleCost,
    OperatorCost,
    Signature,
    TensorSignature,
)
from modelmeter.tracing.signatures import SignatureKey

# Places in a cost list.
MATRIX, VECTOR, READ, WRITTEN, LAUNCHES, OUTPUT, CALLS = range(7)

CostList = list[int]
DtypeFlops = dict[torch.dtype, int]


def new_costs() -> CostList:
    """All zero."""
    return [0, 0, 0, 0, 0, 0, 0]


def add_costs(into: CostList, other: CostList) -> None:
    """Add one cost list to another."""
    for place in range(7):
        into[place] += other[place]


def add_flops(into: DtypeFlops, other: DtypeFlops) -> None:
    """Add matrix FLOPs by dtype."""
    for dtype, flops in other.items():
        into[dtype] = into.get(dtype, 0) + flops


def as_cost(costs: CostList, by_dtype: DtypeFlops, peak_bytes: int | None = None) -> Cost:
    """A cost list as a schema object."""
    return Cost(
        matrix_flops=costs[MATRIX],
        matrix_flops_by_dtype={str(dtype): flops for dtype, flops in by_dtype.items()},
        vector_flops=costs[VECTOR],
        bytes_read=costs[READ],
        bytes_written=costs[WRITTEN],
        launches=costs[LAUNCHES],
        output_bytes=costs[OUTPUT],
        peak_bytes=peak_bytes,
    )


class ModuleAccount:
    """Everything that one module did in one forward."""

    __slots__ = (
        "calls",
        "inputs",
        "operators",
        "outputs",
        "own_by_dtype",
        "peak",
        "product_dtypes",
        "result_bytes",
        "total",
        "total_by_dtype",
    )

    def __init__(self) -> None:
        self.calls = 0
        self.operators: dict[str, CostList] = {}
        self.own_by_dtype: DtypeFlops = {}
        self.product_dtypes: dict[str, DtypeFlops] = {}
        self.total = new_costs()
        self.total_by_dtype: DtypeFlops = {}
        self.peak = 0
        self.result_bytes = 0
        self.inputs: Counter[SignatureKey] = Counter()
        self.outputs: Counter[SignatureKey] = Counter()

    def cost(self) -> ModuleCost:
        """Own and total cost."""
        own = new_costs()
        for costs in self.operators.values():
            add_costs(own, costs)
        total = as_cost(self.total, self.total_by_dtype, self.peak)
        total.output_bytes = self.result_bytes
        return ModuleCost(as_cost(own, self.own_by_dtype), total)


class ForwardAccount:
    """One forward of the root module, or one call within it.

    ``lowest_peak`` is the peak of a stage in which nothing ran: -1 in a call, so that it can be told from 0.
    """

    def __init__(self, name: str, lowest_peak: int = 0) -> None:
        self.name = name
        self._lowest_peak = lowest_peak
        self.modules: dict[str, ModuleAccount] = defaultdict(ModuleAccount)
        self.edges: Counter[str] = Counter()
        self.data_edges: Counter[str] = Counter()
        self.stages: dict[str, tuple[CostList, DtypeFlops]] = {}
        self.stage_peaks: dict[str, int] = {}

    def stage(self, name: str) -> tuple[CostList, DtypeFlops]:
        """The running sums of a stage."""
        if name not in self.stages:
            self.stages[name] = (new_costs(), {})
            self.stage_peaks[name] = self._lowest_peak
        return self.stages[name]

    def as_forward(self, *, with_operators: bool = False) -> Forward:
        """The forward as a schema object, with its operators by module on request."""
        return Forward(
            name=self.name,
            call_counts={name: account.calls for name, account in self.modules.items() if account.calls},
            edges=dict(self.edges),
            op_call_counts={
                name: sum(costs[CALLS] for costs in account.operators.values())
                for name, account in self.modules.items()
                if account.operators
            },
            input_metadata={name: as_signatures(account.inputs) for name, account in self.modules.items()},
            output_metadata={name: as_signatures(account.outputs) for name, account in self.modules.items()},
            costs={name: account.cost() for name, account in self.modules.items()},
            operators=self.forward_operators() if with_operators else {},
        )

    def forward_operators(self) -> dict[str, dict[str, ForwardOperator]]:
        """Own operations of every module in this forward, with their launches and the dtypes of products."""
        return {
            name: {
                operator: ForwardOperator(
                    calls=costs[CALLS],
                    launches=costs[LAUNCHES],
                    matrix_flops_by_dtype={
                        str(dtype): flops for dtype, flops in account.product_dtypes.get(operator, {}).items()
                    },
                    vector_flops=costs[VECTOR],
                    bytes_read=costs[READ],
                    bytes_written=costs[WRITTEN],
                )
                for operator, costs in account.operators.items()
            }
            for name, account in self.modules.items()
            if account.operators
        }

    def operators(self) -> dict[str, dict[str, OperatorCost]]:
        """Own operations of every module."""
        return {
            name: {
                operator: OperatorCost(
                    calls=costs[CALLS],
                    matrix_flops=costs[MATRIX],
                    vector_flops=costs[VECTOR],
                    bytes_read=costs[READ],
                    bytes_written=costs[WRITTEN],
                )
                for operator, costs in account.operators.items()
            }
            for name, account in self.modules.items()
            if account.operators
        }


def as_signatures(counted: Counter[SignatureKey]) -> list[Signature]:
    """Distinct signatures with their calls, in the order in which they were first seen."""
    return [
        Signature(
            tensors=[
                TensorSignature(shape, str(dtype), argument, *details) for argument, shape, dtype, *details in tensors
            ],
            non_tensor=[ArgumentType(argument, kind) for argument, kind in others],
            calls=calls,
        )
        for (tensors, others), calls in counted.items()
    ]

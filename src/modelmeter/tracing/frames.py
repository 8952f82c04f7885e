"""A module call that is running."""

from __future__ import annotations

from modelmeter.tracing.accounts import CostList, DtypeFlops, ModuleAccount, new_costs


class Frame:
    """One module call that is running."""

    __slots__ = ("account", "by_dtype", "costs", "name", "peak", "producers", "stage", "stage_name")

    def __init__(self, name: str, account: ModuleAccount, stage_name: str, stage: tuple[CostList, DtypeFlops]) -> None:
        self.name = name
        self.account = account
        self.stage_name = stage_name
        self.stage = stage
        self.costs = new_costs()
        self.by_dtype: DtypeFlops = {}
        self.peak = 0
        self.producers: dict[int, frozenset[str]] = {}
        """Storage serial to the callees of this call whose outputs went into it."""

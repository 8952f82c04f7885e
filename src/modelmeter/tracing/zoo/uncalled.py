"""Why a module that owns parameters was not called: its parameters were read by others, or nobody needs it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from attrs import define, field
from torch import nn

from modelmeter.schema.callgraph import CallGraph
from modelmeter.tracing.modules import module_ids

READ = "its parameters are read without a call"
UNUSED = "this forward does not use it"


@define
class Readings:
    """Which modules' parameters were asked for by name; ``forget`` what building asked for."""

    ids: dict[int, str] = field(factory=dict)
    read: set[str] = field(factory=set)

    def watch(self, module: nn.Module) -> None:
        """Watch the parts of a network, under the ids that its call graph has."""
        self.ids = dict(module_ids(module, getattr(module, "base_model_prefix", "")).by_identity)

    def forget(self, _: str = "") -> None:
        self.read.clear()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """For the time of a block every reading of a parameter is seen."""
        original = nn.Module.__getattr__

        def reading(module: nn.Module, name: str) -> Any:
            own = name in module.__dict__.get("_parameters", ()) and id(module) in self.ids
            # The tracer describes modules and compares their parameters; that is no use of them.
            if own and not str(sys._getframe(1).f_globals.get("__name__")).startswith("modelmeter."):
                self.read.add(self.ids[id(module)])
            return original(module, name)

        with mock.patch.object(nn.Module, "__getattr__", reading):
            yield

    def uncalled(self, graph: CallGraph) -> dict[str, str]:
        """Modules with parameters of their own that were not called, each with the reason.

        A repeated module may have been replayed: what was read in the first of its kind is read in all.
        """
        read = {_of_any_index(module) for module in self.read}
        owners = [module for module, info in graph.parameters.items() if info.count]
        return {
            module: READ if _of_any_index(module) in read else UNUSED
            for module in owners
            if not graph.call_counts.get(module)
        }


def _of_any_index(module: str) -> str:
    return ".".join("#" if part.isdigit() else part for part in module.split("."))

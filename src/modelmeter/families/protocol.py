"""What a family is: a configuration, a network, and inputs for a scenario."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from attrs import field, frozen

from modelmeter.schema.scenario import Scenario

if TYPE_CHECKING:
    from torch import nn


@frozen
class ForwardCall:
    """One forward of the root module: its name in the document and its arguments."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(factory=dict)


Forwards = Generator[ForwardCall, Any, None]
"""Yields the forwards of a run in order and is sent each one's output, which the next may need."""


@frozen
class RuntimeProbe:
    """A method to wrap for the time of a trace, and what to note from each of its calls.

    ``observe(args, kwargs)`` returns the runtime events of one call, without keeping the arguments.
    """

    owner: Any
    method: str
    observe: Callable[[tuple[Any, ...], Mapping[str, Any]], Sequence[dict[str, Any]]]


class Family(Protocol):
    """Everything that ModelMeter needs to know about one kind of model.

    A family's folder holds a module-level ``FAMILY``; the registry finds it by itself. Only ``build``,
    ``forwards`` and ``runtime_probes`` may import torch.
    """

    name: str
    core: str
    """The submodule whose prefix is dropped from module ids; empty if none."""

    def default_configuration(self) -> Any:
        """The published configuration."""
        ...

    def read_configuration(self, source: Mapping[str, Any]) -> Any:
        """A configuration from its published form; ConfigurationError for what is not understood."""
        ...

    def recognises(self, source: Mapping[str, Any]) -> bool:
        """Whether a configuration file belongs to this family."""
        ...

    def describe(self, config: Any, scenario: Scenario) -> dict[str, Any]:
        """The scenario as it is run, for the document; ScenarioError for what the model cannot have."""
        ...

    def build(self, config: Any, scenario: Scenario) -> nn.Module:
        """The network, in evaluation mode, with parameters in the scenario's dtype."""
        ...

    def forwards(self, module: nn.Module, config: Any, scenario: Scenario) -> Forwards:
        """Prefill and decode steps with example inputs."""
        ...

    def stage_of(self, module_id: str) -> str | None:
        """The stage of a module during prefill; None where it is its caller's."""
        ...

    def runtime_probes(self, module: nn.Module) -> Sequence[RuntimeProbe]:
        """Where loop counts can be read while the model runs."""
        ...

"""What a family is: a configuration, a network, and inputs for a scenario."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from attrs import field, frozen

from modelmeter.cost.closed_form import Costs
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

    def small_configuration(self) -> Any:
        """A configuration that runs for real in seconds."""
        ...

    def read_configuration(self, source: Mapping[str, Any]) -> Any:
        """A configuration from its published form; ConfigurationError for what is not understood."""
        ...

    def restore_configuration(self, data: Mapping[str, Any]) -> Any:
        """A configuration from the plain data that a report holds; ConfigurationError for what is not understood."""
        ...

    def model_facts(self, config: Any) -> dict[str, Any]:
        """What a report says of the model: sizes, layers, heads, vision backbone, experts, notes."""
        ...

    def qualified_class_name(self, class_name: str) -> str:
        """A module class of the network with the module that defines it."""
        ...

    def recognises(self, source: Mapping[str, Any]) -> bool:
        """Whether a configuration file belongs to this family."""
        ...

    def describe(self, config: Any, scenario: Scenario) -> dict[str, Any]:
        """The scenario as it is run, for the document; ScenarioError for what the model cannot have."""
        ...

    def costs(self, config: Any, scenario: Scenario) -> Costs:
        """The closed form of what the scenario costs; ScenarioError for what the model cannot have."""
        ...

    def scenario_keys(self, config: Any, scenario: Scenario) -> tuple[dict[str, Any], dict[str, Any]]:
        """Keys of the scenario besides those of the closed form, and which of its keys follow from them.

        (name to value, name of a closed form's key to an expression of the others).
        """
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

"""The closed form of what was measured: its operators, and which module's and stage's time each belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve, fields, frozen

from modelmeter.errors import DocumentError, ModelMeterError, UnknownNameError
from modelmeter.families.protocol import Family
from modelmeter.families.registry import families, get_family
from modelmeter.patterns import expand
from modelmeter.planning.calibration.inputs import NamedMeasurement
from modelmeter.schema.cost import DECODE, CostTree, OperatorCosts
from modelmeter.schema.measurement import Measurement
from modelmeter.schema.scenario import Page, Scenario

ROUTING = "random:0"
"""A measured gate routes by its weights. Random ones spread tokens about like this; which experts is no matter."""

_MADE_BY_THE_FAMILY = ("num_pages",)
_REMEDY = "measure it again with this version"


@frozen
class Operator:
    """One operator of the closed form, and the node that it belongs to."""

    node: str
    costs: OperatorCosts
    eager: bool
    """Whether the host issued its launches one by one."""


@frozen
class CostedMeasurement:
    """A measurement with its operators. ``stages`` and ``modules`` hold what was measured, in seconds.

    ``modules``: (stage, node) to its share of the stage's time. They are of runs with a timer around every
    module, so only their shares are used. A module that runs no operator of its own takes some time as
    well, in Python; that is spread over the others, so that the modules of a stage add up to it.
    """

    name: str
    scenario: Scenario
    operators: tuple[Operator, ...]
    stages: dict[str, float]
    modules: dict[tuple[str, str], float]


def costed(named: NamedMeasurement) -> CostedMeasurement:
    """The closed form of a measurement's own configuration and scenario.

    Raises DocumentError for a family without one, or a document that its family cannot have written.
    """
    measured = named.measurement
    family = _family(named)
    try:
        config = family.restore_configuration(_object(measured.model.get("config"), "model.config"))
        scenario = evolve(_scenario(measured.scenario), routing=ROUTING)
        tree = family.costs(config, scenario).tree()
    except ModelMeterError as error:
        raise DocumentError(f"{named.name}: {error.problem}", remedy=_REMEDY) from None
    captured = measured.conditions.execution == "graph"
    operators = tuple(
        Operator(node.id, entry, eager=not (captured and entry.stage == DECODE))
        for node in tree.nodes
        for entry in node.operators
    )
    stages = {stage: times.time_s for stage, times in measured.stages.items() if times.time_s > 0}
    if not stages:
        raise DocumentError(f"{named.name} has no time of any stage", remedy=_REMEDY)
    present = {operator.costs.stage for operator in operators}
    missing = sorted(set(stages) - present)
    if missing:
        raise DocumentError(f"{named.name}: its stage {missing[0]!r:.40} has no closed form", remedy=_REMEDY)
    return CostedMeasurement(
        named.name, scenario, operators, stages, _modules(measured, tree, operators, stages, captured)
    )


def _family(named: NamedMeasurement) -> Family:
    name = named.measurement.model.get("family")
    try:
        return get_family(str(name))
    except UnknownNameError:
        known = ", ".join(families())
        raise DocumentError(
            f"{named.name} is of the model family {name!r:.60}, which has no closed form",
            remedy=f"give measurements of {known}",
        ) from None


def _scenario(data: Mapping[str, Any]) -> Scenario:
    keys = {attribute.name for attribute in fields(Scenario)}
    unknown = sorted(set(data) - keys - set(_MADE_BY_THE_FAMILY))
    if unknown:
        raise DocumentError(f"the scenario has the key {unknown[0]!r:.40}", remedy=_REMEDY)
    values = {key: value for key, value in data.items() if key in keys}
    pages = values.get("pages", ())
    if not isinstance(pages, list):
        raise DocumentError(f"the scenario's pages are {pages!r:.80}", remedy=_REMEDY)
    return Scenario(**{**values, "pages": tuple(_page(page) for page in pages)})


def _object(data: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise DocumentError(f"{name} is {data!r:.80}, expected an object", remedy=_REMEDY)
    return data


def _page(given: Any) -> Page:
    data = _object(given, "a page of the scenario")
    if "width" in data:
        return Page(data["width"], data.get("height"))
    grid = data.get("grid")
    return Page(grid=tuple(grid) if isinstance(grid, list) else grid)


def _modules(
    measured: Measurement,
    tree: CostTree,
    operators: tuple[Operator, ...],
    stages: Mapping[str, float],
    captured: bool,
) -> dict[tuple[str, str], float]:
    node_of = {module: node.id for node in tree.nodes for module in expand(node.id)}
    working = {(operator.costs.stage, operator.node) for operator in operators}
    found: dict[tuple[str, str], float] = {}
    for stage, modules in measured.stage_modules.items():
        # A captured step is timed as a whole: the modules beside it are those of eager steps.
        if stage not in stages or (captured and stage == DECODE):
            continue
        own: dict[tuple[str, str], float] = {}
        for module, times in modules.items():
            place = stage, node_of.get(module, "")
            if place in working and times.own_time_s > 0:
                own[place] = own.get(place, 0.0) + times.own_time_s
        whole = sum(own.values())
        found |= {place: time_s / whole * stages[stage] for place, time_s in own.items()}
    return found

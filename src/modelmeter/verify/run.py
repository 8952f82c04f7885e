"""Runs both sides of some cases and compares them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from attrs import asdict, evolve

from modelmeter.families.protocol import Family
from modelmeter.families.without_torch import ClosedSide, Question
from modelmeter.routing import parse_routing
from modelmeter.schema.callgraph import CallGraph
from modelmeter.schema.cost import CostTree
from modelmeter.schema.scenario import Scenario
from modelmeter.tracing import trace_family
from modelmeter.verify.cases import Case
from modelmeter.verify.compare import compare
from modelmeter.verify.result import CaseResult, closed_totals, traced_totals
from modelmeter.verify.steps import compare_steps

TRACED_STEPS = 2
"""Decode steps that are run; more follow from them."""

VISION = ("vision", "projector")


def verify_cases(
    family: Family,
    config: Any,
    cases: Sequence[Case],
    *,
    stage: str | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Iterator[CaseResult]:
    """The results of some cases, one after the other.

    The closed forms of all cases are worked out in a process of their own, without torch, while the
    traces run here. ``stage`` "vision" compares the vision towers and the projector alone.
    Raises ScenarioError for what the model cannot have, before anything is run.
    """
    # A trace runs on one device, whatever a plan is to have.
    cases = [
        evolve(case, scenario=evolve(case.scenario, devices=1, tensor_parallel=1, expert_parallel=1)) for case in cases
    ]
    if stage == "vision":
        cases = [evolve(case, scenario=evolve(case.scenario, decode_steps=0)) for case in cases]
    for case in cases:
        case.scenario.check_traceable()
        family.describe(config, case.scenario)
    scenarios: list[Scenario] = []
    for case in cases:
        scenarios += [_traced_part(case.scenario), case.scenario]
    closed = ClosedSide(Question(family.name, config, tuple(scenarios)))
    trees: list[CostTree] = []
    try:
        for place, case in enumerate(cases):
            report(f"{case.name} ({place + 1} of {len(cases)})")
            document = trace_family(family, scenarios[2 * place], config)
            trees = trees or closed.answer()
            yield _result(family, config, case, trees[2 * place], trees[2 * place + 1], document, stage)
    finally:
        closed.stop()


def _traced_part(scenario: Scenario) -> Scenario:
    return evolve(scenario, decode_steps=min(scenario.decode_steps, TRACED_STEPS))


def _result(
    family: Family,
    config: Any,
    case: Case,
    traced_tree: CostTree,
    whole_tree: CostTree,
    document: CallGraph,
    stage: str | None,
) -> CaseResult:
    comparison = compare(traced_tree, document, stages=VISION if stage == "vision" else ())
    steps = case.scenario.decode_steps
    later, compared = compare_steps(whole_tree, document, steps, parse_routing(case.scenario.routing).name)
    traced = traced_totals(document, steps)
    # The peak is that of the part that was traced.
    closed = evolve(closed_totals(whole_tree), peak_bytes=traced_tree.peak.bytes)
    if stage == "vision":
        closed, traced = (evolve(side, prefill_flops=0, peak_bytes=0) for side in (closed, traced))
    described = family.describe(config, case.scenario)
    scenario = {**asdict(case.scenario.resolve()), **described}
    return CaseResult(
        case.name, scenario, closed, traced, comparison.compared + compared, (*comparison.differences, *later)
    )

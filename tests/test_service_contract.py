"""The service against its published contract, with requests that schemathesis makes up from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from modelmeter.contracts.openapi import openapi_path
from served import Server, serving

SCHEMA = schemathesis.openapi.from_path(openapi_path())

# What the schema allows and the model does not have is refused with 422: a batch that fits no device, no page.
LEFT_OUT = [CHECKS.get_one("positive_data_acceptance")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("contract"), "--queue-length", 4) as found:
        yield found


@pytest.fixture(scope="module")
def known(server: Server) -> str:
    """The id of a report that is there."""
    report_id = server.run()
    server.summary(report_id)
    return report_id


def operations() -> Iterator[Any]:
    for found in SCHEMA.get_all_operations():
        operation = found.ok()
        yield pytest.param(operation, id=f"{operation.method} {operation.path}")


@pytest.mark.parametrize("examples", [12, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("operation", operations())
def test_every_answer_is_in_the_contract(
    server: Server, known: str, operation: Any, mode: GenerationMode, examples: int
) -> None:
    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.path_parameters):
        pytest.skip("it takes nothing that could be wrong")
    relaxed = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]

    @settings(max_examples=examples, deadline=None, suppress_health_check=relaxed, database=None, derandomize=True)
    @given(case=operation.as_strategy(generation_mode=mode), at_known=st.booleans())
    def ask(case: Any, at_known: bool) -> None:
        if at_known and mode is GenerationMode.POSITIVE and "report_id" in case.path_parameters:
            case.path_parameters["report_id"] = known
        case.call_and_validate(base_url=server.url, excluded_checks=LEFT_OUT)

    ask()


def test_the_service_is_well_afterwards(server: Server, known: str) -> None:
    assert server.get("/health").data["status"] == "ok"
    assert server.summary(known)

"""What the service answers besides reports: runs, health, devices, what-if answers, and problems (RFC 9457)."""

from __future__ import annotations

from attrs import field, frozen

from modelmeter.contracts.fields import Amount, Count, Identifier, Name, RunState, ScenarioKeys
from modelmeter.contracts.report import AnalyticModelReport


@frozen(kw_only=True)
class AnalyticRun:
    """One run of the store. ``reason`` says why it failed; the last three are there when it is done."""

    report_id: Identifier
    status: RunState
    reason: str | None = None
    model_variant: Name | None = None
    workload_profile_id: Name | None = None
    predicted_total_time_ms: Amount | None = None


@frozen(kw_only=True)
class AnalyticRunList:
    """The runs of the store, ordered by id."""

    reports: tuple[AnalyticRun, ...] = ()


@frozen(kw_only=True)
class ServiceHealth:
    """Whether the service works, and on how much."""

    status: str = "ok"
    version: str
    queued: Count = 0
    running: Count = 0
    reports: Count = 0


@frozen(kw_only=True)
class DeviceEntry:
    """One device of the catalogue. Peaks are dense, in operations a second, by dtype."""

    id: Name
    name: str
    vendor: str
    kind: str
    dense_flops_per_s: dict[str, Amount]
    memory_bytes: Count
    memory_bytes_per_s: Amount
    hourly_price_usd: Amount | None = None


@frozen(kw_only=True)
class DeviceList:
    """The devices that a scenario may name, ordered by id."""

    devices: tuple[DeviceEntry, ...] = ()


@frozen(kw_only=True)
class WhatIfRequest:
    """Keys of the scenario to change. The peaks override those of the device, for its dtypes in proportion."""

    scenario: ScenarioKeys = field(factory=dict)
    peak_tflops_per_s: Amount | None = None
    memory_tb_per_s: Amount | None = None


@frozen(kw_only=True)
class WhatIfAnswer:
    """The report before and after, whole and unrounded. ``ratio`` is after over before, by stage and for the totals.

    What was nothing before has no ratio.
    """

    before: AnalyticModelReport
    after: AnalyticModelReport
    ratio: dict[str, Amount] = field(factory=dict)


@frozen(kw_only=True)
class FieldProblem:
    """What is wrong with one field, and where: ``scenario.batch``."""

    path: str
    message: str


@frozen(kw_only=True)
class ProblemDetails:
    """Why a request was not answered (RFC 9457, ``application/problem+json``).

    ``run_status`` is the state of a run that has no report (409); ``errors`` name the fields (422).
    """

    type: str = "about:blank"
    title: str
    status: Count
    detail: str = ""
    instance: str | None = None
    run_status: RunState | None = None
    errors: tuple[FieldProblem, ...] = ()

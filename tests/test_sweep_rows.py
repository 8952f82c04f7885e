"""Rows of a sweep's file: each is what a single analysis of its scenario gives, or says why there is none."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from attrs import evolve
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelmeter.contracts.report import Interval
from modelmeter.cost.catalogue import find_device
from modelmeter.cost.memory import memory_need
from modelmeter.errors import OutputError, ScenarioError, UsageError
from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.planning.report import build_report
from modelmeter.planning.sweep_columns import DEFAULT_RESULTS, RESULTS
from modelmeter.planning.sweep_keys import read_value
from modelmeter.planning.sweep_plan import MOST_ROWS
from modelmeter.planning.sweep_run import run_sweep
from modelmeter.schema.callgraph import STAGES
from modelmeter.schema.scenario import Scenario
from small import SMALL_SIZES, small_config
from sweeps import SMALL_SPEC, read_rows, small_plan

VALUES: dict[str, list[Any]] = {
    "pages": ["1240x1754", "2x1", "3x3", "5x5", ["100x900", "1x1"]],
    "mode": ["gundam", "base"],
    "crop_mode": [True, False],
    "image_size": [48, 64, 65],
    "seq_len": [30, 300, 3000],
    "text_tokens": [0, 1, 33, 2100],
    "decode_steps": [0, 1, 7, 1500],
    "max_new_tokens": [1, 2, 9],
    "batch": [1, 3, 64, 10**6],
    "device": ["h100-sxm", "rtx-5090", "t4", "a100-40g", "h200"],
    "execution": ["eager", "graph"],
    "dtype": ["bfloat16", "float32"],
    "kv_dtype": ["bfloat16", "float8_e4m3fn"],
    "decoder_attention": ["eager", "sdpa"],
    "head": ["all", "last"],
    "routing": ["balanced", "worst", "zipf:1"],
    "tensor_parallel": [1, 2, 3],
    "expert_parallel": [1, 4],
}

TOGETHER = [{"seq_len", "text_tokens"}, {"decode_steps", "max_new_tokens"}]


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """Some keys fixed, some with several values, over the small model."""
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=6, unique=True))
    for pair in TOGETHER:
        if pair <= set(names):
            names.remove(max(pair))
    varied = draw(st.integers(1, len(names)))
    axes = {
        name: draw(st.lists(st.sampled_from(VALUES[name]), min_size=1, max_size=3, unique_by=str))
        for name in names[:varied]
    }
    base = {name: draw(st.sampled_from(VALUES[name])) for name in names[varied:]}
    sizes = {key: size for key, size in SMALL_SIZES.items() if key not in axes}
    return {"model": "small.json", "base": {**sizes, **base}, "axes": axes, "columns": list(RESULTS)}


def scenario_of(spec: dict[str, Any], values: dict[str, Any]) -> Scenario:
    """One combination, as the options of a command would give it."""
    keys = {"decode_steps": 255, **{key: spec["base"][key] for key in spec["base"]}, **values}
    if "max_new_tokens" in keys:
        keys["decode_steps"] = keys.pop("max_new_tokens") - 1
    if "pages" in keys:
        keys["pages"] = read_value("pages", keys["pages"], Path())
    return Scenario(**keys)


def combinations(spec: dict[str, Any], plan: Any) -> list[dict[str, Any]]:
    """Values of every row, in the rows' order."""
    columns = {name: column for column, name in plan.spec.names.items()}
    rows: list[dict[str, Any]] = [{}]
    for name in plan.spec.axes.named:
        rows = [{**row, columns[name]: value} for row in rows for value in spec["axes"][columns[name]]]
    return rows


def check_interval(row: dict[str, str], name: str, interval: Interval | None) -> None:
    for suffix, case in (("", "estimate"), ("_low", "low"), ("_high", "high")):
        if interval is None:
            assert row[name + suffix] == ""
        else:
            assert float(row[name + suffix]) == pytest.approx(getattr(interval, case), rel=1e-12, abs=0)


def check_row(row: dict[str, str], scenario: Scenario, config: Any) -> None:
    """A row beside a report, or beside the closed form where a report refuses what does not fit."""
    device = find_device(scenario.device)
    timed = FAMILY.costs(config, scenario).timed(device, scenario.execution)
    need = memory_need(timed.tree, device)
    assert row["fits"] == ("true" if need.fits else "false")
    assert row["reason"] == ("" if need.fits else f"does not fit the memory of {device.id}")
    total = timed.tree.total
    for name in ("matrix_flops", "vector_flops", "ideal_bytes", "eager_bytes", "launches"):
        assert int(row[name]) == getattr(total, name)
    for name, number in [
        ("weight_bytes", timed.tree.weight_bytes),
        ("kv_cache_bytes", timed.tree.kv_cache_bytes),
        ("peak_live_bytes", timed.tree.peak.bytes),
        ("memory_bytes", need.total_bytes),
        ("memory_capacity_bytes", need.capacity_bytes),
        ("headroom_bytes", need.headroom_bytes),
        ("positions", FAMILY.describe(config, scenario)["seq_len"] + scenario.decode_steps),
    ]:
        assert int(row[name]) == number, name
    for stage, span in timed.stages.items():
        check_interval(row, f"{stage}_time_s", Interval(**span.seconds._asdict()))
        ranked = sorted(span.shares.values())
        if ranked[-1] - ranked[-2] > 1e-12 * ranked[-1] or not ranked[-1]:
            assert row[f"{stage}_bound"] == span.bound
    if need.fits:
        report = build_report(FAMILY, config, scenario, device)
        assert report.capacity is not None and report.totals is not None
        for name in (
            "time_to_first_token_s",
            "time_per_output_token_s",
            "total_time_s",
            "tokens_per_s",
            "pages_per_s",
            "pages_per_s_and_device",
            "price_per_1000_pages_usd",
        ):
            check_interval(row, name, getattr(report.capacity, name))
        assert int(row["matrix_flops"]) == report.totals.costs.matrix_flops
        assert int(row["memory_bytes"]) == report.capacity.memory_bytes


def check_rows(spec: dict[str, Any], rows: list[dict[str, str]], plan: Any, config: Any, most: int) -> None:
    """About so many of the rows, evenly."""
    expected = combinations(spec, plan)
    assert len(rows) == len(expected) == plan.rows
    for place in range(0, len(rows), 1 + len(rows) // most):
        row = rows[place]
        refusal = refusal_of(spec, expected[place], config)
        if not refusal:
            check_row(row, scenario_of(spec, expected[place]), config)
            continue
        assert row["fits"] == "false"
        assert all(row[name] == "" for name in RESULTS)
        too_long = "exceed the model's 2048"
        # A prompt that is too long has words for all lengths at once.
        assert row["reason"].endswith(refusal) or (too_long in row["reason"] and too_long in refusal)


def refusal_of(spec: dict[str, Any], values: dict[str, Any], config: Any) -> str:
    """Why there is no such scenario; empty where there is."""
    try:
        scenario = scenario_of(spec, values)
        FAMILY.costs(config, scenario).timed(find_device(scenario.device), scenario.execution)
    except ScenarioError as error:
        return str(error)
    return ""


@settings(max_examples=25, deadline=None)
@given(specs(), st.sampled_from([1, 5, 64, None]))
@example(
    # Each text is refused for a reason of its own.
    {"model": "small.json", "base": SMALL_SIZES, "axes": {"text_tokens": [2100, 0]}, "columns": list(RESULTS)},
    None,
)
def test_every_row_equals_its_report(spec: dict[str, Any], chunk_rows: int | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = small_plan(folder, spec, chunk_rows)
        outcome = run_sweep(plan, folder / "rows.csv")
        rows = read_rows(folder / "rows.csv")
        check_rows(spec, rows, plan, small_config(), most=8)
        assert outcome.rows == len(rows)
        assert outcome.fit == sum(row["fits"] == "true" for row in rows)
        assert outcome.possible == sum(row["memory_bytes"] != "" for row in rows)
        for column, best in outcome.best.items():
            fitting = [float(row[column]) for row in rows if row["fits"] == "true" and row[column]]
            assert best[column] == (min if RESULTS[column].best == "smallest" else max)(fitting)


def test_the_published_model(tmp_path: Path) -> None:
    spec = {
        "axes": {
            "batch": [1, 64],
            "pages": ["1240x1754", "3x3"],
            "device": ["h100-sxm", "l4"],
            "dtype": ["bfloat16", "float8_e4m3fn"],
        },
        "base": {},
        "columns": list(RESULTS),
    }
    config = FAMILY.default_configuration()
    plan = evolve(small_plan(tmp_path, spec), config=config)
    run_sweep(plan, tmp_path / "rows.csv")
    check_rows(spec, read_rows(tmp_path / "rows.csv"), plan, config, most=16)


def test_chunks_change_only_where_rows_are_cut(tmp_path: Path) -> None:
    whole = tmp_path / "whole.csv"
    run_sweep(small_plan(tmp_path, SMALL_SPEC), whole)
    for chunk_rows in (1, 2, 7, 9, 27):
        plan = small_plan(tmp_path, SMALL_SPEC, chunk_rows)
        parts = plan.chunks()
        assert all(plan.work_out(places).valid.size <= chunk_rows for places in parts)
        run_sweep(plan, tmp_path / "parts.csv", force=True)
        assert (tmp_path / "parts.csv").read_bytes() == whole.read_bytes()


def test_nothing_is_dropped(tmp_path: Path) -> None:
    outcome = run_sweep(small_plan(tmp_path, SMALL_SPEC), tmp_path / "rows.csv")
    rows = read_rows(tmp_path / "rows.csv")
    assert len(rows) == outcome.rows == 108
    reasons: dict[str, int] = {}
    for row in rows:
        reasons[row["reason"].partition(";")[0]] = reasons.get(row["reason"].partition(";")[0], 0) + 1
    assert reasons == {
        "": 32,
        "device t4 (T4) has no peak for bfloat16": 24,
        "does not fit the memory of h100-sxm": 8,
        "does not fit the memory of rtx-5090": 8,
        "prompt and decode steps exceed the model's 2048 positions": 36,
    }
    for row in rows:
        empty = {name for name in DEFAULT_RESULTS if row[name] == ""}
        possible = not row["reason"] or row["reason"].startswith("does not fit")
        prices = {"price_per_1000_pages_usd"} if find_device(row["device"]).hourly_price_usd is None else set()
        assert empty == (prices if possible else set(DEFAULT_RESULTS))


def test_a_sweep_of_nothing_possible_is_written(tmp_path: Path) -> None:
    spec = {**SMALL_SPEC, "axes": {"text_tokens": [3000, 4000], "batch": [1, 2]}}
    outcome = run_sweep(small_plan(tmp_path, spec), tmp_path / "rows.csv")
    assert (outcome.rows, outcome.possible, outcome.fit, outcome.best) == (4, 0, 0, {})
    assert all("2048" in row["reason"] for row in read_rows(tmp_path / "rows.csv"))


def test_rows_vary_slowest_in_what_changes_the_form(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, SMALL_SPEC)
    assert list(plan.spec.axes.named) == ["head", "attention", "batch", "device", "text_tokens"]
    assert plan.columns[:7] == ("head", "batch", "attention", "device", "text_tokens", "fits", "reason")
    run_sweep(plan, tmp_path / "rows.csv")
    rows = read_rows(tmp_path / "rows.csv")
    assert [row["text_tokens"] for row in rows[:4]] == ["1", "20", "5000", "1"]
    assert [row["head"] for row in rows] == ["all"] * 54 + ["last"] * 54


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, {**SMALL_SPEC, "columns": list(RESULTS)}, 9)
    run_sweep(plan, tmp_path / "rows.csv")
    run_sweep(plan, tmp_path / "rows.parquet")
    table = pq.read_table(tmp_path / "rows.parquet")
    assert table.column_names == list(plan.columns)
    types = {field.name: str(field.type) for field in table.schema}
    assert (types["fits"], types["reason"], types["batch"], types["total_time_s"]) == (
        "bool",
        "string",
        "int64",
        "double",
    )
    for row, other in zip(read_rows(tmp_path / "rows.csv"), table.to_pylist(), strict=True):
        for name, text in row.items():
            value = other[name]
            shown = {"None": "", "True": "true", "False": "false"}.get(str(value), str(value))
            assert text == shown, name


def test_integers_beyond_64_bits(tmp_path: Path) -> None:
    spec = {**SMALL_SPEC, "axes": {"head": ["all", "last"], "batch": [1, 10**15]}}
    plan = small_plan(tmp_path, spec, 1)
    run_sweep(plan, tmp_path / "rows.csv")
    run_sweep(plan, tmp_path / "rows.parquet")
    table = pq.read_table(tmp_path / "rows.parquet")
    assert str(table.schema.field("matrix_flops").type) == "decimal128(38, 0)"
    assert str(table.schema.field("batch").type) == "int64"
    flops = [int(row["matrix_flops"]) for row in read_rows(tmp_path / "rows.csv")]
    assert max(flops) > 2**63
    assert [int(value) for value in table["matrix_flops"].to_pylist()] == flops
    with pytest.raises(OutputError, match="has integers of more than 38 digits, which Parquet cannot hold; write CSV"):
        run_sweep(small_plan(tmp_path, {**spec, "axes": {"batch": [10**40]}}), tmp_path / "wide.parquet")


def test_too_many_rows_are_refused(tmp_path: Path) -> None:
    axes = {name: {"from": 1, "to": 10**5, "step": 1} for name in ("batch", "text_tokens")}
    with pytest.raises(UsageError, match=f"the sweep has 10,000,000,000 rows; give axes of at most {MOST_ROWS:,}"):
        small_plan(tmp_path, {**SMALL_SPEC, "axes": axes})


def test_every_stage_has_columns() -> None:
    assert {f"{stage}_bound" for stage in STAGES} <= set(RESULTS)
    assert set(DEFAULT_RESULTS) <= set(RESULTS)

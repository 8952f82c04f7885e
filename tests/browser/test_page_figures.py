"""Every control of the page, over random settings: what it shows is what a fresh analysis gives, module by module."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from page_subjects import report, report_alone, rows_of

from modelmeter.cli.report import subject_of
from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.cost.catalogue import load_catalogue
from modelmeter.errors import ScenarioError
from modelmeter.planning.what_if import changed, question_of
from modelmeter.render.page import page_data
from modelmeter.schema.device import Device
from modelmeter.schema.scenario import Page

GRIDS = [(1, 1), (2, 1), (1, 2), (3, 2), (2, 4), (9, 1)]
SIZES = [(1240, 1754), (600, 500), (3000, 900), (2000, 2000)]


def random_settings(seed: int) -> dict[str, Any]:
    """Scenario keys, each changed in about half of the draws."""
    draw = random.Random(seed)
    everything: dict[str, Callable[[], Any]] = {
        "device": lambda: draw.choice(sorted(load_catalogue())),
        "execution": lambda: draw.choice(["eager", "graph"]),
        "attention": lambda: draw.choice(["eager", "sdpa"]),
        "dtype": lambda: draw.choice(["bfloat16", "float16", "float8_e4m3fn", "float32"]),
        "mode": lambda: draw.choice(["tiny", "small", "base", "large", "gundam"]),
        "batch": lambda: draw.choice([1, 2, 5, 8]),
        "text_tokens": lambda: draw.randrange(1, 400),
        "decode_steps": lambda: draw.choice([0, 1, 40, 1023]),
    }
    found = {name: choose() for name, choose in everything.items() if draw.random() < 0.5}
    if draw.random() < 0.7:
        count = draw.choice([1, 1, 2])
        size = draw.choice(SIZES)
        # Without cropping the model has no grid but one.
        grid = draw.choice(GRIDS) if found.get("mode", "gundam") == "gundam" else (1, 1)
        page = Page(*size) if draw.random() < 0.5 else Page(grid=grid)
        found["pages"] = (page,) * count
    elif found.get("mode", "gundam") != "gundam":
        found["pages"] = (Page(grid=(1, 1)),)
    return found


def set_controls(page: Any, asked: dict[str, Any]) -> None:
    page.get_by_role("button", name="Reset").click() if page.get_by_role("button", name="Reset").is_enabled() else None
    for name, label in (("device", "Device"), ("dtype", "Data type"), ("mode", "Resolution mode")):
        if name in asked:
            page.get_by_label(label, exact=True).select_option(asked[name])
    for name in ("execution", "attention"):
        if name in asked:
            page.locator(f"input[name={name}][value={asked[name]}]").check(force=True)
    if "pages" in asked:
        one = asked["pages"][0]
        if one.grid:
            page.get_by_label("Crop grid").select_option(f"{one.grid[0]}x{one.grid[1]}")
        else:
            page.get_by_label("Crop grid").select_option("by size")
            page.get_by_label("Page width in pixels").fill(str(one.width))
            page.get_by_label("Page height in pixels").fill(str(one.height))
        page.get_by_label("Pages in a request").fill(str(len(asked["pages"])))
    for name, label, more in (
        ("batch", "Batch", 0),
        ("text_tokens", "Text tokens", 0),
        ("decode_steps", "Output tokens", 1),
    ):
        if name in asked:
            page.get_by_label(label, exact=True).fill(str(asked[name] + more))


def exported(page: Any) -> list[dict[str, str]]:
    with page.expect_download() as waiting:
        page.locator(".toolbar").get_by_role("button", name="CSV").click()
    return rows_of(Path(waiting.value.path()).read_text(encoding="utf-8"))


def tiles(page: Any) -> dict[str, str]:
    """The exact figure behind each tile."""
    pair = "tile => [tile.querySelector('dt').textContent, tile.querySelector('dd').title]"
    return dict(page.evaluate(f"[...document.querySelectorAll('.tile')].map({pair})"))


def number(text: str) -> float:
    found = re.match(r"[-−]?[\d,.e+-]+", text)
    assert found, text
    return float(found[0].replace(",", "").replace("−", "-"))


def close(value: float) -> Any:
    return pytest.approx(value, rel=1e-12, abs=1e-300)


def check(page: Any, fresh: AnalyticModelReport) -> None:
    by_module = {row["module"]: row for row in exported(page)}
    assert by_module.keys() == {node.module_id for node in fresh.modules}
    for metrics in fresh.module_metrics:
        row = by_module[metrics.module_id]
        assert int(row["Calls"]) == metrics.calls
        assert int(row["FLOPs (FLOP)"]) / 1e12 == metrics.total_flops_tflops
        assert int(row["Bytes (bytes)"]) / 1e12 == metrics.total_io_tb
        assert int(row["Peak (bytes)"]) / 1e9 == metrics.memory_activations_gb
        assert float(row["Time (s)"]) * 1e3 == close(metrics.total_time_ms)
    found, capacity, totals = tiles(page), fresh.capacity, fresh.totals
    assert capacity and totals and capacity.pages_per_s and capacity.tokens_per_s
    assert number(found["Total time"]) == close(capacity.total_time_s.estimate)
    assert number(found["First token"]) == close(capacity.time_to_first_token_s.estimate)
    assert number(found["Pages per second"]) == close(capacity.pages_per_s.estimate)
    assert number(found["Tokens per second"]) == close(capacity.tokens_per_s.estimate)
    assert number(found["Work"]) == totals.costs.matrix_flops + totals.costs.vector_flops
    assert number(found["Memory"]) == capacity.memory_bytes
    assert number(found["Largest batch"]) == capacity.largest_batch
    price = capacity.price_per_1000_pages_usd
    assert ("Price of 1,000 pages" in found) == (price is not None)
    if price:
        assert number(found["Price of 1,000 pages"]) == close(price.estimate)
    per_token = capacity.time_per_output_token_s
    assert ("Each further token" in found) == (per_token is not None)
    if per_token:
        assert number(found["Each further token"]) == close(per_token.estimate)
    assert page.locator(".refusal").count() == 0


def test_random_settings_give_what_python_gives(opened: Any):
    page = opened(report_alone())
    refused = 0
    moved: set[str] = set()
    for seed in range(10):
        asked = random_settings(seed)
        set_controls(page, asked)
        device = load_catalogue()[asked.get("device", "h100-sxm")]
        fresh, refusal = worked_out(asked, device)
        if fresh is not None:
            check(page, fresh)
            moved |= asked.keys()
            continue
        refused += 1
        # The page says it in the command's words, up to what the command goes on to explain.
        said = " ".join(page.locator(".refusal").all_inner_texts())
        assert refusal.partition(":")[0].partition(";")[0] in said, (asked, said)
    assert refused < 5
    assert moved == {name for seed in range(10) for name in random_settings(seed)} and len(moved) == 9


def worked_out(asked: dict[str, Any], device: Device) -> tuple[AnalyticModelReport | None, str]:
    """A fresh report, or why there is none."""
    try:
        return changed(question_of(report()), asked, device).report(), ""
    except ScenarioError as error:
        return None, str(error)


def test_another_page_frees_the_length_of_the_prompt(opened: Any):
    fixed = changed(question_of(report()), {"seq_len": 1500}).report()
    page = opened(page_data(subject_of(fixed)))
    assert page.get_by_label("Text tokens", exact=True).input_value() == str(fixed.scenario["described"]["text_tokens"])
    pages = (Page(grid=(3, 2)),)
    set_controls(page, {"pages": pages})
    check(page, changed(question_of(fixed), {"pages": pages}).report())


def test_a_device_that_cannot_hold_the_run_is_refused(opened: Any):
    page = opened(report_alone())
    page.get_by_label("Batch", exact=True).fill("4000")
    assert "the run does not fit h100-sxm: it takes" in page.locator(".refusal").inner_text()
    page.get_by_label("Batch", exact=True).fill("1")
    page.get_by_label("Device", exact=True).select_option("a100-40g")
    page.get_by_label("Data type", exact=True).select_option("float8_e4m3fn")
    assert "has no peak for float8_e4m3fn" in page.locator(".refusal").inner_text()
    # What needs the missing figure is not shown; what does not, is.
    assert "–" not in tiles(page)["Work"] and "Memory" in tiles(page)
    assert not {"Total time", "First token", "Pages per second"} & tiles(page).keys()
    times = [row["Time (s)"] for row in exported(page)]
    assert times[0] == "" and set(times) <= {"", "0"}
    page.get_by_role("button", name="Reset").click()
    page.get_by_label("Output tokens", exact=True).fill("8001")
    said = "493 prompt positions and 8000 decode steps exceed the model's 8192"
    assert said in page.locator(".refusal").inner_text()


def test_values_that_are_none_change_nothing(opened: Any):
    page = opened(report_alone())
    before = tiles(page)
    batch = page.get_by_label("Batch", exact=True)
    for text in ("", "0", "-3", "1.5"):
        batch.fill(text)
        assert batch.get_attribute("aria-invalid") == "true"
        assert tiles(page) == before
    batch.blur()
    assert batch.input_value() == "1" and batch.get_attribute("aria-invalid") == "false"


def test_the_page_tells_the_command(opened: Any):
    page = opened(report_alone())
    set_controls(page, {"device": "h200", "batch": 8, "pages": (Page(grid=(3, 2)),)})
    expected = "modelmeter what-if report.json --device h200 --batch 8 --grid 3x2"
    assert page.locator(".command").inner_text() == expected

"""The page as a visitor has it: offline, by mouse and by keyboard, with whatever names and sizes a model has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from page_actions import TABS, row, saved
from page_subjects import (
    EXAMPLES,
    both,
    compared,
    of_graph,
    report,
    report_alone,
    rows_of,
)
from page_subjects import graph as example_graph

from command import command
from modelmeter.planning.what_if import changed, question_of

WEB = Path(__file__).parents[2] / "web"
AXE = WEB / "node_modules" / "axe-core" / "axe.min.js"


def test_it_is_there_at_once(opened: Any):
    page = opened(both())
    page.wait_for_selector(".row")
    assert page.evaluate("performance.now()") < 4000  # a busy machine has its time; by itself it takes a fifth
    assert page.title() == "deepseek-ai/DeepSeek-OCR · ModelMeter"
    assert "2.27 s" in page.locator(".tiles").inner_text()


def test_a_module_is_opened_selected_and_seen_everywhere(opened: Any):
    page = opened(both())
    page.get_by_role("button", name="Collapse").click()
    assert page.locator(".row").count() == 3
    row(page, "DeepseekOCRModel").locator("[data-act=toggle]").click()
    row(page, "layers.[0-11]").locator(".name-text").click()
    panel = page.get_by_role("complementary", name="Selected module")
    assert panel.locator("h2").inner_text() == "layers.[0-11]"
    assert row(page, "layers.[0-11]").get_attribute("aria-selected") == "true"
    for tab in ("Icicle", "Roofline"):
        page.get_by_role("tab", name=tab).click()
        assert page.locator(".drawing .is-selected").count() >= 1, tab
    panel.get_by_role("button", name="DeepseekOCRForCausalLM").click()
    assert panel.locator("h2").inner_text() == "DeepseekOCRForCausalLM"
    page.keyboard.press("Escape")
    assert panel.count() == 0


def test_drawings_select_as_well(opened: Any):
    page = opened(both())
    marks = {"Roofline": "button", "Icicle": "treeitem", "Call graph": "treeitem", "Memory over the run": "button"}
    for tab, role in marks.items():
        page.get_by_role("tab", name=tab).click()
        page.keyboard.press("Escape")
        assert page.locator(".details").is_hidden()
        # Enter on a mark does what a click on it does, and reaches those that others lie on.
        page.locator(f".drawing .mm-mark[role={role}]").nth(1).dispatch_event("click")
        selected = page.locator(".details h2").inner_text()
        chosen = page.locator(".row[aria-selected=true]")
        assert chosen.locator(".name-text").get_attribute("title") == selected, tab
        assert chosen.is_visible(), tab


def test_formulas_are_typeset_and_fit(opened: Any):
    page = opened(report_alone())
    formulas = report_alone()["formulas"]
    longest = sorted(formulas, key=lambda name: max(len(one["letters"]) for one in formulas[name]["formulas"]))[-3:]
    for name in ("layers.[0-11].self_attn", *longest):
        page.get_by_role("searchbox").fill(name)
        row(page, name).locator(".name-text").click()
        # A line for the letters, and one for each part of the run that has numbers.
        lines = [1 + sum(1 for part in one["parts"] if part["numbers"]) for one in formulas[name]["formulas"]]
        shown = page.locator(".details .math")
        assert shown.count() == sum(line for line in lines if line > 1), name
        assert page.locator(".details .math math").count() == shown.count()
        assert page.locator(".details .temml-error").count() == 0
        assert shown.evaluate_all("all => all.filter(one => one.scrollWidth > one.clientWidth).length") == 0, name
        total = formulas[name]["formulas"][0]["parts"][0]["total"]
        assert page.locator(".details .result strong").first.inner_text() == total
        page.keyboard.press("Escape")


def test_search_finds_modules_and_classes(opened: Any):
    page = opened(both())
    page.keyboard.press("/")
    page.keyboard.type("LayerNorm2d")
    assert page.locator(".row-count").inner_text() == "2 found"
    page.get_by_role("searchbox").fill("no such module")
    assert page.locator(".row").count() == 0 and page.locator(".row-count").inner_text() == "0 found"
    page.get_by_role("searchbox").fill("")
    assert page.locator(".row").count() > 10


def test_rows_are_sorted_by_a_column(opened: Any):
    page = opened(report_alone())
    page.locator(".switch input[value=list]").check(force=True)
    header = page.get_by_role("columnheader", name="Time")
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    by_id = {metrics.module_id: metrics.total_time_ms for metrics in report().module_metrics}
    assert shown_times(page, by_id) == sorted(shown_times(page, by_id), reverse=True)
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert shown_times(page, by_id) == sorted(shown_times(page, by_id))
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "none"


def shown_times(page: Any, by_id: dict[str, float]) -> list[float]:
    names = page.locator(".row .name-text").evaluate_all("names => names.map(name => name.title)")
    assert len(names) > 10
    return [round(by_id[name], 9) for name in names]


def test_a_family_unfolds_to_a_single_expert(opened: Any):
    page = opened(of_graph(example_graph()))
    page.get_by_role("searchbox").fill("layers.1.mlp.experts.[0,1]")
    row(page, "layers.1.mlp.experts.[0,1]").locator("[data-act=unfold]").click()
    expert = row(page, "layers.1.mlp.experts.0")
    assert "is-instance" in expert.get_attribute("class")
    expert.locator(".name-text").click()
    assert page.locator(".details h2").inner_text() == "layers.1.mlp.experts.0"
    assert "one of" in page.locator(".details .tags").inner_text()


def test_everything_goes_by_keyboard(opened: Any):
    page = opened(both())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "treegrid"
    for key in ("Home", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    active = page.locator(".row.is-active")
    assert active.get_attribute("aria-expanded") == "false"
    page.keyboard.press("ArrowRight")
    assert active.get_attribute("aria-expanded") == "true"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator(".details h2").inner_text() == "embed_tokens"
    page.keyboard.press("End")
    assert active.get_attribute("aria-rowindex") == page.locator(".grid").get_attribute("aria-rowcount")
    page.get_by_role("tab", name="Roofline").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-icicle"
    assert page.get_by_role("tab", name="Icicle").get_attribute("aria-selected") == "true"
    page.locator(".skip").focus()
    for _ in range(6):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "device":
            break
    page.keyboard.press("ArrowDown")
    assert "device=" in page.evaluate("location.hash")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert "execution=graph" in page.evaluate("location.hash")
    controls = page.locator(":is(button, select, input, summary):not([role=tab], .drawing *)")
    assert controls.evaluate_all("all => all.filter(one => one.tabIndex < 0).map(one => one.outerHTML)") == []


def test_a_link_brings_everything_back(opened: Any):
    page = opened(report_alone())
    page.get_by_label("Batch", exact=True).fill("16")
    page.get_by_label("Crop grid").select_option("3x2")
    page.get_by_role("button", name="Pin baseline").click()
    page.get_by_label("Device", exact=True).select_option("h200")
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("button", name="Bytes", exact=True).click()
    row(page, "sam_model").locator(".name-text").click()
    page.get_by_role("button", name="Colours").click()
    fragment = page.evaluate("location.hash")
    other = opened(report_alone(), fragment)
    other.wait_for_selector(".row")
    assert other.locator(".tiles").inner_text() == page.locator(".tiles").inner_text()
    assert other.locator(".compare").inner_text() == page.locator(".compare").inner_text()
    assert other.locator(".details h2").inner_text() == "sam_model"
    header = other.locator(".grid").get_by_role("columnheader", name="Bytes", exact=True)
    assert header.get_attribute("aria-sort") == "descending"
    assert other.evaluate("document.documentElement.dataset.theme") == "light"
    assert other.evaluate("location.hash") == fragment


@pytest.mark.parametrize(
    "fragment",
    [
        "#batch=-1&device=nowhere&grid=99x99&tab=x&sort=y",
        "#batch=1e9&columns=&theme=&selected=",
        "#%E0%A4%A&selected=<b>",
    ],
)
def test_a_broken_link_does_no_harm(opened: Any, fragment: str):
    page = opened(report_alone(), fragment)
    page.wait_for_selector(".row")
    assert "2.27 s" in page.locator(".tiles").inner_text()


def test_two_reports_are_compared(opened: Any):
    other = changed(question_of(report()), {"batch": 8, "execution": "graph"}).report()
    page = opened(compared(other))
    text = page.locator(".compare").inner_text()
    assert other.report_id in text and "decode: time" in text
    rows = rows_of(saved(page, page.locator(".compare").get_by_role("button", name="CSV")))
    total = next(entry for entry in rows if entry["figure"] == "Total time")
    assert other.capacity and report().capacity
    assert float(total["before"]) == other.capacity.total_time_s.estimate
    assert float(total["ratio"]) == pytest.approx(float(total["after"]) / float(total["before"]), rel=1e-12)
    assert len([entry for entry in rows if entry["part"] == "modules"]) == len(report().modules)


def test_drawings_are_saved_as_pictures(opened: Any):
    page = opened(both())
    for tab in TABS[:4]:
        page.get_by_role("tab", name=tab).click()
        if page.locator(".drawing .empty").count():
            continue
        picture = ElementTree.fromstring(saved(page, page.locator(".tab-row").get_by_role("button", name="SVG")))
        assert picture.tag == "{http://www.w3.org/2000/svg}svg"
        assert picture.find(".//{http://www.w3.org/2000/svg}style") is not None


@pytest.mark.slow
def test_full_size_is_small_and_there_within_a_second(opened: Any, tmp_path: Path):
    """On a machine that has nothing else to do; the test above leaves time for one that has."""
    for words in (("analyze", "deepseek-ocr"), ("trace", "deepseek-ocr", str(EXAMPLES / "sample_page.png"))):
        assert command(*words, "--out", words[0], "--quiet", cwd=tmp_path).code == 0
    documents = ("analyze/report.json", "trace/callgraph.json")
    assert command("report", *documents, "--out", "page.html", cwd=tmp_path).code == 0
    assert (tmp_path / "page.html").stat().st_size < 3e6
    page = opened(tmp_path / "page.html")
    page.wait_for_selector(".row")
    assert page.evaluate("performance.now()") < 1000


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: make page")
@pytest.mark.parametrize(("kind", "scheme"), [("both", "light"), ("both", "dark"), ("graph", "light")])
def test_axe_finds_nothing(opened: Any, kind: str, scheme: str):
    page = opened(both() if kind == "both" else of_graph(example_graph()), color_scheme=scheme, bypass_csp=True)
    page.wait_for_selector(".row")
    page.locator(".row").nth(3).locator(".name-text").click()
    page.add_script_tag(path=str(AXE))
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        if tab == TABS[-1] and kind == "both":
            page.get_by_label("Batch", exact=True).fill("4000")
            page.wait_for_selector(".refusal")
        found = page.evaluate("axe.run().then(found => found.violations)")
        short = [(one["id"], [node["html"][:160] for node in one["nodes"]][:3]) for one in found]
        assert short == [], f"{tab}: {json.dumps(short, indent=1)}"

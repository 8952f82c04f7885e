"""The page as a visitor has it: offline, by mouse and by keyboard, with whatever names and sizes a model has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from page_subjects import (
    BREAKING,
    HOSTILE,
    both,
    compared,
    hostile_graph,
    large_graph,
    of_graph,
    report,
    report_alone,
    rows_of,
    simple_graph,
)
from page_subjects import graph as example_graph

from modelmeter import CallGraph
from modelmeter.planning.what_if import changed, question_of
from modelmeter.schema.callgraph import Cost

WEB = Path(__file__).parents[2] / "web"
AXE = WEB / "node_modules" / "axe-core" / "axe.min.js"

TABS = ("Roofline", "Icicle", "Call graph", "Memory over the run", "Compare")


def row(page: Any, identity: str) -> Any:
    return page.locator(".row", has=page.locator(f'.name-text[title="{identity}"]'))


def saved(page: Any, button: Any) -> str:
    with page.expect_download() as waiting:
        button.click()
    return Path(waiting.value.path()).read_text(encoding="utf-8")


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


def test_a_drawing_selects_as_well(opened: Any):
    page = opened(report_alone())
    page.get_by_role("tab", name="Icicle").click()
    page.locator(".drawing [tabindex]").first.focus()
    page.keyboard.press("ArrowDown")
    page.locator(".drawing g[data-id], .drawing [role=treeitem], .drawing [role=button]").nth(2).click(force=True)
    assert page.locator(".details h2").count() == 1


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
    controls = page.locator(":is(button, select, input, summary):not([role=tab], .drawing *)")
    assert controls.evaluate_all("all => all.filter(one => one.tabIndex < 0).map(one => one.outerHTML)") == []


def test_a_link_brings_everything_back(opened: Any):
    page = opened(report_alone())
    page.get_by_label("Batch", exact=True).fill("16")
    page.get_by_label("Crop grid").select_option("3x2")
    page.get_by_role("button", name="Pin as baseline").click()
    page.get_by_label("Device", exact=True).select_option("h200")
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("button", name="Bytes moved").click()
    row(page, "sam_model").locator(".name-text").click()
    page.get_by_role("button", name="Colours").click()
    fragment = page.evaluate("location.hash")
    other = opened(report_alone(), fragment)
    other.wait_for_selector(".row")
    assert other.locator(".tiles").inner_text() == page.locator(".tiles").inner_text()
    assert other.locator(".compare").inner_text() == page.locator(".compare").inner_text()
    assert other.locator(".details h2").inner_text() == "sam_model"
    assert other.get_by_role("columnheader", name="Bytes moved").get_attribute("aria-sort") == "descending"
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


def test_names_stay_text(opened: Any):
    page = opened(of_graph(hostile_graph()))
    page.wait_for_selector(".row")
    page.get_by_role("button", name="Expand all").click()
    for name in (HOSTILE, "</script>"):
        page.locator(".row", has_text=name).first.locator(".name-text").click()
        assert name in page.locator(".details h2").inner_text()
        for tab in TABS:
            page.get_by_role("tab", name=tab).click()
            page.locator(".row").nth(1).hover()
            if page.locator(".tab-row").get_by_role("button", name="SVG").count():
                picture = saved(page, page.locator(".tab-row").get_by_role("button", name="SVG"))
                ElementTree.fromstring(picture)
                assert "<img" not in picture and "<script" not in picture
    table = rows_of(saved(page, page.locator(".toolbar").get_by_role("button", name="CSV")))
    names = [entry["module"] for entry in table]
    assert HOSTILE in names and "'=cmd|' /C calc'!A0" in names
    page.get_by_role("searchbox").fill("<img")
    assert page.locator(".row").count() == 1
    assert page.evaluate("globalThis.hit") is None
    assert page.locator("img").count() == 0
    assert page.evaluate("JSON.parse(document.getElementById('page-data').textContent).modules.length") == 4


def test_names_stay_text_in_links(opened: Any):
    page = opened(of_graph(hostile_graph()), f"#selected={BREAKING.replace('&', '%26')}")
    page.wait_for_selector(".details")
    assert page.evaluate("globalThis.hit") is None


def test_a_call_graph_alone_says_what_is_missing(opened: Any):
    page = opened(of_graph(example_graph()))
    assert "from a call graph alone" in page.locator(".head").inner_text()
    assert page.locator(".controls input:enabled, .controls select:enabled").count() == 0
    assert "a call graph alone holds no closed form" in page.locator(".controls").inner_text()
    page.get_by_role("tab", name="Roofline").click()
    assert "needs a report" in page.locator(".drawing").inner_text()


def test_a_report_alone_says_what_is_missing(opened: Any):
    page = opened(report_alone())
    assert "from a report alone" in page.locator(".head").inner_text()
    page.get_by_role("tab", name="Memory over the run").click()
    assert "Give a callgraph.json" in page.locator(".drawing").inner_text()


def test_levers_out_of_use_say_why(opened: Any):
    from modelmeter.cli.report import subject_of
    from modelmeter.render.page import page_data

    drawn = changed(question_of(report()), {"routing": "zipf:1.1"}).report()
    page = opened(page_data(subject_of(drawn)))
    batch = page.get_by_label("Batch", exact=True)
    assert batch.is_disabled()
    described = batch.get_attribute("aria-describedby")
    assert "zipf:1.1" in page.locator(f"#{described}").inner_text()
    page.locator("input[name=execution][value=graph]").check(force=True)
    fresh = changed(question_of(drawn), {"execution": "graph"}).report()
    assert fresh.capacity
    shown = float(page.locator(".tile dd").first.get_attribute("title").split()[0])
    assert shown == pytest.approx(fresh.capacity.total_time_s.estimate, rel=1e-12)


def test_an_empty_model_and_a_single_module(opened: Any):
    page = opened(of_graph(CallGraph()))
    assert "No module ran" in page.locator(".head").inner_text()
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
    page = opened(of_graph(simple_graph([])))
    assert page.locator(".row").count() == 1
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()


def test_numbers_beyond_53_bits_are_not_shown_as_if_exact(opened: Any):
    large = 2**60 + 1
    cost = Cost(matrix_flops=large, bytes_read=large, bytes_written=0, launches=1, output_bytes=large, peak_bytes=large)
    page = opened(of_graph(simple_graph(["one"], cost)))
    page.wait_for_selector(".row")
    assert "1.15 EFLOP" in row(page, "one").inner_text()
    title = row(page, "one").locator(".cell.is-number[title*=FLOP]").first.get_attribute("title")
    assert title == "about 1.152922e+18 FLOP"
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()


def test_a_hundred_thousand_modules_stay_usable(opened: Any):
    page = opened(of_graph(large_graph(20_000)))
    page.wait_for_selector(".row")
    page.get_by_role("button", name="Expand all").click()
    assert page.locator(".row").count() < 100
    assert page.locator(".grid").get_attribute("aria-rowcount") == "20002"
    page.locator(".grid").focus()
    page.keyboard.press("End")
    assert page.locator(".row.is-active").get_attribute("aria-rowindex") == "20002"
    page.get_by_role("searchbox").fill("m19999")
    assert page.locator(".row-count").inner_text() == "1 found"
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: make page")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["both", "graph"])
def test_axe_finds_nothing(opened: Any, scheme: str, kind: str):
    page = opened(both() if kind == "both" else of_graph(example_graph()), color_scheme=scheme, bypass_csp=True)
    page.wait_for_selector(".row")
    page.locator(".row").nth(3).locator(".name-text").click()
    page.add_script_tag(path=str(AXE))
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        found = page.evaluate("axe.run().then(found => found.violations)")
        short = [(one["id"], [node["html"][:160] for node in one["nodes"]][:3]) for one in found]
        assert short == [], f"{tab}: {json.dumps(short, indent=1)}"

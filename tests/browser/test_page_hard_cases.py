"""Pages of little, of much, of hostile names, and of reports that cannot be asked everything."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest
from attrs import evolve
from page_actions import TABS, row, saved
from page_subjects import (
    BREAKING,
    HOSTILE,
    compared_graphs,
    hostile_before,
    hostile_graph,
    large_page,
    of_graph,
    report,
    report_alone,
    rows_of,
    simple_graph,
    traced,
    traced_question,
)
from page_subjects import graph as example_graph

from modelmeter import CallGraph
from modelmeter.cli.report import subject_of
from modelmeter.cost.catalogue import load_catalogue
from modelmeter.planning.what_if import changed
from modelmeter.render.page import page_data
from modelmeter.schema.callgraph import Cost


def test_names_stay_text(opened: Any):
    page = opened(compared_graphs(hostile_graph(), hostile_before()))
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
    comparison = page.locator(".compare")
    assert "Only before: <svg onload=globalThis.hit=1>." in comparison.inner_text()
    compared_names = [one["figure"] for one in rows_of(saved(page, comparison.get_by_role("button", name="CSV")))]
    assert HOSTILE in compared_names and "'=cmd|' /C calc'!A0" in compared_names
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


def test_a_report_without_expressions_shows_its_figures(opened: Any):
    page = opened(page_data(subject_of(evolve(report(), expressions=None))))
    assert "2.27 s" in page.locator(".tiles").inner_text()
    assert page.locator(".controls input:enabled, .controls select:enabled").count() == 0
    assert "holds no expressions" in page.locator(".controls").inner_text()
    page.get_by_role("tab", name="Roofline").click()
    assert "holds no expressions" in page.locator(".drawing").inner_text()
    page.get_by_role("tab", name="Icicle").click()
    assert page.locator(".drawing .mm-mark").count() > 10
    row(page, "sam_model").locator(".name-text").click()
    assert "Attention" in page.locator(".details").inner_text()


def test_levers_out_of_use_say_why(opened: Any):
    page = opened(traced())
    for label in ("Batch", "Text tokens", "Output tokens", "Data type", "Attention", "Devices"):
        lever = page.get_by_label(label, exact=True)
        assert lever.is_disabled(), label
        why = page.locator(f"#{lever.get_attribute('aria-describedby')}").inner_text()
        assert ("one device" if label == "Devices" else "--retrace") in why, label
    assert page.get_by_label("Crop grid").count() == 0


def test_a_traced_report_can_be_asked_for_another_device(opened: Any):
    page = opened(traced())
    page.get_by_label("Device", exact=True).select_option("a100-80g")
    page.locator("input[name=execution][value=graph]").check(force=True)
    device = load_catalogue()["a100-80g"]
    fresh = changed(traced_question(), {"execution": "graph"}, device).report()
    assert fresh.capacity
    shown = float(page.locator(".tile dd").first.get_attribute("title").split()[0])
    assert shown == pytest.approx(fresh.capacity.total_time_s.estimate, rel=1e-12)
    assert page.locator(".command").inner_text() == (
        "modelmeter what-if report.json --device a100-80g --execution graph"
    )
    page.get_by_role("tab", name="Roofline").click()
    assert page.locator(".drawing svg").count() >= 1


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
    assert "1.15 E" in row(page, "one").inner_text()
    title = row(page, "one").locator(".cell.is-number[title*=FLOP]").first.get_attribute("title")
    assert title == "about 1.152922e+18 FLOP"
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()


def test_a_hundred_thousand_modules_stay_usable(opened: Any):
    page = opened(large_page(100_000))
    page.wait_for_selector(".row")
    page.get_by_role("button", name="Expand all").click()
    assert page.locator(".row").count() < 100
    assert page.locator(".grid").get_attribute("aria-rowcount") == "100001"
    page.locator(".grid").focus()
    page.keyboard.press("End")
    assert page.locator(".row.is-active").get_attribute("aria-rowindex") == "100001"
    page.get_by_role("searchbox").fill("n99999")
    assert page.locator(".row-count").inner_text() == "1 found"
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
    page.get_by_role("tab", name="Call graph").click()
    assert "1,001 of 6,001 families are left out, the deepest first" in page.locator(".drawing").inner_text()

"""``modelmeter report``: the command, the data of the page, and that nothing in it can become markup."""

from __future__ import annotations

import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from command import DOCUMENT, LLAMA, OUTPUT, SMALL, USAGE, command, refused, write_small
from modelmeter import CallGraph
from modelmeter.cli.report import html_of, subject_of
from modelmeter.contracts import load_report, save_report
from modelmeter.planning.what_if import changed, question_of
from modelmeter.render.page import Subject, page_data, page_html
from modelmeter.render.page.html import embedded, template

EXAMPLES = Path(__file__).parents[1] / "examples"
REPORT, GRAPH = EXAMPLES / "report.json", EXAMPLES / "callgraph.json"


class Reader(HTMLParser):
    """Elements of a page, and the text of its data."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.data = ""
        self.is_data = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.is_data = given.get("id") == "page-data"
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_data(self, data: str) -> None:
        if self.is_data:
            self.data += data

    def handle_endtag(self, tag: str) -> None:
        self.is_data = False


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    return reader


@cache
def example_data() -> dict[str, Any]:
    return page_data(subject_of(load_report(REPORT), CallGraph.load(GRAPH)))


def test_the_page_is_one_file_that_asks_nothing_of_a_network(tmp_path: Path):
    out = tmp_path / "page.html"
    done = command("report", REPORT, GRAPH, "--out", out)
    assert done.code == 0 and done.out == f"Wrote {out}\n"
    html = out.read_text(encoding="utf-8")
    reader = read(html)
    assert reader.addresses == ["data:,"]
    assert "default-src 'none'" in html
    assert len(html) < 3e6
    data = json.loads(reader.data)
    assert data["title"] == "deepseek-ai/DeepSeek-OCR"
    assert data["report"]["id"] == load_report(REPORT).report_id


def test_the_same_documents_give_the_same_page():
    subject = subject_of(load_report(REPORT), CallGraph.load(GRAPH))
    assert html_of(subject) == html_of(subject_of(load_report(REPORT), CallGraph.load(GRAPH)))


def test_the_page_of_full_size_is_small(tmp_path: Path):
    assert len(page_html(page_data(subject_of(load_report(REPORT))))) < 2.2e6


@pytest.mark.parametrize("documents", [(REPORT,), (GRAPH,), (GRAPH, REPORT)])
def test_any_of_both_documents_will_do(tmp_path: Path, documents: tuple[Path, ...]):
    out = tmp_path / "page.html"
    assert command("report", *documents, "--out", out, "--quiet").out == ""
    data = json.loads(read(out.read_text(encoding="utf-8")).data)
    assert ("report" in data) == (REPORT in documents)
    assert ("callgraph" in data) == (GRAPH in documents)
    assert ("live" in data) == (REPORT in documents)


def test_what_is_compared_is_in_the_page(tmp_path: Path):
    other = changed(question_of(load_report(REPORT)), {"batch": 4}).report()
    save_report(other, tmp_path / "other.yaml")
    out = tmp_path / "page.html"
    assert command("report", REPORT, "--compare", tmp_path / "other.yaml", "--out", out).code == 0
    data = json.loads(read(out.read_text(encoding="utf-8")).data)
    assert data["other"]["report"]["id"] == other.report_id
    assert other.capacity
    assert data["other"]["figures"]["run"]["run/total/estimate"] == other.capacity.total_time_s.estimate


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--out", "x.html"), USAGE, "SUBJECT requires an argument"),
        ((REPORT, "--batch", "2", "--out", "x.html"), USAGE, "was made before"),
        ((GRAPH, "--set", "a=1", "--out", "x.html"), USAGE, "was made before"),
        (("deepseek-orc", "--out", "x.html"), USAGE, "did you mean 'deepseek-ocr'"),
        (("no.json", "--out", "x.html"), DOCUMENT, "cannot read no.json"),
        ((REPORT, "--out", "x.txt"), USAGE, "x.txt is no HTML file; name it x.html"),
        ((REPORT, REPORT, "--out", "x.html"), USAGE, "makes two reports"),
        ((GRAPH, GRAPH, "--out", "x.html"), USAGE, "makes two call graphs"),
        ((REPORT, "--compare", GRAPH, "--out", "x.html"), USAGE, "is no report"),
        ((GRAPH, "--compare", REPORT, "--out", "x.html"), USAGE, "is no call graph"),
    ],
)
def test_what_makes_no_page_is_refused(tmp_path: Path, arguments: Any, code: int, said: str):
    assert said in refused(code, "report", *arguments, cwd=tmp_path)


def test_a_file_that_exists_stays_as_it_is(tmp_path: Path):
    out = tmp_path / "page.html"
    out.write_text("mine")
    assert "--force" in refused(OUTPUT, "report", GRAPH, "--out", out, cwd=tmp_path)
    assert command("report", GRAPH, "--out", out, "--force").code == 0


def test_a_model_has_a_page_of_its_report_and_call_graph(tmp_path: Path):
    write_small(tmp_path)
    small = ("small.json", "--base-size", "128", "--image-size", "64", "--batch", "2")
    done = command("report", *small, "--out", "page.html", cwd=tmp_path)
    assert (done.code, done.err, done.out) == (0, "", "Wrote page.html\n")
    data = json.loads(read((tmp_path / "page.html").read_text(encoding="utf-8")).data)
    done = command("analyze", *small, "--json", cwd=tmp_path)
    assert data["report"]["id"] == json.loads(done.out)["report_id"]
    assert "callgraph" in data and "live" in data


def test_so_has_one_without_closed_forms(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    for words in (("report", "config.json", "--out", "a.html"), ("analyze", "config.json", "--html", "b.html")):
        assert command(*words, "--input-ids", "1x8", "--decode-steps", "5", cwd=tmp_path).code == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert "callgraph" in json.loads(read((tmp_path / "a.html").read_text(encoding="utf-8")).data)


def test_several_devices_are_not_traced(tmp_path: Path):
    done = command("report", "deepseek-ocr", "--tensor-parallel", "2", "--out", "page.html", cwd=tmp_path)
    assert done.code == 0, done.err
    data = json.loads(read((tmp_path / "page.html").read_text(encoding="utf-8")).data)
    assert "report" in data and "callgraph" not in data


ANALYZE = ("analyze", "small.json", "--base-size", "128", "--image-size", "64", "--page", "100x150")


def test_analyze_writes_a_page(tmp_path: Path):
    write_small(tmp_path)
    done = command(*ANALYZE, "--html", "page.html", "--quiet", "--out", "runs/a", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[1:] == ["artifacts_dir runs/a", "page page.html"]
    report = load_report(tmp_path / "runs/a/report.json")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == html_of(subject_of(report))
    done = command(*ANALYZE, "--html", "page.html", "--force", "--quiet", cwd=tmp_path)
    assert (done.code, done.out) == (0, "page page.html\n")


def test_trace_writes_a_page(tmp_path: Path):
    write_small(tmp_path)
    done = command(*SMALL, "--html", "page.html", "--quiet", "--out", "runs/a", cwd=tmp_path)
    assert (done.code, done.out) == (0, "")
    graph = CallGraph.load(tmp_path / "runs/a/callgraph.json")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == html_of(subject_of(graph=graph))
    done = command(*SMALL, "--html", "new/page.html", cwd=tmp_path)
    assert done.code == 0 and done.out.endswith("Wrote new/page.html\n")


@pytest.mark.parametrize("arguments", [ANALYZE, SMALL], ids=["analyze", "trace"])
def test_a_page_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, arguments: tuple[str, ...]):
    write_small(tmp_path)
    (tmp_path / "mine.html").write_text("mine")
    said = refused(USAGE, *arguments, "--html", "page.pdf", cwd=tmp_path)
    assert said == "--html page.pdf is no HTML file; name it page.html"
    assert "--force" in refused(OUTPUT, *arguments, "--html", "mine.html", cwd=tmp_path)
    assert "is a file, not a folder" in refused(OUTPUT, *arguments, "--html", "mine.html/page.html", cwd=tmp_path)


HOSTILE = "</script><script>alert(1)</script><!-- \u2028\u2029 & <img src=x onerror=alert(1)> \ud800"


def test_data_cannot_end_the_element_that_it_is_in():
    text = embedded({HOSTILE: [HOSTILE]})
    assert not re.search("[<>&\u2028\u2029\ud800-\udfff]", text)
    assert json.loads(text) == {HOSTILE: [HOSTILE]}


def test_a_hostile_name_is_data_and_nothing_else():
    graph = CallGraph(
        call_counts={HOSTILE: 1},
        edges={},
        op_call_counts={},
        module_children={HOSTILE: []},
        module_types={HOSTILE: HOSTILE},
    )
    plain = read(page_html(page_data(Subject(graph=CallGraph()))))
    reader = read(page_html(page_data(Subject(graph=graph))))
    assert reader.tags == plain.tags
    assert json.loads(reader.data)["modules"][0]["id"] == HOSTILE


def test_the_template_is_of_one_piece():
    html = template()
    assert html.count("null</script>") == 1
    assert not re.search(r"https?://(?!www\.w3\.org/)", html)


def test_an_empty_call_graph_has_a_page():
    data = page_data(subject_of(graph=CallGraph()))
    assert data["modules"] == [] and data["title"]


def test_figures_of_a_report_without_expressions_are_its_own():
    report = evolve(load_report(REPORT), expressions=None)
    data = page_data(subject_of(report))
    assert "live" not in data and "no expressions" in data["why_not_live"]
    assert report.totals and report.capacity and report.stage_metrics
    columns, run = data["figures"]["columns"], data["figures"]["run"]
    for place, metrics in enumerate(report.module_metrics):
        assert columns["all/estimate"][place] == metrics.total_time_ms / 1e3
        assert columns["all/flops"][place] / 1e12 == metrics.total_flops_tflops
    assert run["run/memory_bytes"] == report.capacity.memory_bytes
    assert columns["all/matrix_flops"][0] == report.totals.costs.matrix_flops
    # What modules have alone adds up to the whole.
    assert sum(columns["all/own_flops"]) == columns["all/flops"][0]


def test_rows_have_their_parents_before_them():
    for place, row in enumerate(example_data()["modules"]):
        assert row["parent"] is None or row["parent"] < place


def test_single_modules_are_those_of_the_call_graph():
    graph = CallGraph.load(GRAPH)
    data = page_data(subject_of(graph=graph))
    found = data["instances"]
    assert sorted(found["id"]) == sorted(graph.call_counts)
    by_id = dict(zip(found["id"], found["calls"], strict=True))
    assert by_id == graph.call_counts
    for name, parent in zip(found["id"], found["parent"], strict=True):
        assert parent < 0 or f"{found['id'][parent]}->{name}" in graph.edges


def test_formulas_have_letters_and_numbers_that_come_to_the_figures():
    data = example_data()
    one = data["formulas"]["layers.[0-11].self_attn.o_proj"]
    assert {letter: values for letter, _, values in one["symbols"]}["D"] == ["1,280"]
    first = one["formulas"][0]
    assert first["title"] == "matrix FLOPs" and "\\cdot" in first["letters"]
    place = next(at for at, row in enumerate(data["modules"]) if row["id"] == "layers.[0-11].self_attn.o_proj")
    total = sum(int(part["total"].replace(",", "")) for part in first["parts"])
    assert total == load_report(REPORT).module_metrics[place].total_flops_tflops * 1e12
    for part in first["parts"]:
        assert int(part["value"].replace(",", "")) * int(part["calls"].replace(",", "")) == int(
            part["total"].replace(",", "")
        )

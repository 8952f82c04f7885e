"""What a notebook shows of a report and of a call graph: small, without script, and names only ever text."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from attrs import evolve

from modelmeter import CallGraph
from modelmeter.contracts import load_report
from modelmeter.schema.callgraph import STAGES, Cost, ModuleCost
from modelmeter.units import format_flops, format_seconds

EXAMPLES = Path(__file__).parents[1] / "examples"

HOSTILE = "</table><script>alert(1)</script>\"'& <img src=x onerror=alert(1)> \ud800"


class Cells(HTMLParser):
    """Elements of a fragment, and the texts of its rows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


PLAIN = {"div", "p", "b", "br", "table", "thead", "tbody", "tr", "th", "td"}


def test_a_report_shows_itself():
    report = load_report(EXAMPLES / "report.json")
    html = report._repr_html_()
    found = Cells(html)
    assert len(html) < 4000 and found.tags <= PLAIN and found.attributes <= {"style", "scope"}
    assert report.capacity and report.totals
    assert "deepseek-ai/DeepSeek-OCR on H100 SXM" in found.text and report.report_id in found.text
    assert format_seconds(report.capacity.total_time_s.estimate) in found.text
    head, *rows = found.rows
    assert head[0] == "Stage"
    ran = {stage: report.totals.stages[stage] for stage in ("vision", "projector", "prefill", "decode")}
    assert [row[0] for row in rows] == list(ran)
    for row, part in zip(rows, ran.values(), strict=True):
        assert row[1] == format_seconds(part.time_s.estimate)
        assert row[3] == format_flops(part.costs.matrix_flops + part.costs.vector_flops)
        assert part.bound in row[5]


def test_a_report_without_totals_shows_its_time():
    report = evolve(load_report(EXAMPLES / "report.json"), totals=None, capacity=None, scenario=None)
    found = Cells(report._repr_html_())
    assert "table" not in found.tags
    assert format_seconds(report.predicted_total_time_ms / 1e3) in found.text


def test_a_call_graph_shows_itself():
    graph = CallGraph.load(EXAMPLES / "callgraph.json")
    html = graph._repr_html_()
    found = Cells(html)
    assert len(html) < 4000 and found.tags <= PLAIN and found.attributes <= {"style"}
    stages = [stage for stage in STAGES if graph.stages[stage].launches]
    assert [row[0] for row in found.rows[1:]] == stages
    cost = graph.stages[stages[0]]
    assert found.rows[1][1] == format_flops(cost.matrix_flops + cost.vector_flops)


def test_what_is_a_lower_bound_says_so():
    graph = CallGraph.load(EXAMPLES / "callgraph.json")
    assert "at least" not in graph._repr_html_()
    graph.unknown_operators["aten.unheard_of"] = 1
    assert Cells(graph._repr_html_()).rows[1][1].startswith("at least ")


def test_an_empty_call_graph_shows_itself():
    found = Cells(CallGraph()._repr_html_())
    assert "an empty model" in found.text and "table" not in found.tags


def test_names_stay_text():
    cost = Cost(matrix_flops=1, launches=1)
    graph = CallGraph(
        call_counts={HOSTILE: 1},
        edges={},
        op_call_counts={},
        module_children={HOSTILE: []},
        module_types={HOSTILE: HOSTILE},
        model={"class": HOSTILE},
        costs={HOSTILE: ModuleCost(own=cost, total=cost)},
        stages={HOSTILE: cost},
    )
    report = load_report(EXAMPLES / "report.json")
    report = evolve(report, report_id=HOSTILE, model=evolve(report.model, model_id=HOSTILE))
    for shown in (graph, report):
        html = shown._repr_html_()
        found = Cells(html)
        assert found.tags <= PLAIN
        assert HOSTILE.replace("\ud800", "?") in found.text
        html.encode("utf-8")

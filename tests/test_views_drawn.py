"""Views of the folded graph: what they show, that they parse whatever the names, and that parts keep their sums."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import networkx
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from command import OUTPUT, USAGE, Outcome, command, refused
from drawn import example_graph
from modelmeter import CallGraph
from modelmeter.callgraph.axis import Axis, choose_axis
from modelmeter.callgraph.edge_kinds import edge_kind, with_edges_of_calls
from modelmeter.callgraph.folded import FoldedGraph
from modelmeter.callgraph.folding import fold
from modelmeter.callgraph.selection import execution_order, select
from modelmeter.cli.graph import SUFFIXES
from modelmeter.errors import DocumentError, UnknownNameError, UsageError
from modelmeter.render.chrome import to_chrome
from modelmeter.render.dot import to_dot
from modelmeter.render.folded_json import to_json
from modelmeter.render.graphml import to_graphml
from modelmeter.render.labels import compact, rows
from modelmeter.render.markdown import to_markdown
from modelmeter.render.mermaid import MOST_EDGES, to_mermaid, too_large
from modelmeter.render.svg import to_svg
from modelmeter.render.tree import to_tree
from modelmeter.schema.callgraph import ArgumentType, Cost, Signature, TensorSignature
from modelmeter.schema.codec import structure_document

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "callgraph.json"
GOLDEN = Path(__file__).parent / "golden"
DOCUMENT = 6
MISSING = 9

TEXTS: dict[str, Callable[[FoldedGraph, Axis], str]] = {
    "graph_dot.dot": to_dot,
    "graph_mermaid.mmd": to_mermaid,
    "graph_markdown.md": to_markdown,
    "graph_tree.txt": to_tree,
    "graph_graphml.graphml": to_graphml,
    "graph_chrome.json": to_chrome,
}
needs_graphviz = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")


@functools.cache
def example() -> CallGraph:
    return CallGraph.load(EXAMPLE)


@functools.cache
def view(**parts: Any) -> FoldedGraph:
    return select(fold(example()), **parts)


def drawn(draw: Callable[[FoldedGraph, Axis], str], folded: FoldedGraph) -> str:
    return draw(folded, choose_axis(folded.source))


# -- what they show --------------------------------------------------------------------------------------


def test_the_example_is_a_trace_of_the_small_model() -> None:
    kept, fresh = (evolve(graph, tool={}) for graph in (example(), example_graph()))
    assert kept == structure_document(json.loads(fresh.to_json()), CallGraph, "fresh"), "save it again: tests/drawn.py"


@pytest.mark.parametrize("name", TEXTS)
def test_views_are_those_kept(name: str) -> None:
    text = drawn(TEXTS[name], view())
    if os.environ.get("MODELMETER_GOLDEN"):
        (GOLDEN / name).write_text(text, encoding="utf-8")
    assert text == (GOLDEN / name).read_text(encoding="utf-8")


def test_the_same_document_gives_the_same_bytes() -> None:
    formats = [name for name in SUFFIXES if name != "svg" or shutil.which("dot")]
    code = (
        "import sys; from modelmeter.cli import run\n"
        "for name in sys.argv[2:]: assert run(['graph', sys.argv[1], '--format', name]) == 0"
    )
    outputs = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(EXAMPLE), *formats],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_labels_are_compact_and_edges_tell_repeats() -> None:
    folded = view()
    labels = [compact(row) for row in rows(folded)]
    assert len(labels) == len(folded.families)
    assert "DeepseekV2DecoderLayer @ layers.[0,1] for 2" in labels
    assert "Linear @ .[q_proj,k_proj,v_proj] parfor 3" in labels
    assert labels[0] == "DeepseekOCRForCausalLM"
    # A pattern is cut only where the caller's node shows what is cut.
    for row in rows(folded):
        if row.pattern.startswith("."):
            assert f"{folded.parents[row.family.id]}{row.pattern}" == row.family.id
    assert 'xlabel="for 2"' in drawn(to_dot, folded)
    assert '-->|"parfor 3"|' in drawn(to_mermaid, folded)


def test_dot_has_one_node_a_line_with_colour_width_and_tooltip() -> None:
    lines = [line for line in drawn(to_dot, view()).splitlines() if re.match(r" +n\d+ \[", line)]
    assert len(lines) == len(view().families)
    assert all(re.search(r'fillcolor="#\w+", color="#\w+", penwidth="[\d.]+", tooltip="', line) for line in lines)
    (attention,) = [line for line in lines if "NoTPAttention" in line]
    assert "num_heads=2" in attention and "bfloat16 2×" in attention
    widths = {row.family.id: line for row, line in zip(rows(view()), lines, strict=False)}
    assert len(widths) == len(lines)


def test_width_follows_cost() -> None:
    axis = choose_axis(view().source)
    text = drawn(to_dot, view())
    width_of = {n: float(w) for n, w in re.findall(r'(n\d+) \[.*?penwidth="([\d.]+)"', text)}
    costs = sorted((axis.of(row.family), width_of[f"n{row.number}"]) for row in rows(view()))
    assert [width for _, width in costs] == sorted(width for _, width in costs)
    assert costs[0][1] < costs[-1][1]


@needs_graphviz
def test_svg_has_titles_with_configuration_and_shapes() -> None:
    root = ElementTree.fromstring(drawn(to_svg, view()))
    space = {"s": "http://www.w3.org/2000/svg"}
    titles = [group.findtext("s:title", "", space) for group in root.iterfind(".//s:g[@class='node']", space)]
    assert len(titles) == len(view().families)
    (patches,) = [text for text in titles if text.startswith("Conv2d @ sam_model.patch_embed.proj\n")]
    assert "kernel_size=16×16" in patches and "in: input bfloat16 2×3×64×64; 1 call" in patches
    assert not any("}a" in element.tag[-2:] for element in root.iter())


def test_graphml_is_read_by_networkx() -> None:
    read = networkx.parse_graphml(drawn(to_graphml, view()))
    folded = view()
    assert list(read.nodes) == list(folded.families)
    assert set(read.edges) == {(edge.caller, edge.callee) for edge in folded.edges}
    for name, family in folded.families.items():
        node = read.nodes[name]
        assert (node["calls"], node["matrix_flops"]) == (family.calls, family.cost.total.matrix_flops)
    assert sum(count for _, _, count in read.edges.data("calls")) == sum(example().edges.values())


def test_markdown_has_an_outline_and_a_table_of_every_family() -> None:
    tables, items = read_markdown(drawn(to_markdown, view()))
    assert [row[0] for row in tables] == [f"{f.class_name} @ {f.id}" for f in view().families.values()]
    assert len(items) == len(view().families)


def test_disagreements_are_noted() -> None:
    folded = evolve(view(), disagreements=["layers is said to run for 3, | the data flow shows 2"])
    assert "> **Note:** layers is said to run for 3, &#124; the data flow" in drawn(to_markdown, folded)


def test_json_holds_the_whole_folded_graph() -> None:
    read = json.loads(drawn(to_json, view()))
    calls: dict[str, int] = {}
    for family in read["families"]:
        assert family["calls"] == sum(family["members"].values())
        calls |= family["members"]
    assert calls == example().call_counts
    assert {key: n for edge in read["edges"] for key, n in edge["calls"].items()} == example().edges


# -- the Chrome trace ------------------------------------------------------------------------------------


def slices(text: str) -> list[dict[str, Any]]:
    return [event for event in json.loads(text)["traceEvents"] if event["ph"] == "X"]


def check_nesting(text: str) -> None:
    """Every slice has a length and lies in the one that is open; sums are exact in floating point."""
    ends: list[float] = []
    for event in slices(text):
        while ends and event["ts"] >= ends[-1]:
            ends.pop()
        assert event["dur"] > 0
        assert not ends or event["ts"] + event["dur"] <= ends[-1]
        ends.append(event["ts"] + event["dur"])


@pytest.mark.parametrize("axis", ["flops", "bytes", "operations"])
def test_slices_are_nested_calls_as_long_as_they_cost(axis: str) -> None:
    measure = choose_axis(example(), axis)
    text = to_chrome(view(), measure)
    check_nesting(text)
    assert json.loads(text)["otherData"]["axis"] == axis
    found = slices(text)
    assert [event["name"] for event in found if event["cat"] == "forward"] == ["prefill", "decode 1"]
    named = [event["name"].split(" ×")[0] for event in found if event["cat"] != "forward"]
    assert len(named) == sum(len(forward.call_counts) for forward in example().forwards)
    assert set(named) == set(example().call_counts)
    (root, _) = [event for event in found if event["name"] == example().root]
    # No slice is shorter than a part of a microsecond, which makes the sum a little longer.
    scale = measure.spans[0].totals[example().root] / root["dur"]
    (vision,) = [event for event in found if event["name"].startswith("sam_model ×")]
    assert vision["dur"] * scale == pytest.approx(measure.totals["sam_model"], rel=0.05)


def test_a_measured_axis_is_in_microseconds() -> None:
    times = {
        name: {
            "total_ms": 2.0 * count,
            "forwards": [{"name": f.name, "total_ms": 2.0 * f.call_counts.get(name, 0)} for f in example().forwards],
        }
        for name, count in example().call_counts.items()
    }
    graph = evolve(example(), times=times)
    measure = choose_axis(graph)
    assert (measure.name, measure.text(measure.totals["lm_head"])) == ("time", "4 ms")
    text = to_chrome(select(fold(graph)), measure)
    check_nesting(text)
    assert json.loads(text)["otherData"]["unit"] == "the time axis is measured time"
    assert [event["dur"] for event in slices(text) if event["name"] == "lm_head"] == [2000, 2000]
    broken = evolve(graph, times={**times, "lm_head": {"total_ms": "soon"}})
    with pytest.raises(DocumentError, match=r"lm_head.*total_ms"):
        choose_axis(broken)


def test_device_time_is_preferred_to_time_on_the_host() -> None:
    graph = evolve(example(), times={"lm_head": {"total_ms": 9.0, "device_total_ms": 0.5}})
    measure = choose_axis(graph)
    assert (measure.title, measure.totals["lm_head"]) == ("measured time on the device", 500_000)


def test_modules_shared_by_many_callers_do_not_explode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelmeter.render.chrome.MOST_SLICES", 1000)
    levels = 12
    edges = {f"{side}{n}->{other}{n + 1}": 1 for n in range(levels) for side in "ab" for other in "ab"}
    names = {f"{side}{n}": 1 for n in range(levels + 1) for side in "ab"}
    graph = CallGraph(call_counts=names, edges=edges, module_types=dict.fromkeys(names, "Twin"), op_call_counts=names)
    text = drawn(to_chrome, select(fold(graph)))
    assert len(slices(text)) <= 1000 + 2 + 1  # beside the calls the two that nobody calls, and the forward
    assert "beyond 1,000" in json.loads(text)["otherData"]["left_out"]


def test_calls_in_a_circle_end() -> None:
    names = {"Loop": 1, "a": 1, "b": 1}
    edges = {"Loop->a": 1, "a->b": 1, "b->a": 1, "a->a": 1}
    graph = CallGraph(call_counts=names, edges=edges, module_types=dict.fromkeys(names, "Part"), op_call_counts=names)
    for draw in (*TEXTS.values(), to_json):
        assert drawn(draw, select(fold(graph)))


# -- parts -----------------------------------------------------------------------------------------------


def sums(folded: FoldedGraph) -> tuple[int, int, int, int]:
    families = list(folded.families.values())
    own = Cost()
    for family in families:
        own.add(family.cost.own)
    return (
        own.matrix_flops + own.vector_flops,
        own.bytes_read + own.bytes_written,
        sum(sum(family.op_call_counts.values()) for family in families),
        sum(family.parameters for family in families),
    )


@pytest.mark.parametrize("depth", range(8))
def test_depth_keeps_sums(depth: int) -> None:
    folded = view(depth=depth)
    assert sums(folded) == sums(view())
    assert max(folded.depths.values()) == min(depth, max(view().depths.values()))
    assert all(edge.caller in folded.families and edge.callee in folded.families for edge in folded.edges)


@pytest.mark.parametrize("name", ["layers", "layers.1", "sam_model", "layers.[0,1].self_attn", "layers.1.mlp.experts"])
def test_unfolding_keeps_every_count(name: str) -> None:
    folded = view(unfold=(name,))
    assert len(folded.families) > len(view().families)
    calls, edges, operations = folded.unfold()
    assert (calls, edges, operations) == (example().call_counts, example().edges, example().op_call_counts)
    assert sums(folded) == sums(view())
    assert sum(len(family.members) for family in folded.families.values()) == len(calls)


def test_unfolded_layers_have_families_of_their_own() -> None:
    folded = view(unfold=("layers",))
    assert {"layers.0", "layers.1"} <= set(folded.families)
    assert folded.families["layers.0"].repeat_label == ""
    assert folded.families["layers.1.self_attn.[q_proj,k_proj,v_proj]"].repeat_label == "parfor 3"
    assert folded.parents["layers.0.mlp"] == "layers.0"
    assert folded.parents["layers.1.mlp"] == "layers.1"
    assert not any(name.startswith("layers.[0,1]") for name in folded.families)
    # What the run said of its loops is about the model, not about the view.
    assert folded.disagreements == []


def test_what_cannot_be_unfolded_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'layers'"):
        view(unfold=("layrs",))
    with pytest.raises(UsageError, match="lm_head stands for one module"):
        view(unfold=("lm_head",))


@pytest.mark.parametrize("stage", ["vision", "projector", "prefill", "decode"])
def test_a_stage_has_its_costs(stage: str) -> None:
    folded = view(stage=stage)
    shown = Cost()
    for family in folded.families.values():
        if family.stage == stage:
            shown.add(family.cost.own)
    expected = example().stages[stage]
    assert shown.matrix_flops == expected.matrix_flops > 0
    if stage != "prefill":  # the callers of several stages count as the stage that ran first
        assert (shown.vector_flops, shown.bytes_read) == (expected.vector_flops, expected.bytes_read)


def test_decode_has_its_own_counts() -> None:
    folded = view(stage="decode")
    assert folded.families["layers.[0,1]"].repeat_label == "for 2"
    assert not any(name.startswith("sam_model") for name in folded.families)
    decode = example().forwards[1]
    assert folded.unfold()[0] == decode.call_counts


def test_siblings_follow_the_data() -> None:
    order = execution_order(example())
    first = "layers.0.input_layernorm", "layers.0.self_attn", "layers.0.post_attention_layernorm", "layers.0.mlp"
    assert sorted(first, key=order.__getitem__) == list(first)
    # The model registers its decoder before its vision towers.
    assert order["sam_model"] < order["vision_model"] < order["projector"] < order["layers.0"] < order["norm"]


# -- documents from elsewhere ----------------------------------------------------------------------------

FIVE = ("call_counts", "edges", "op_call_counts", "module_children", "module_types")


def five_keys(**changes: Any) -> dict[str, Any]:
    return {key: getattr(example(), key) for key in FIVE} | changes


def by_operations() -> dict[str, int]:
    edges = {}
    for edge, count in example().edges.items():
        callee = edge.partition("->")[2]
        edges[edge] = count * max(2, example().op_call_counts.get(callee, 0))
    return edges


def test_edges_of_operations_are_told_from_edges_of_calls() -> None:
    assert edge_kind(example()).kind == "calls"
    other = structure_document(five_keys(edges=by_operations()), CallGraph, "other")
    assert edge_kind(other).kind == "operations"
    # Every module of the example has one caller, so that nothing is guessed.
    assert with_edges_of_calls(other).edges == example().edges


@pytest.mark.parametrize("name", [name for name in SUFFIXES if name != "svg"])
def test_five_keys_are_enough(name: str, tmp_path: Path) -> None:
    for edges, kind in ((example().edges, "note"), (by_operations(), "warning")):
        path = tmp_path / "five.json"
        path.write_text(json.dumps(five_keys(edges=edges)))
        outcome = command("graph", path, "--format", name)
        assert outcome.code == 0, outcome.err
        expected = "count calls" if kind == "note" else "count operations, not calls"
        assert outcome.err.startswith(f"modelmeter: {kind}: five.json: ") and expected in outcome.err
        assert "sam_model" in outcome.out
    assert command("graph", path, "--axis", "flops").code == USAGE
    assert "the document tells no stages" in command("graph", path, "--stage", "vision").err


# -- names that may hold anything ------------------------------------------------------------------------

LETTERS = st.one_of(st.sampled_from("\"<>&|\\`'[]{}()#;%\n\r\t\0*_~!$@.:-\u2028\ud800\ufffe😀é語"), st.characters())
NAMES = st.text(LETTERS, min_size=1, max_size=12).filter(lambda name: "->" not in name)
LONG = NAMES.flatmap(lambda name: st.sampled_from([name, (name * 500)[:500]]))


@st.composite
def hostile_graphs(draw: Callable[..., Any]) -> CallGraph:
    names = draw(st.lists(LONG, min_size=2, max_size=6, unique=True))
    # No name may continue an arrow: keys of edges are split at the first.
    names = [name.rstrip("-").lstrip(">") or f"n{index}" for index, name in enumerate(names)]
    names = list(dict.fromkeys(names))
    root, *others = names
    edges = {f"{draw(st.sampled_from(names[: index + 1]))}->{name}": 1 for index, name in enumerate(others)}
    signature = Signature([TensorSignature((1, 2), draw(NAMES), draw(LONG))], [ArgumentType(draw(NAMES), "str")], 1)
    return CallGraph(
        call_counts=dict.fromkeys(names, 1),
        edges=edges,
        op_call_counts=dict.fromkeys(names, 1),
        module_children={root: others},
        module_types={name: draw(LONG) for name in names},
        module_stages={name: draw(st.sampled_from(["vision", "decode", "other"])) for name in names},
        constructor_params={name: {draw(NAMES): draw(LONG)} for name in names},
        input_metadata={name: [signature] for name in names},
        model={"name": draw(LONG)},
    )


def read_markdown(text: str) -> tuple[list[list[str]], list[str]]:
    """Cells of the table's rows, and the outline's items, as a reader sees them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    rows_found: list[list[str]] = []
    items: list[str] = []
    for index, token in enumerate(tokens):
        if token.type == "tr_open":
            rows_found.append([])
        elif token.type in ("td_open", "th_open"):
            children = tokens[index + 1].children or []
            assert {child.type for child in children} <= {"text", "text_special"}, children
            rows_found[-1].append("".join(child.content for child in children))
        elif token.type == "list_item_open":
            items.append(tokens[index + 2].content)
    return rows_found[1:], items


@settings(max_examples=60, deadline=None)
@given(hostile_graphs())
def test_every_view_parses_whatever_the_names(graph: CallGraph) -> None:
    folded = select(fold(graph))
    count = len(folded.families)
    assert networkx.parse_graphml(drawn(to_graphml, folded)).number_of_nodes() == count
    check_nesting(drawn(to_chrome, folded))
    assert len(json.loads(drawn(to_json, folded))["families"]) == count
    tables, items = read_markdown(drawn(to_markdown, folded))
    assert [len(row) for row in tables] == [4] * count
    assert len(items) == count
    assert len(drawn(to_tree, folded).splitlines()) == count + 6
    mermaid = drawn(to_mermaid, folded)
    assert len(re.findall(r'^ +n\d+\["[^"]*"\]$', mermaid, re.MULTILINE)) == count
    dot = drawn(to_dot, folded)
    assert len(re.findall(r'^ +n\d+ \[label="(?:[^"\\]|\\.)*", .*\];$', dot, re.MULTILINE)) == count
    for text in (dot, mermaid, drawn(to_markdown, folded), drawn(to_tree, folded)):
        text.encode("utf-8")


@needs_graphviz
@settings(max_examples=25, deadline=None)
@given(hostile_graphs())
def test_graphviz_draws_whatever_the_names(graph: CallGraph) -> None:
    folded = select(fold(graph))
    root = ElementTree.fromstring(drawn(to_svg, folded))
    space = {"s": "http://www.w3.org/2000/svg"}
    nodes = root.findall(".//s:g[@class='node']", space)
    assert len(nodes) == len(folded.families)
    shown = {" ".join("".join(node.itertext()).split()) for node in nodes}
    for row in rows(folded):
        whole = " ".join(row.family.repeat_label.split())
        assert any(whole in text for text in shown)


@needs_graphviz
def test_svg_shows_special_letters_as_they_are() -> None:
    name = 'a"b<c>&amp;\\n\\N{d|e}'
    graph = CallGraph(
        call_counts={"Root": 1, name: 1},
        edges={f"Root->{name}": 1},
        op_call_counts={},
        module_types={"Root": "Root", name: "X"},
        module_children={"Root": [name]},
    )
    root = ElementTree.fromstring(drawn(to_svg, select(fold(graph))))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert f"X @ {name}" in texts
    titles = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert any(text.startswith(f"X @ {name}\n") for text in titles)


def test_mermaid_says_what_it_will_not_draw() -> None:
    folded = view()
    assert too_large(drawn(to_mermaid, folded), folded) is None
    assert "50,001 letters" in (too_large("x" * 50_001, folded) or "")
    many = evolve(folded, edges=folded.edges * (MOST_EDGES // len(folded.edges) + 1))
    assert "Mermaid draws at most 500" in (too_large("", many) or "")


MERMAID_CHECK = """
import { JSDOM } from 'jsdom';
import fs from 'fs';
const dom = new JSDOM('<!DOCTYPE html><body></body>');
globalThis.window = dom.window; globalThis.document = dom.window.document;
const { default: mermaid } = await import('mermaid');
mermaid.initialize({ startOnLoad: false });
const found = [];
for (const file of process.argv.slice(2)) {
  const diagram = await mermaid.mermaidAPI.getDiagramFromText(fs.readFileSync(file, 'utf8'));
  // A subgraph with a style is among the vertices, too.
  const nodes = [...diagram.db.getVertices().values()].filter(node => !node.id.startsWith('stage_'));
  found.push({ labels: nodes.map(node => node.text), edges: diagram.db.getEdges().map(edge => edge.text),
               tooltips: nodes.map(node => diagram.db.getTooltip(node.id) ?? '') });
}
console.log(JSON.stringify(found));
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_mermaid_itself_reads_what_is_drawn(tmp_path: Path) -> None:
    packages = ["mermaid@11", "jsdom"]
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", *packages], cwd=tmp_path, check=True)
    (tmp_path / "check.mjs").write_text(MERMAID_CHECK)
    folded = [view(), view(depth=2), view(unfold=("layers",))]
    for name in (
        'quo"te',
        "<b>&amp;",
        "end",
        "a`b`",
        "x|y",
        "%% c",
        "#35;",
        "back\\slash",
        "new\nline",
        "[({",
        "語 😀" * 99,
    ):
        names = {"Root": 1, name: 1}
        graph = CallGraph(
            call_counts=names,
            edges={f"Root->{name}": 1},
            op_call_counts=names,
            module_types={"Root": "Root", name: name},
            constructor_params={name: {name: name}},
            model={"name": name},
        )
        folded.append(select(fold(graph)))
    files = []
    for index, graph_view in enumerate(folded):
        files.append(tmp_path / f"{index}.mmd")
        files[-1].write_text(drawn(to_mermaid, graph_view), encoding="utf-8")
    done = subprocess.run(["node", "check.mjs", *map(str, files)], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    for graph_view, read in zip(folded, json.loads(done.stdout), strict=True):
        # Between reading and drawing, Mermaid holds its entities in this form.
        labels = [re.sub("ﬂ°°(\\d+)¶ß", lambda m: chr(int(m[1])), label) for label in read["labels"]]
        assert sorted(labels) == sorted(compact(row) for row in rows(graph_view))
        assert sorted(read["edges"]) == sorted(edge.label for edge in graph_view.edges)
    assert sum(map(bool, json.loads(done.stdout)[0]["tooltips"])) > 40


# -- the command -----------------------------------------------------------------------------------------


def graph_command(*arguments: object, cwd: Path | None = None) -> Outcome:
    return command("graph", EXAMPLE, *arguments, cwd=cwd)


@pytest.mark.parametrize(
    ("name", "draw"),
    [("g.dot", to_dot), ("g.mmd", to_mermaid), ("g.md", to_markdown), ("g.json", to_chrome), ("g.graphml", to_graphml)],
)
def test_the_suffix_gives_the_format(name: str, draw: Callable[[FoldedGraph, Axis], str], tmp_path: Path) -> None:
    outcome = graph_command("--out", name, cwd=tmp_path)
    assert (outcome.code, outcome.out, outcome.err) == (0, f"Wrote {name}\n", "")
    assert (tmp_path / name).read_text(encoding="utf-8") == drawn(draw, view())


def test_without_a_file_the_text_is_printed() -> None:
    assert graph_command().out == graph_command("--format", "tree").out
    assert [line.rstrip() for line in graph_command().out.splitlines()] == drawn(to_tree, view()).splitlines()
    assert graph_command("--format", "dot").out == drawn(to_dot, view())
    assert graph_command("--format", "chrome", "--axis", "bytes").out == to_chrome(
        view(), choose_axis(example(), "bytes")
    )
    assert graph_command("--json").out == graph_command("--format", "json").out == drawn(to_json, view())


def test_parts_are_drawn() -> None:
    read = json.loads(graph_command("--json", "--stage", "prefill", "--unfold", "layers", "--depth", "2").out)
    names = [family["id"] for family in read["families"]]
    assert names == [
        "DeepseekOCRForCausalLM",
        "DeepseekOCRModel",
        "embed_tokens",
        "layers.0",
        "layers.1",
        "norm",
        "lm_head",
    ]


def test_json_is_printed_beside_a_file(tmp_path: Path) -> None:
    outcome = graph_command("--out", "g.dot", "--json", cwd=tmp_path)
    assert json.loads(outcome.out)["root"] == "DeepseekOCRForCausalLM"
    assert (tmp_path / "g.dot").exists()


def test_files_are_overwritten_with_force_only(tmp_path: Path) -> None:
    (tmp_path / "g.dot").write_text("mine")
    assert "exists" in refused(OUTPUT, "graph", EXAMPLE, "--out", "g.dot", cwd=tmp_path)
    assert graph_command("--out", "g.dot", "--force", "--quiet", cwd=tmp_path).out == ""
    assert (tmp_path / "g.dot").read_text(encoding="utf-8") == drawn(to_dot, view())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "mermaidd"], "unknown format 'mermaidd'; did you mean 'mermaid'?"),
        (["--out", "graph.sgv"], "unknown suffix of --out '.sgv'; did you mean '.svg'?"),
        (["--out", "graph"], "unknown suffix of --out ''"),
        (["--format", "dot", "--out", "g.svg"], "contradict each other; name it g.dot"),
        (["--format", "dot", "--json"], "--json and --format dot contradict each other"),
        (["--axis", "flop"], "unknown axis 'flop'; did you mean 'flops'?"),
        (["--axis", "time"], "no measured times for --axis time; choose --axis flops or bytes or operations"),
        (["--stage", "visoin"], "unknown stage 'visoin'; did you mean 'vision'?"),
        (
            ["--stage", "other"],
            "no module ran in stage 'other'; stages of this document: vision, projector, prefill, decode",
        ),
        (["--unfold", "layer"], "unknown family or module 'layer'; did you mean 'layers'?"),
        (["--depth", "-1"], "--depth is -1"),
    ],
)
def test_bad_options_are_refused_with_the_remedy(options: list[str], message: str, tmp_path: Path) -> None:
    assert message in refused(USAGE, "graph", EXAMPLE, *options, cwd=tmp_path)


def test_bad_documents_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text(EXAMPLE.read_text()[:5000])
    (tmp_path / "empty.json").write_text(json.dumps({key: {} for key in FIVE}))
    assert "cannot read none.json" in refused(DOCUMENT, "graph", "none.json", cwd=tmp_path)
    assert "no complete JSON" in refused(DOCUMENT, "graph", "cut.json", "--out", "g.dot", cwd=tmp_path)
    assert "holds no module that ran" in refused(DOCUMENT, "graph", "empty.json", cwd=tmp_path)


def test_without_graphviz_the_other_formats_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    message = refused(MISSING, "graph", EXAMPLE, "--out", "g.svg", cwd=tmp_path)
    assert "'dot' was not found; install Graphviz" in message
    assert graph_command("--format", "dot").code == 0


def test_disagreements_are_warnings(tmp_path: Path) -> None:
    events = [{"kind": "llm_stack", "forward": "prefill", "module": "layers", "num_layers": 3}]
    evolve(example(), runtime_events=events).save(tmp_path / "g.json")
    outcome = command("graph", "g.json", "--format", "markdown", "--quiet", cwd=tmp_path)
    assert outcome.err == "modelmeter: warning: prefill: layers holds 3 layers, 2 ran\n"
    assert "> **Note:** prefill: layers holds 3 layers, 2 ran" in outcome.out


def test_torch_is_not_needed() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from modelmeter.cli import run\n"
        "for name in sys.argv[2:]: assert run(['graph', sys.argv[1], '--format', name, '--unfold', 'layers']) == 0"
    )
    formats = [name for name in SUFFIXES if name != "svg"]
    done = subprocess.run(
        [sys.executable, "-c", code, str(EXAMPLE), *formats], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

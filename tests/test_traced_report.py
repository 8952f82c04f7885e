"""Reports from a weightless trace: what they say equals the closed forms, and what they cannot answer they refuse."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from command import SCENARIO, USAGE, command
from modelmeter import Page, Scenario, TraceOptions, trace
from modelmeter.callgraph.cost_tree import cost_tree, forward_costs
from modelmeter.callgraph.decode_steps import extended, turning_points
from modelmeter.callgraph.folding import fold
from modelmeter.contracts import load_report
from modelmeter.cost.catalogue import find_device
from modelmeter.errors import DocumentError
from modelmeter.families.registry import get_family
from modelmeter.planning.expressions import evaluate_graph
from modelmeter.planning.traced_run import TracedRun
from modelmeter.planning.what_if import changed, question_of
from modelmeter.routing import parse_routing
from modelmeter.schema.cost import CostTree
from modelmeter.tracing.hugging_face import trace_hugging_face
from report_numbers import compare_numbers
from small import SMALL_SIZES, small_config

FAMILY = get_family("deepseek-ocr")
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 101,
    "max_position_embeddings": 256,
}


def traced_costs(scenario: Scenario, steps: int) -> tuple[Any, CostTree | None]:
    """A trace of some decode steps, drawn out to those of the scenario."""
    options = TraceOptions(routing=parse_routing(scenario.routing), forward_operators=True)
    graph = trace("deepseek-ocr", evolve(scenario, decode_steps=steps), config=small_config(), options=options)
    folded = fold(graph)
    forwards = extended(forward_costs(folded), scenario.decode_steps)
    return folded, None if forwards is None else cost_tree(folded, forwards)


def exact(tree: CostTree) -> dict[str, Any]:
    """What a trace and a closed form must agree on; ideal bytes are the closed form's own knowledge."""
    stages = {
        stage: (a.matrix_flops, a.vector_flops, a.launches, a.eager_bytes_read, a.eager_bytes_written)
        for stage, a in tree.stages.items()
    }
    peak = (tree.peak.bytes, tree.peak.module)
    return {
        "stages": stages,
        "peak": peak,
        "parameters": tree.parameter_count,
        "weights": tree.weight_bytes,
        "cache": tree.kv_cache_bytes,
        "peaks": {name: bytes_ for name, bytes_ in tree.peaks.items() if bytes_},
        "calls": {node.id: sum(node.calls.values()) for node in tree.nodes if node.calls},
    }


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([(1, 1), (2, 1), (2, 3)]),
    st.integers(1, 2),
    st.integers(0, 9),
    st.sampled_from(["eager", "sdpa"]),
    st.sampled_from(["bfloat16", "float32"]),
    st.sampled_from(["balanced", "worst"]),
)
def test_a_traced_tree_equals_the_closed_form(
    grid: tuple[int, int], batch: int, steps: int, attention: str, dtype: str, routing: str
) -> None:
    scenario = Scenario(
        pages=(Page(grid=grid),),
        batch=batch,
        decode_steps=steps,
        attention=attention,
        dtype=dtype,
        routing=routing,
        **SMALL_SIZES,
    )
    _, tree = traced_costs(scenario, min(steps, 3))
    assert tree is not None
    closed = FAMILY.costs(small_config(), scenario).tree()
    mine, closed_ones = exact(tree), exact(closed)
    if routing == "worst":  # a trace names the experts that ran, the closed form all of them
        for numbers in (mine, closed_ones):
            del numbers["calls"], numbers["peaks"]
    assert mine == closed_ones
    ours, theirs = tree.total, closed.total
    assert theirs.ideal_bytes <= ours.ideal_bytes <= ours.eager_bytes


def test_drawn_routing_is_traced_to_the_end(tmp_path: Path) -> None:
    given = ("--grid", "1x1", "--decode-steps", "5", "--batch", "2", "--routing", "random:3", "--json")
    traced = command("analyze", "deepseek-ocr", "--trace", *given)
    assert traced.code == 0, traced.err
    closed = json.loads(command("analyze", "deepseek-ocr", *given).out)["totals"]["costs"]
    ours = json.loads(traced.out)["totals"]["costs"]
    for name in ("matrix_flops", "vector_flops", "launches", "eager_bytes_read", "eager_bytes_written"):
        assert ours[name] == closed[name], name


@pytest.mark.parametrize("window", [None, 20])
def test_steps_beyond_the_traced_ones_are_those_of_a_longer_trace(window: int | None) -> None:
    source = {**LLAMA, **({"model_type": "mistral", "sliding_window": window} if window else {})}
    options = TraceOptions(forward_operators=True)

    def run(steps: int) -> Any:
        graph = trace_hugging_face(
            source, Scenario(pages=(), decode_steps=steps), batch=2, positions=16, name="m", options=options
        )
        return fold(graph)

    long = run(12)
    all_steps = cost_tree(long, forward_costs(long))
    bends = turning_points(source, (17, 28))
    assert bends == ([20] if window else [])
    short = run((bends[-1] - 16 if bends else 0) + 3)
    forwards = extended(forward_costs(short), 12)
    assert forwards is not None
    assert exact(cost_tree(short, forwards)) == exact(all_steps)


def test_a_run_survives_its_report() -> None:
    folded, tree = traced_costs(Scenario(pages=(Page(grid=(2, 1)),), decode_steps=1, **SMALL_SIZES), 1)
    assert tree is not None
    run = TracedRun(tree, "family", tree.family, {"a": 1}, {"seq_len": 3}, {"Linear": "torch.nn.Linear"}, notes=("n",))
    data = json.loads(json.dumps(run.to_data()))
    again = TracedRun.from_data(data, {"a": 1}, {"seq_len": 3})
    assert again == run
    assert folded.root == again.tree.root.id


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    (folder / "config.json").write_text(json.dumps(LLAMA))
    made = command("analyze", "config.json", "--input-ids", "2x16", "--decode-steps", "9", "--out", "r", cwd=folder)
    assert made.code == 0, made.err
    return folder


def test_a_model_without_closed_forms_has_a_report(llama: Path) -> None:
    report = load_report(llama / "r" / "report.json")
    assert report.totals is not None and report.capacity is not None
    layers, width, inner, positions = 3, 32, 64, 2 * (16 + 9)
    # q and o are square, k and v half as wide; three products in the MLP; without architectures there is no head.
    linear = 2 * positions * (layers * (3 * width * width + 3 * width * inner))
    attention = sum(4 * 2 * layers * width * n * k for n, k in [(16, 16), *((1, 16 + t) for t in range(1, 10))])
    assert report.totals.costs.matrix_flops == linear + attention
    assert report.capacity.pages_per_s is None and report.capacity.largest_batch is None
    assert report.model.num_layers == 3 and report.workload.seq_len == 16
    assert (llama / "r" / "summary.md").is_file()


@pytest.mark.parametrize("model", ["llama", "deepseek-ocr"])
def test_nearly_all_is_in_a_category(llama: Path, model: str, tmp_path: Path) -> None:
    if model == "llama":
        report = load_report(llama / "r" / "report.json")
    else:
        made = command("analyze", model, "--trace", "--grid", "1x1", "--out", "r", "--quiet", cwd=tmp_path)
        assert made.code == 0, made.err
        report = load_report(tmp_path / "r" / "report.json")
    root = report.modules[0].module_id
    (whole,) = (metrics for metrics in report.module_metrics if metrics.module_id == root)
    other = sum(part.flops_tflops for part in whole.operator_breakdown if part.category_id == "other")
    assert other <= 0.01 * whole.total_flops_tflops
    calls = {part.category_id: part.calls for part in whole.operator_breakdown}
    assert calls.get("other", 0) <= 0.01 * sum(calls.values())


def test_another_device_is_answered_from_the_report(llama: Path) -> None:
    asked = ("--device", "h200", "--execution", "graph")
    answer = command("what-if", "r/report.json", *asked, "--json", cwd=llama)
    assert answer.code == 0, answer.err
    fresh = command("analyze", "config.json", "--input-ids", "2x16", "--decode-steps", "9", *asked, "--json", cwd=llama)
    assert json.loads(answer.out)["after"] == json.loads(fresh.out)


@pytest.mark.parametrize(("device", "execution"), [("h100-sxm", "eager"), ("mi300x", "eager"), ("h200", "graph")])
def test_expressions_answer_for_other_devices(llama: Path, device: str, execution: str) -> None:
    first = load_report(llama / "r" / "report.json")
    question = question_of(first)
    asked = changed(question, {"execution": execution}, find_device(device))
    other = asked.report()
    assert first.expressions is not None and other.expressions is not None
    compare_numbers(evaluate_graph(first.expressions, other.expressions["keys"]), other)


def test_what_needs_another_trace_is_refused_by_name(llama: Path) -> None:
    refused = command("what-if", "r/report.json", "--batch", "3", "--dtype", "float32", cwd=llama)
    assert refused.code == USAGE
    assert "batch" in refused.err and "dtype" in refused.err and "--retrace" in refused.err
    solved = command("what-if", "r/report.json", "--solve", "batch", cwd=llama)
    assert solved.code == USAGE and "trace" in solved.err


def test_a_trace_is_of_one_device(llama: Path) -> None:
    refused = command("analyze", "config.json", "--tensor-parallel", "2", cwd=llama)
    assert refused.code == USAGE and "--tensor-parallel is 2" in refused.err


def test_or_traced_again(llama: Path) -> None:
    asked = ("--batch", "3", "--decode-steps", "4")
    answer = command("what-if", "r/report.json", *asked, "--retrace", "--json", cwd=llama)
    assert answer.code == 0, answer.err
    fresh = command("analyze", "config.json", "--input-ids", "3x16", "--decode-steps", "4", "--json", cwd=llama)
    assert json.loads(answer.out)["after"] == json.loads(fresh.out)


def test_a_document_is_analysed_as_its_model(llama: Path) -> None:
    options = ("config.json", "--input-ids", "2x16", "--decode-steps", "2")
    made = command("trace", *options, "--forward-operators", "--out", "t", "--quiet", cwd=llama)
    assert made.code == 0, made.err
    ours = json.loads(command("analyze", "t/callgraph.json", "--json", cwd=llama).out)
    fresh = json.loads(command("analyze", *options, "--json", cwd=llama).out)
    for key in ("totals", "module_metrics", "stage_metrics", "modules"):
        assert ours[key] == fresh[key], key
    plain = command("trace", *options, "--out", "u", "--quiet", cwd=llama)
    assert plain.code == 0
    refused = command("analyze", "u/callgraph.json", cwd=llama)
    assert refused.code not in (0, SCENARIO) and "--forward-operators" in refused.err


def test_a_store_keeps_what_it_has(llama: Path) -> None:
    ask = ("analyze", "deepseek-ocr", "--grid", "1x1", "--store", "s", "--quiet")
    first = command(*ask, cwd=llama)
    assert first.code == 0, first.err
    (folder,) = (llama / "s").iterdir()
    assert first.out.splitlines() == [f"report_id {folder.name}", f"artifacts_dir s/{folder.name}"]
    stamp = (folder / "report.json").stat().st_mtime_ns
    assert command(*ask, cwd=llama).out == first.out
    assert (folder / "report.json").stat().st_mtime_ns == stamp
    before = (folder / "report.json").read_bytes()
    assert command(*ask, "--force-rebuild", cwd=llama).code == 0
    assert (folder / "report.json").stat().st_mtime_ns > stamp
    assert (folder / "report.json").read_bytes() == before


@pytest.mark.parametrize("name", ["../x", "", ".."])
def test_a_run_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    refused = command("analyze", "deepseek-ocr", "--out", "o", "--run-id", name, cwd=tmp_path)
    assert refused.code == USAGE and not list(tmp_path.iterdir())


def test_a_run_has_a_folder_of_its_name(tmp_path: Path) -> None:
    made = command("analyze", "deepseek-ocr", "--grid", "1x1", "--run-id", "a", "--quiet", cwd=tmp_path)
    assert made.code == 0, made.err
    assert (tmp_path / "runs" / "a" / "report.json").is_file()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_spoilt_trace_is_refused_with_its_place(llama: Path, data: st.DataObject) -> None:
    whole = json.loads((llama / "r" / "report.json").read_text())["scenario"]["trace"]
    spoilt = copy.deepcopy(whole)
    place: Any = spoilt
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
        if key == "configuration":
            return  # free data
        inner = place[key]
        if not isinstance(inner, (dict, list)) or not inner or data.draw(st.booleans()):
            break
        place = inner
    place[key] = data.draw(st.sampled_from([-1, 1.5, {"x": []}, [[]], "\0"]))
    if isinstance(inner, str) and isinstance(place[key], str):
        return  # one name for another
    with pytest.raises(DocumentError, match="trace"):
        TracedRun.from_data(spoilt, {}, {})

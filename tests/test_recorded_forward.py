"""The full-size trace against one recorded forward of the vendor's code, module by module.

``data/recorded_forward_2x1.json`` says how it was recorded. The vendor's CLIP blocks reach into
attention and MLP through ``.forward``, so the recording lacks these two nodes and hangs their
children on the block; ours has them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from modelmeter import CallGraph, Page, Scenario, trace
from modelmeter.schema.callgraph import Forward, TensorSignature

VISION_FLOPS = 1_916_266_708_992
PREFILL_FLOPS = 2_497_258_421_760
DECODE_100_FLOPS = 118_158_489_600
"""Grid 2x1, 10 text tokens, measured on a GPU with the vendor's code by its public profiling repository."""

NAMES = {"(core)": "DeepseekOCRModel", "(wrapper)": "DeepseekOCRForCausalLM"}


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    text = (Path(__file__).parent / "data" / "recorded_forward_2x1.json").read_text(encoding="utf-8")
    return json.loads(text)


@pytest.fixture(scope="module")
def graph() -> CallGraph:
    return trace("deepseek-ocr", Scenario(pages=(Page(grid=(2, 1)),), decode_steps=3, decoder_attention="eager"))


@pytest.fixture(scope="module", params=["prefill", "decode_first_step"])
def pair(request: pytest.FixtureRequest, graph: CallGraph, recorded: dict[str, Any]) -> tuple[Forward, dict[str, Any]]:
    index = 0 if request.param == "prefill" else 1
    return graph.forwards[index], recorded[request.param]


def ours(name: str) -> str:
    return NAMES.get(name, name)


def test_every_recorded_module_ran_as_often(pair: tuple[Forward, dict[str, Any]]) -> None:
    forward, want = pair
    assert {ours(name): calls for name, calls in want["call_counts"].items()} == {
        ours(name): forward.call_counts.get(ours(name)) for name in want["call_counts"]
    }


def test_every_recorded_edge_is_there(pair: tuple[Forward, dict[str, Any]]) -> None:
    forward, want = pair
    clip_block = re.compile(r"(vision_model\.transformer\.layers\.\d+)->\1\.(self_attn|mlp)\.")
    for edge, calls in want["edges"].items():
        caller, callee = map(ours, edge.split("->"))
        if clip_block.match(edge):
            caller = callee.rpartition(".")[0]
        assert forward.edges[f"{caller}->{callee}"] == calls, edge


def test_matrix_flops_of_every_module_are_equal(pair: tuple[Forward, dict[str, Any]]) -> None:
    forward, want = pair
    measured = {ours(name): flops for name, flops in want["flops"].items()}
    assert measured == {name: forward.costs[name].total.matrix_flops for name in measured}
    assert forward.costs["DeepseekOCRForCausalLM"].total.matrix_flops == want["total_flops"]


def test_modules_without_recorded_flops_multiply_no_matrices(pair: tuple[Forward, dict[str, Any]]) -> None:
    forward, want = pair
    for name in want["call_counts"]:
        if name not in want["flops"]:
            assert forward.costs[ours(name)].total.matrix_flops == 0, name


@pytest.mark.parametrize("direction", ["inputs", "outputs"])
def test_shapes_of_the_first_call_are_equal(pair: tuple[Forward, dict[str, Any]], direction: str) -> None:
    forward, want = pair
    metadata = forward.input_metadata if direction == "inputs" else forward.output_metadata
    for name, tensors in want[direction].items():
        got = Counter(_plain(tensor) for tensor in metadata[ours(name)][0].tensors)
        # Caches are kept apart in our document; in the recording they are tensors [1, 10, positions, 128].
        expected = Counter(
            (tuple(shape), dtype)
            for shape, dtype in tensors
            if name not in NAMES or shape[1:2] != [10] or len(shape) != 4
        )
        assert got == expected, name


def test_output_bytes_are_equal(pair: tuple[Forward, dict[str, Any]]) -> None:
    forward, want = pair
    for name, size in want["out_bytes"].items():
        if name not in NAMES:  # these two return the cache as well, which ours keeps apart
            assert forward.costs[name].total.output_bytes == size, name


def test_class_names_are_the_checkpoints(graph: CallGraph, recorded: dict[str, Any]) -> None:
    for name, kind in recorded["module_types"].items():
        assert graph.module_types[ours(name)] == kind


def test_published_figures_are_reproduced(graph: CallGraph, recorded: dict[str, Any]) -> None:
    vision = graph.stages["vision"].matrix_flops + graph.stages["projector"].matrix_flops
    assert vision == VISION_FLOPS
    assert graph.forwards[0].costs[graph.root].total.matrix_flops == PREFILL_FLOPS
    steps = [forward.costs[graph.root].total.matrix_flops for forward in graph.forwards[1:]]
    assert steps == recorded["decode_step_flops"]
    first, growth = steps[0], steps[1] - steps[0]
    assert steps[2] - steps[1] == growth
    assert sum(first + growth * step for step in range(100)) == DECODE_100_FLOPS


def test_stages_add_up_to_the_whole(graph: CallGraph) -> None:
    assert graph.total.matrix_flops == graph.costs[graph.root].total.matrix_flops
    assert graph.total.launches == graph.costs[graph.root].total.launches
    assert graph.total.bytes_read == graph.costs[graph.root].total.bytes_read
    assert graph.stages["other"].launches == 0
    assert graph.unknown_operators == {}


def test_cache_grows_by_one_position_a_step(graph: CallGraph) -> None:
    per_position = 2 * 10 * 128 * 2
    assert len(graph.kv_cache) == 12
    for held in graph.kv_cache.values():
        assert held == [per_position * (493 + step) for step in range(4)]


def test_runtime_events_agree_with_the_graph(graph: CallGraph) -> None:
    prefill = [event for event in graph.runtime_events if event["forward"] == "prefill"]
    (seen,) = [event for event in prefill if event["kind"] == "vision_inputs"]
    assert (seen["num_crops"], seen["images_spatial_crop"]) == (2, [2, 1])
    (stack,) = [event for event in prefill if event["kind"] == "llm_stack"]
    assert stack["num_layers"] == sum(re.fullmatch(r"layers\.\d+", name) is not None for name in graph.call_counts)
    routed = [event for event in prefill if event["kind"] == "expert_tokens"]
    assert len(routed) == 11
    for event in routed:
        for expert, tokens in enumerate(event["counts"]):
            (signature,) = graph.forwards[0].input_metadata[f"{event['module']}.experts.{expert}"]
            assert signature.tensors[0].shape == (tokens, 1280)


def _plain(tensor: TensorSignature) -> tuple[tuple[int, ...], str]:
    return tensor.shape, tensor.dtype

"""Sweeps: every number of every combination is what a single evaluation gives."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmeter.cost.catalogue import find_device, load_catalogue
from modelmeter.cost.efficiency import CASES
from modelmeter.cost.memory import memory_need
from modelmeter.errors import ModelMeterError, ScenarioError, UnknownNameError, UsageError
from modelmeter.families.deepseek_ocr import DeepSeekOCRConfig
from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.planning.sweep import TOTALS, Sweep, sweep
from modelmeter.schema.scenario import Page, Scenario
from modelmeter.schema.timing import BOUNDS, TimedTree
from small import SMALL_SIZES, small_config

SMALL = Scenario(**SMALL_SIZES)

AXES: dict[str, st.SearchStrategy[Any]] = {
    "grid": st.sampled_from([(1, 1), (2, 1), (1, 3), (3, 3)]),
    "pages": st.lists(st.sampled_from([Page(grid=(1, 1)), Page(grid=(2, 1)), Page(100, 900)]), min_size=1, max_size=3),
    "text_tokens": st.one_of(st.integers(1, 40), st.integers(1, 2100)),
    "decode_steps": st.one_of(st.integers(0, 3), st.integers(0, 600)),
    "batch": st.one_of(st.integers(1, 4), st.integers(1, 10**6)),
    "device": st.sampled_from(sorted(load_catalogue())),
    "execution": st.sampled_from(["eager", "graph"]),
    "dtype": st.sampled_from(["bfloat16", "float16", "float32"]),
    "attention": st.sampled_from(["eager", "sdpa"]),
    "head": st.sampled_from(["all", "last"]),
    "routing": st.sampled_from(["balanced", "worst", "zipf:1", "random:3"]),
    "kv_dtype": st.sampled_from(["bfloat16", "float8_e4m3fn"]),
    "image_size": st.sampled_from([48, 64]),
}


@cache
def small_model() -> DeepSeekOCRConfig:
    return small_config()


@st.composite
def axes_of_scenarios(draw: st.DrawFn) -> dict[str, list[Any]]:
    names = draw(st.lists(st.sampled_from(sorted(AXES)), min_size=1, max_size=5, unique=True))
    if "grid" in names and "pages" in names:
        names.remove("pages")
    return {name: draw(st.lists(AXES[name], min_size=1, max_size=3)) for name in names}


def single(config: Any, scenario: Scenario, values: dict[str, Any]) -> TimedTree:
    """One combination, worked out by itself."""
    keys = {name: value for name, value in values.items() if name != "device"}
    if "grid" in keys:
        keys["pages"] = (Page(grid=keys.pop("grid")),)
    if "pages" in keys:
        keys["pages"] = tuple(keys["pages"])
    own = evolve(scenario, **keys)
    device = values.get("device", own.device)
    return FAMILY.costs(config, own).timed(find_device(device) if isinstance(device, str) else device, own.execution)


def totals_of(timed: TimedTree) -> dict[str, int]:
    """What a sweep gives, as sums of a tree."""
    total, tree = timed.tree.total, timed.tree
    numbers = (total.matrix_flops, total.vector_flops, total.ideal_bytes, total.eager_bytes, total.launches)
    return dict(zip(TOTALS, (*numbers, tree.weight_bytes, tree.kv_cache_bytes, tree.peak.bytes), strict=True))


def compare(found: Sweep, config: Any, scenario: Scenario, *, every: int = 1) -> None:
    """Every so many combinations of a sweep beside single evaluations."""
    for place in list(np.ndindex(found.shape))[::every]:
        values = {name: own[index] for (name, own), index in zip(found.axes.items(), place, strict=True)}
        try:
            timed = single(config, scenario, values)
        except ScenarioError:
            assert not found.valid[place]
            assert not found.fits[place]
            assert all(np.isnan(found.seconds[stage][case][place]) for stage in found.seconds for case in CASES)
            continue
        assert found.valid[place]
        assert {name: int(found.totals[name][place]) for name in TOTALS} == totals_of(timed)
        device = values.get("device") or find_device(scenario.device)
        assert found.fits[place] == memory_need(timed.tree, device).fits
        for stage, span in timed.stages.items():
            for case in CASES:
                seconds = getattr(span.seconds, case)
                assert found.seconds[stage][case][place] == pytest.approx(seconds, rel=1e-12, abs=0)
            shares = sorted(span.shares.values())
            if shares[-1] - shares[-2] > 1e-12 * shares[-1] or not shares[-1]:
                bound = int(found.bounds[stage][place])
                assert (BOUNDS[bound] if bound >= 0 else "") == span.bound


@settings(max_examples=60, deadline=None)
@given(axes_of_scenarios())
def test_every_combination_equals_its_single_evaluation(axes: dict[str, list[Any]]):
    try:
        found = sweep(FAMILY, small_model(), SMALL, axes)
    except ScenarioError:
        # One that has no possible scenario at all; see below.
        return
    assert list(found.axes) == list(axes)
    assert found.shape == tuple(map(len, axes.values()))
    compare(found, small_model(), SMALL, every=1 + found.size // 12)


def test_the_published_model_in_all_directions():
    config, scenario = FAMILY.default_configuration(), Scenario()
    axes = {
        "batch": [1, 64],
        "grid": [(1, 1), (3, 3)],
        "execution": ["eager", "graph"],
        "text_tokens": [10, 6000, 9000],
        "device": ["h100-sxm", "rtx-5090", "t4"],
        "decode_steps": [0, 300],
    }
    found = sweep(FAMILY, config, scenario, axes)
    compare(found, config, scenario, every=5)
    assert sum(found.refused.values()) == found.size - found.valid.sum()


def test_totals_beyond_64_bits_are_exact():
    config = small_config(max_position_embeddings=10**12)
    scenario = evolve(SMALL, pages=(Page(grid=(2, 1)),))
    axes = {"text_tokens": [5, 10**9, 3 * 10**9], "batch": [1, 10**6], "decode_steps": [0, 10**8]}
    found = sweep(FAMILY, config, scenario, axes)
    assert found.totals["matrix_flops"].dtype == object
    assert int(found.totals["matrix_flops"].max()) > 2**80
    assert found.totals["launches"].dtype == np.int64
    compare(found, config, scenario)


def test_a_size_beyond_64_bits():
    config = small_config(max_position_embeddings=2**90)
    found = sweep(FAMILY, config, SMALL, {"batch": [1, 2**70], "text_tokens": [2**66]})
    compare(found, config, SMALL)


@pytest.mark.parametrize("block", [1, 7, 64])
def test_blocks_change_nothing(block: int, monkeypatch: pytest.MonkeyPatch):
    from modelmeter.cost import arrays

    axes = {"text_tokens": range(1, 9), "batch": [1, 2, 3], "device": ["h100-sxm", "rtx-5090"]}
    whole = sweep(FAMILY, small_model(), SMALL, axes)
    monkeypatch.setitem(arrays.evaluate_arrays.__kwdefaults__, "block", block)
    parts = sweep(FAMILY, small_model(), SMALL, axes)
    for name in TOTALS:
        assert (whole.totals[name] == parts.totals[name]).all()
    for stage, cases in whole.seconds.items():
        for case, seconds in cases.items():
            assert (seconds == parts.seconds[stage][case]).all()


def test_axes_have_names():
    axes = {"batch": [1, 2, 4], "device": ["h100-sxm", find_device("rtx-5090")]}
    found = sweep(FAMILY, small_model(), SMALL, axes)
    assert [device.id for device in found.axes["device"]] == ["h100-sxm", "rtx-5090"]
    flops = found.totals["matrix_flops"]
    assert flops[found.at(batch=4)].shape == (2,)
    assert flops[found.at(batch=4, device="rtx-5090")] == flops[2, 1]
    assert flops[found.at(device=find_device("rtx-5090"))].tolist() == flops[:, 1].tolist()
    total = found.total_seconds("high")
    assert total.shape == found.shape
    assert total[0, 0] == pytest.approx(sum(found.seconds[stage]["high"][0, 0] for stage in found.seconds))
    with pytest.raises(ValueError, match="read-only"):
        flops[0, 0] = 1
    with pytest.raises(UsageError, match="the sweep has no batch 3; it has 1, 2, 4"):
        found.at(batch=3)
    with pytest.raises(UsageError, match="the sweep has no head 'all'; it has batch, device"):
        found.at(head="all")


def test_what_is_refused_is_said():
    axes = {"text_tokens": [10, 5000], "device": ["h100-sxm", "t4"], "grid": [(1, 1), (5, 5)]}
    found = sweep(FAMILY, small_model(), SMALL, axes)
    assert found.valid.tolist() == [[[True, False], [False, False]], [[False, False], [False, False]]]
    reasons = {reason.partition(";")[0]: number for reason, number in found.refused.items()}
    assert reasons == {
        "grid 5x5 has 25 crops": 4,
        "prompt and decode steps exceed the model's 2048 positions": 2,
        "device t4 (T4) has no peak for bfloat16": 1,
    }
    # What the device lacks says nothing about the model.
    assert found.totals["matrix_flops"][0, 1, 0] == found.totals["matrix_flops"][0, 0, 0] > 0
    assert found.totals["matrix_flops"][1].tolist() == [[0, 0], [0, 0]]
    assert (found.bounds["decode"] == -1).all()


def test_no_text_tokens_are_refused_where_some_are_not():
    found = sweep(FAMILY, small_model(), SMALL, {"text_tokens": [0, 3], "batch": [1, 2]})
    assert found.valid.tolist() == [[False, False], [True, True]]
    assert found.refused == {"text_tokens is 0; give at least 1: the prompt begins with the BOS token": 2}
    compare(found, small_model(), SMALL)


def test_a_reason_says_what_was_tried():
    found = sweep(FAMILY, small_model(), SMALL, {"seq_len": [300, 3000], "decode_steps": [2, 4]})
    reason = found.reason_texts[found.reasons[1, 1]]
    assert reason.startswith("even with decode_steps 2: 3000 prompt positions and 2 decode steps exceed")
    assert found.refused == {reason: 2}


def test_drawn_routing_is_counted_for_each_scenario():
    axes = {"routing": ["balanced", "zipf:1.2", "random:5"], "batch": [1, 3], "decode_steps": [0, 5]}
    found = sweep(FAMILY, small_model(), SMALL, axes)
    assert found.valid.all()
    launches = found.totals["launches"][..., 1]
    assert launches[1, 1] < launches[0, 1], "the experts that nobody takes start no kernels"
    compare(found, small_model(), SMALL)


def test_several_devices():
    axes = {"devices": [2, 4], "tensor_parallel": [1, 2, 3], "expert_parallel": [1, 2], "device": ["h100-sxm", "t4"]}
    found = sweep(FAMILY, small_model(), SMALL, axes)
    compare(found, small_model(), SMALL)
    assert not found.valid[:, 2].any()
    assert "--tensor-parallel 3 does not divide --devices 2; split over a number that divides the devices" in (
        found.refused
    )


def test_as_many_devices_as_share_the_layers():
    found = sweep(FAMILY, small_model(), SMALL, {"tensor_parallel": [1, 2, 4], "batch": [1, 8]})
    assert found.valid.all()
    for place, share in enumerate((1, 2, 4)):
        own = Scenario(**SMALL_SIZES, tensor_parallel=share, batch=8)
        timed = FAMILY.costs(small_model(), own).timed(find_device(own.device))
        assert found.totals["matrix_flops"][place, 1] == timed.tree.total.matrix_flops


def test_numpy_integers_and_ranges_are_sizes():
    found = sweep(FAMILY, small_model(), SMALL, {"batch": np.arange(1, 4), "text_tokens": range(3, 5)})
    assert found.axes == {"batch": (1, 2, 3), "text_tokens": (3, 4)}
    assert all(type(value) is int for value in found.axes["batch"])


def test_a_page_alone_is_a_request_of_one_page():
    found = sweep(FAMILY, small_model(), SMALL, {"pages": [Page(100, 900), [Page(100, 900)] * 2]})
    compare(found, small_model(), SMALL)


def test_no_axis_is_one_scenario():
    found = sweep(FAMILY, small_model(), SMALL, {})
    assert found.shape == () and found.size == 1
    compare(found, small_model(), SMALL)


@pytest.mark.parametrize(
    ("axes", "kind", "message"),
    [
        ({"batches": [1]}, UnknownNameError, "unknown axis 'batches'; did you mean 'batch'"),
        ({"batch": []}, UsageError, "axis batch has no value; give at least one"),
        ({"batch": [0]}, ScenarioError, "--batch is 0"),
        ({"batch": [1.5]}, ScenarioError, "--batch is 1.5"),
        ({"text_tokens": [0]}, ScenarioError, "no scenario of the sweep is possible: text_tokens is 0"),
        ({"text_tokens": [9000]}, ScenarioError, "no scenario of the sweep is possible: 90"),
        ({"grid": [(1, 1)], "pages": [[Page(9, 9)]]}, UsageError, "axes grid and pages both say which pages there are"),
        ({"pages": [5]}, ScenarioError, "pages is 5; give a tuple of Page objects"),
        ({"grid": [3]}, ScenarioError, "a page's grid is 3; give two whole numbers"),
        ({"device": ["h101"]}, UnknownNameError, "unknown device 'h101'"),
        ({"device": ["t4"]}, ScenarioError, "no scenario of the sweep is possible: device t4"),
        ({"execution": ["fast"]}, UnknownNameError, "unknown execution 'fast'"),
        ({"routing": ["zipf"]}, ScenarioError, "routing policy 'zipf': '' is no valid parameter"),
        ({"tensor_parallel": [0]}, ScenarioError, "--tensor-parallel is 0"),
    ],
)
def test_wrong_axes_are_refused(axes: dict[str, Any], kind: type[ModelMeterError], message: str):
    with pytest.raises(kind) as caught:
        sweep(FAMILY, small_model(), SMALL, axes)
    assert str(caught.value).startswith(message)

"""Random reports that keep the contract, and ways to break one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from modelmeter.contracts import (
    AnalyticModelReport,
    AnalyticModuleNode,
    Capacity,
    DeepSeekOCRModelSpec,
    ExactCosts,
    Interval,
    ModuleMetricsSnapshot,
    OCRWorkloadProfile,
    OperatorCategory,
    OperatorMetrics,
    ReportTotals,
    StageModuleMetrics,
    StageTotals,
)
from modelmeter.contracts.fields import BOUNDS, DOC_KINDS, REPETITIONS, REPORT_STAGES, VISION_BACKBONES

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAME = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
COUNT = st.integers(0, 2**80)
AMOUNT = st.floats(0, allow_nan=False, allow_infinity=False)
IDENTIFIER = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
PATH = st.lists(st.from_regex(r"[a-z0-9_-]{1,6}", fullmatch=True), min_size=1, max_size=3).map("/".join)
STAGE = st.sampled_from(REPORT_STAGES)
BOUND = st.sampled_from(BOUNDS)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
FREE = st.dictionaries(TEXT, PLAIN, max_size=3)
INTERVAL = st.builds(
    lambda ends, stage: Interval(low=ends[0], estimate=ends[1], high=ends[2], bound_by=stage),
    st.lists(AMOUNT, min_size=3, max_size=3).map(sorted),
    st.none() | STAGE,
)
COSTS = st.builds(ExactCosts, **dict.fromkeys([a.name for a in ExactCosts.__attrs_attrs__], COUNT))
TOTALS = st.builds(
    ReportTotals,
    costs=COSTS,
    stages=st.dictionaries(STAGE, st.builds(StageTotals, costs=COSTS, time_s=INTERVAL, bound=BOUND), max_size=2),
    matrix_flops_by_dtype=st.dictionaries(TEXT, COUNT, max_size=2),
    parameters=COUNT,
    weight_bytes=COUNT,
    kv_cache_bytes=COUNT,
    peak_live_bytes=COUNT,
    peak_module=TEXT,
)
CAPACITY = st.builds(
    Capacity,
    time_to_first_token_s=INTERVAL,
    time_per_output_token_s=st.none() | INTERVAL,
    total_time_s=INTERVAL,
    tokens_per_s=st.none() | INTERVAL,
    pages_per_s=INTERVAL,
    pages_per_s_and_device=INTERVAL,
    price_per_1000_pages_usd=st.none() | INTERVAL,
    memory_bytes=COUNT,
    memory_capacity_bytes=COUNT,
    headroom_bytes=COUNT,
    largest_batch=COUNT,
)
MODEL = st.builds(
    DeepSeekOCRModelSpec,
    model_id=NAME,
    model_variant=NAME,
    hf_revision=st.none() | TEXT,
    config_path=PATH,
    hidden_size=COUNT,
    intermediate_size=COUNT,
    num_layers=COUNT,
    num_attention_heads=COUNT,
    vision_backbone=st.sampled_from(VISION_BACKBONES),
    uses_moe=st.booleans(),
    notes=TEXT,
)
WORKLOAD = st.builds(
    OCRWorkloadProfile,
    profile_id=NAME,
    description=TEXT,
    seq_len=COUNT,
    base_size=COUNT,
    image_size=COUNT,
    crop_mode=st.booleans(),
    max_new_tokens=COUNT,
    doc_kind=st.sampled_from(DOC_KINDS),
    num_pages=COUNT,
)


@st.composite
def module_trees(draw: st.DrawFn) -> tuple[AnalyticModuleNode, ...]:
    names = draw(st.lists(NAME, min_size=1, max_size=6, unique=True))
    parents = [None] + [draw(st.sampled_from(names[:index])) for index in range(1, len(names))]
    nodes = []
    for name, parent in zip(names, parents, strict=True):
        children = tuple(child for child, above in zip(names, parents, strict=True) if above == name)
        nodes.append(
            AnalyticModuleNode(
                module_id=name,
                name=draw(TEXT),
                qualified_class_name=draw(TEXT),
                stage=draw(STAGE),
                parent_id=parent,
                children=children,
                repetition=draw(st.sampled_from(REPETITIONS)),
                repetition_count=draw(st.none() | COUNT),
                constructor_params=draw(FREE),
            )
        )
    return tuple(draw(st.permutations(nodes)))


@st.composite
def reports(draw: st.DrawFn) -> AnalyticModelReport:
    modules, workload = draw(module_trees()), draw(WORKLOAD)
    categories = draw(st.lists(NAME, max_size=3, unique=True))
    ids = [node.module_id for node in modules]
    breakdown = [
        st.builds(
            OperatorMetrics,
            category_id=st.just(category),
            calls=COUNT,
            flops_tflops=AMOUNT,
            io_tb=AMOUNT,
            share_of_module_flops=AMOUNT,
        )
        for category in categories
    ]
    metrics = [
        ModuleMetricsSnapshot(
            module_id=module,
            profile_id=workload.profile_id,
            calls=draw(COUNT),
            **{
                name: draw(AMOUNT)
                for name in (
                    "total_time_ms total_flops_tflops total_io_tb memory_weights_gb memory_activations_gb "
                    "memory_kvcache_gb share_of_model_time"
                ).split()
            },
            operator_breakdown=tuple(draw(part) for part in breakdown),
        )
        for module in ids
        if draw(st.booleans())
    ]
    in_stages = st.builds(
        StageModuleMetrics,
        stage=STAGE,
        module_id=st.sampled_from(ids),
        calls=COUNT,
        total_time_ms=AMOUNT,
        total_flops_tflops=AMOUNT,
        total_io_tb=AMOUNT,
        bound=BOUND,
        share_of_stage_time=AMOUNT,
    )
    unique = st.lists(in_stages, max_size=3, unique_by=lambda part: (part.stage, part.module_id)).map(tuple)
    return AnalyticModelReport(
        report_id=draw(IDENTIFIER),
        model=draw(MODEL),
        workload=workload,
        modules=modules,
        operator_categories=tuple(
            OperatorCategory(
                category_id=category,
                display_name=draw(TEXT),
                description=draw(TEXT),
                match_classes=tuple(draw(st.lists(TEXT, max_size=2))),
            )
            for category in categories
        ),
        module_metrics=tuple(metrics),
        profile_run_id=draw(st.none() | TEXT),
        predicted_total_time_ms=draw(AMOUNT),
        measured_total_time_ms=draw(st.none() | AMOUNT),
        predicted_vs_measured_ratio=draw(st.none() | AMOUNT),
        notes=draw(TEXT),
        layer_docs_dir=draw(PATH),
        scenario=draw(st.none() | FREE),
        stage_metrics=draw(st.none() | unique),
        totals=draw(st.none() | TOTALS),
        capacity=draw(st.none() | CAPACITY),
        expressions=draw(st.none() | FREE),
    )


Path = tuple[str | int, ...]

FREE_KEYS = ("scenario", "expressions", "constructor_params")
KEYED = ("stages", "matrix_flops_by_dtype")
"""Objects whose keys are names, not fields."""


def places(data: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value of plain data with its place, outermost first; what the contract leaves free is left out."""
    yield path, data
    if isinstance(data, dict):
        for key, value in data.items():
            if key not in FREE_KEYS:
                yield from places(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from places(value, (*path, index))


def shown(path: Path) -> str:
    """A place as an error names it."""
    text = "$"
    for index, step in enumerate(path):
        by_key = isinstance(step, int) or (index > 0 and path[index - 1] in KEYED)
        text += f"[{step!r}]" if by_key else f".{step}"
    return text


def changed(data: Any, path: Path, value: Any) -> Any:
    """The same data with another value at one place."""
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = changed(data[path[0]], path[1:], value)  # type: ignore[index]
    return copy


def wrong_values(value: Any) -> list[Any]:
    """What no field may have that has this value."""
    if isinstance(value, bool):
        return [1, 0, "true", None]
    if isinstance(value, int):
        return [str(value), True, -1, math.nan, math.inf, [], {}]
    if isinstance(value, float):
        return [str(value), True, -0.5, math.nan, -math.inf, math.inf, []]
    if isinstance(value, str):
        return [8, True, [value], {"a": value}]
    if isinstance(value, list):
        return [{}, "ab", 1, tuple(value)]
    return [[], "ab", 1]

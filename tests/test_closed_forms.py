"""Every closed form taken four ways: with ints, NumPy arrays, SymPy symbols and ``Expression`` keys.

A formula that branches on a size, or that rounds in one kind of number only, gives itself away here. All
amounts, parameters, results and live bytes (and so the peak) must be the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from general_models import CONFIGURATIONS, closed_form_of
from modelmeter.cost import operators as op
from modelmeter.cost.expression import evaluate_all, key
from modelmeter.cost.layers import sliding_window
from modelmeter.cost.layers.attend import Manner
from modelmeter.cost.layers.decoder import AttentionShape, Step, decoder_layer
from modelmeter.cost.layers.expert_load import balanced_load, worst_load
from modelmeter.cost.layers.feed_forward import ExpertsShape, Load, gated_mlp, mixture_of_experts
from modelmeter.cost.layers.language_model import kv_cache_bytes, write_language_model
from modelmeter.cost.layers.language_shape import LanguageWorkload
from modelmeter.cost.layers.plain_mlp import plain_mlp
from modelmeter.cost.layers.routing import deepseek_v2_router, deepseek_v3_router, mixtral_router
from modelmeter.cost.operators.registry import OPERATORS
from modelmeter.cost.precision import Precision
from modelmeter.cost.records import AMOUNTS
from modelmeter.cost.tape import Part, Tape, Tensor

sympy = pytest.importorskip("sympy")

NAMES = ("b", "t", "p", "n", "c", "d", "f", "e", "k", "s")
"""Requests, positions, positions before, heads, channels, width, inner width, experts, top-k, side of a map."""

PRECISIONS = {
    "bfloat16": Precision(),
    "float32": Precision("float32", "float32", "float32"),
    "narrow cache": Precision(kv="float8_e4m3fn"),
}

Sizes = SimpleNamespace
Caller = Callable[[Tape, Sizes, Precision], Any]


def x(tape: Tape, elements: Any) -> Tensor:
    """An input."""
    return tape.given(elements * 2)


def attention_sizes(s: Sizes) -> dict[str, Any]:
    return {"batch": s.b, "heads": s.n, "queries": s.t, "keys": s.p + s.t, "head_dim": s.c}


def qkv(tape: Tape, s: Sizes) -> tuple[Tensor, Tensor, Tensor]:
    q, cached = s.b * s.n * s.t * s.c, s.b * s.n * (s.p + s.t) * s.c
    return x(tape, q), x(tape, cached), x(tape, cached)


def experts_of(s: Sizes) -> tuple[Any, Any, Any, Any]:
    return s.t, s.d, s.e, s.k


CALLERS: dict[str, list[Caller]] = {
    "activation": [lambda t, s, w: op.activation(t, x(t, s.d), s.d, w.activation_bytes)],
    "add": [lambda t, s, w: op.add(t, x(t, s.d), Part(x(t, s.d), s.d), s.d * s.b, w.activation_bytes)],
    "all_gather": [lambda t, s, w: op.all_gather(t, x(t, s.d * s.f), s.n)],
    "all_reduce": [lambda t, s, w: op.all_reduce(t, x(t, s.d * s.f), 2, s.n)],
    "all_to_all": [lambda t, s, w: op.all_to_all(t, x(t, s.t * s.d), s.t, s.d * 2, s.n)],
    "angle_table": [lambda t, s, w: op.angle_table(t, x(t, s.t * 4), s.t, s.c, w)],
    "append_to_cache": [
        lambda t, s, w: op.append_to_cache(t, x(t, s.p), x(t, s.t), s.t, s.p, w),
        lambda t, s, w: op.append_to_cache(t, None, x(t, s.t), s.t, 0, w),
    ],
    "band_attention": [
        lambda t, s, w: op.band_attention(
            t,
            *qkv(t, s),
            rows=s.b * s.n * s.t,
            scores=s.b * s.n * sliding_window.band_scores(s.t, s.p + s.t, 5),
            head_dim=s.c,
            value_dim=s.d,
            precision=w,
        )
    ],
    "band_mask": [
        lambda t, s, w: op.band_mask(t, s.t, s.p + s.t, w, windowed=True, additive=False, present=op_less(5, s.t)),
        lambda t, s, w: op.band_mask(t, s.t, s.p + s.t, w, windowed=False, additive=True),
    ],
    "batched_product": [
        lambda t, s, w: op.batched_product(t, x(t, s.b * s.t * s.c), x(t, s.b * s.c * s.d), s.b, s.t, s.c, s.d, "", 2)
    ],
    "causal_mask": [
        lambda t, s, w: op.causal_mask(t, None, s.b, s.t, s.p + s.t, w),
        lambda t, s, w: op.causal_mask(t, x(t, s.b * s.p), s.b, s.t, s.p + s.t, w),
    ],
    "channel_norm": [lambda t, s, w: op.channel_norm(t, x(t, s.b * s.s * s.s * s.d), s.b * s.s * s.s, s.d, w)],
    "combine": [
        lambda t, s, w: op.combine(t, x(t, s.t * s.k * s.d), x(t, s.t * s.k), x(t, s.t * s.k), s.t, s.d, s.k, w)
    ],
    "concatenate": [lambda t, s, w: op.concatenate(t, [x(t, s.d), Part(x(t, s.f), s.c)], s.d + s.c)],
    "convolution": [
        lambda t, s, w: op.convolution(t, x(t, s.b * s.d * s.s * s.s), s.b, s.d, s.f, s.s, s.s, s.k, w, bias=True)
    ],
    "copy": [
        lambda t, s, w: op.copy(t, x(t, s.d), s.d * 2, vector_flops=s.d),
        lambda t, s, w: op.copy(t, Part(x(t, s.d), s.d), s.d, present=op_less(1, s.b)),
    ],
    "dispatch": [lambda t, s, w: op.dispatch(t, x(t, s.t * s.d), x(t, s.t * s.k), *experts_of(s), w)],
    "eager_attention": [
        lambda t, s, w: op.eager_attention(
            t,
            *qkv(t, s),
            x(t, s.t * (s.p + s.t)),
            **attention_sizes(s),
            precision=w,
            copies_queries=op_less(1, s.b),
            copies_keys=op_less(1, s.b),
        )
    ],
    "embedding": [lambda t, s, w: op.embedding(t, x(t, s.t), s.t, s.e, s.d, w)],
    "flash_attention": [
        lambda t, s, w: op.flash_attention(t, *qkv(t, s), None, **attention_sizes(s), value_dim=s.d, precision=w),
        lambda t, s, w: op.flash_attention(t, *qkv(t, s), x(t, s.t), **attention_sizes(s), precision=w),
    ],
    "gate": [lambda t, s, w: op.gate(t, x(t, s.t * s.d), *experts_of(s), w)],
    "layer_norm": [lambda t, s, w: op.layer_norm(t, x(t, s.t * s.d), s.t, s.d, w)],
    "linear": [lambda t, s, w: op.linear(t, x(t, s.t * s.d), s.t, s.d, s.f, w, bias=True)],
    "multiply": [lambda t, s, w: op.multiply(t, x(t, s.d), x(t, s.d), s.d, w.activation_bytes)],
    "position_numbers": [lambda t, s, w: op.position_numbers(t, s.t)],
    "quick_gelu": [lambda t, s, w: op.quick_gelu(t, x(t, s.d), s.d, w.activation_bytes)],
    "relative_attention": [
        lambda t, s, w: op.relative_attention(
            t,
            *(x(t, s.b * s.n * s.s * s.s * s.c) for _ in "qkv"),
            x(t, s.b * s.n * s.s * s.s * s.s),
            x(t, s.b * s.n * s.s * s.s * s.s),
            (),
            batch=s.b,
            heads=s.n,
            side=s.s,
            head_dim=s.c,
            precision=w,
        )
    ],
    "relative_table": [lambda t, s, w: op.relative_table(t, "rel_pos_h", s.s, s.t, s.c, w)],
    "resize_table": [
        lambda t, s, w: op.resize_table(t, x(t, s.p * s.d), s.p, s.t, s.d, 32, w, present=op_differs(s.p, s.t))
    ],
    "rms_norm": [lambda t, s, w: op.rms_norm(t, x(t, s.t * s.d), s.t, s.d, w)],
    "rotary_angles": [lambda t, s, w: op.rotary_angles(t, s.b, s.t, s.c, w, x(t, s.b * s.t * 4))],
    "rotate": [lambda t, s, w: op.rotate(t, x(t, s.t * s.c), (x(t, s.c), x(t, s.c)), s.t * s.c, w.activation_bytes)],
    "scatter_features": [lambda t, s, w: op.scatter_features(t, x(t, s.d), x(t, s.d), x(t, s.c), s.d * 2)],
    "shared_linear": [lambda t, s, w: op.shared_linear(t, x(t, s.t * s.d), Tensor(s.d * s.f * 2), s.t, s.d, s.f, w)],
    "sigmoid_gate": [
        lambda t, s, w: op.sigmoid_gate(t, x(t, s.t * s.d), *experts_of(s), w, groups=4, groups_kept=2),
        lambda t, s, w: op.sigmoid_gate(t, x(t, s.t * s.d), *experts_of(s), w, renormalises=False, scales=False),
    ],
    "softmax": [
        lambda t, s, w: op.softmax(t, x(t, s.t * s.d), x(t, s.d), s.t * s.d, w),
        lambda t, s, w: op.softmax(t, x(t, s.t * s.d), None, s.t * s.d, w),
    ],
    "softmax_gate": [
        lambda t, s, w: op.softmax_gate(t, x(t, s.t * s.d), *experts_of(s), w, wide=True, groups=4, groups_kept=2),
        lambda t, s, w: op.softmax_gate(t, x(t, s.t * s.d), *experts_of(s), w, renormalises=True, narrow=True),
    ],
    "to_float": [lambda t, s, w: op.to_float(t, x(t, s.d), s.d, w)],
}


def op_less(a: Any, b: Any) -> Any:
    from modelmeter.cost.arithmetic import less

    return less(a, b)


def op_differs(a: Any, b: Any) -> Any:
    from modelmeter.cost.arithmetic import differs

    return differs(a, b)


def step_of(s: Sizes, is_prefill: bool) -> Step:
    if is_prefill:
        return Step(s.b, s.t, s.t, 0, True, op_less(1, s.b))
    return Step(s.b, 1, s.p + 1, s.p, False, op_less(1, s.b))


def a_decoder_layer(kind: str, is_prefill: bool, kv_heads: int) -> Caller:
    def call(tape: Tape, s: Sizes, precision: Precision) -> None:
        shape, step = AttentionShape(32, 4, kv_heads, 8, kind), step_of(s, is_prefill)
        held = None if is_prefill else (x(tape, s.b * s.p * 8 * kv_heads), x(tape, s.b * s.p * 8 * kv_heads))
        decoder_layer(
            tape,
            x(tape, step.rows * 32),
            x(tape, step.queries * step.keys),
            x(tape, step.rows * 4),
            held,
            shape,
            step,
            precision,
            lambda y: gated_mlp(tape, y, step.rows, 32, s.f, precision),
        )

    return call


def mixture(router: Any) -> Caller:
    def call(tape: Tape, s: Sizes, precision: Precision) -> None:
        shape = ExpertsShape(32, 16, 8, 2, 3)
        given = {"router": router} if router else {}
        mixture_of_experts(tape, x(tape, s.t * 32), s.t, shape, balanced_load(s.t, 8, 3), precision, **given)

    return call


def language_model(name: str, attention: str, form: str = "latent") -> Caller:
    model = closed_form_of(CONFIGURATIONS[name], form)

    def call(_: Tape, s: Sizes, precision: Precision) -> Tape:
        loads = {}
        if model.experts:
            numbers = (model.experts.experts, model.experts.top_k)
            layers = len(model.expert_layers)
            loads["prefill_load"] = balanced_load(s.b * s.t, *numbers, layers)
            loads["decode_load"] = worst_load(s.b, *numbers, layers * s.p)
        work = LanguageWorkload(s.b, s.t, s.p, attention=attention, precision=precision, **loads)
        written = write_language_model(model, work)
        for held in kv_cache_bytes(model, work).values():
            for run, number in held.items():
                written.moments[run, "cache"] = [*written.moments.get((run, "cache"), []), number]
        return written

    return call


LAYERS: dict[str, list[Caller]] = {
    "decoder_layer": [
        a_decoder_layer("sdpa", True, 4),
        a_decoder_layer("eager", True, 4),
        a_decoder_layer("eager", False, 2),
        a_decoder_layer("sdpa", False, 4),
    ],
    "gated_mlp": [lambda t, s, w: gated_mlp(t, x(t, s.t * s.d), s.t, s.d, s.f, w, bias=True)],
    "plain_mlp": [lambda t, s, w: plain_mlp(t, x(t, s.t * s.d), s.t, s.d, s.f, w)],
    "mixture_of_experts": [
        mixture(router) for router in (None, mixtral_router(), deepseek_v2_router(4, 2), deepseek_v3_router(4, 2))
    ],
}

MODELS: dict[str, list[Caller]] = {
    "llama": [language_model("llama", "sdpa"), language_model("llama", "eager")],
    "mistral": [language_model("mistral", kind) for kind in ("sdpa", "eager", "band")],
    "qwen2, some windows": [language_model("qwen2, some windows", "sdpa")],
    "qwen3_moe": [language_model("qwen3_moe", "sdpa")],
    "deepseek_v2, lite": [language_model("deepseek_v2, lite", "eager", "absorbed")],
    "deepseek_v3": [
        language_model("deepseek_v3", "sdpa"),
        language_model("deepseek_v3", "sdpa", "expanded"),
        language_model("deepseek_v3", "band", "absorbed"),
    ],
}


def numbers_of(call: Caller, sizes: dict[str, Any], precision: Precision) -> list[Any]:
    """All numbers of a tape, in an order that does not depend on them."""
    tape = Tape()
    with tape.module("Layer", "Layer", members=3):
        result = call(tape, SimpleNamespace(**sizes), precision)
    if isinstance(result, Tape):
        tape = result
    found: list[Any] = [tape.live]
    for amounts in tape.record.costs.values():
        found += [getattr(amounts, name) for name in AMOUNTS]
    found += [*tape.record.calls.values(), *tape.record.outputs.values()]
    for module in tape.modules.values():
        found += [module.parameter_count, module.weight_bytes]
    for moments in tape.moments.values():
        found += moments
    return found


def substituted(numbers: Iterable[Any], values: dict[Any, int]) -> list[int]:
    """SymPy expressions with numbers for their symbols; equal ones are worked out once."""
    known: dict[Any, int] = {}
    found = []
    for number in numbers:
        if isinstance(number, sympy.Basic):
            if number not in known:
                value = number.subs(values)
                assert value.is_Integer, number
                known[number] = int(value)
            number = known[number]
        found.append(number)
    return found


SIZES = st.fixed_dictionaries({name: st.integers(1, 40) for name in NAMES})


def check(call: Caller, precision: Precision, draws: list[dict[str, int]], *, symbols: bool = True) -> None:
    expected = [numbers_of(call, draw, precision) for draw in draws]
    for numbers in expected:
        assert all(type(number) is int for number in numbers)
    together = {name: np.array([draw[name] for draw in draws]) for name in NAMES}
    columns = [np.broadcast_to(column, len(draws)) for column in numbers_of(call, together, precision)]
    assert np.array_equal(np.array(columns).T, np.array(expected))
    keyed = numbers_of(call, {name: key(name) for name in NAMES}, precision)
    for draw, numbers in zip(draws, expected, strict=True):
        assert evaluate_all(keyed, draw) == numbers
    if symbols:
        of = {name: sympy.Symbol(name, integer=True, positive=True) for name in NAMES}
        symbolic = numbers_of(call, of, precision)
        values = {of[name]: number for name, number in draws[0].items()}
        assert substituted(symbolic, values) == expected[0]


@pytest.mark.parametrize("name", sorted(OPERATORS))
@given(draws=st.lists(SIZES, min_size=2, max_size=3))
@settings(max_examples=3, deadline=None)
def test_operators(name: str, draws: list[dict[str, int]]) -> None:
    assert name in CALLERS, f"no caller of {name} in the table of this test"
    for call in CALLERS[name]:
        for precision in PRECISIONS.values():
            check(call, precision, draws)


def test_no_caller_is_left_over() -> None:
    assert set(CALLERS) == set(OPERATORS)


@pytest.mark.parametrize("name", LAYERS)
@given(draws=st.lists(SIZES, min_size=2, max_size=3))
@settings(max_examples=2, deadline=None)
def test_layers(name: str, draws: list[dict[str, int]]) -> None:
    for call in LAYERS[name]:
        for precision in PRECISIONS.values():
            check(call, precision, draws)


@pytest.mark.parametrize("name", MODELS)
@given(draws=st.lists(SIZES, min_size=3, max_size=3))
@settings(max_examples=2, deadline=None)
def test_whole_models(name: str, draws: list[dict[str, int]]) -> None:
    for place, call in enumerate(MODELS[name]):
        check(call, list(PRECISIONS.values())[place], draws, symbols=name == "mistral" and place == 0)


@pytest.mark.parametrize("window", [None, 1, 2, 5, 40])
@given(queries=st.integers(0, 30), past=st.integers(0, 30))
@settings(max_examples=30, deadline=None)
def test_band_scores_are_counted_right(window: int | None, queries: int, past: int) -> None:
    counted = sum(sliding_window.keys_seen(past + place, window) for place in range(1, queries + 1))
    assert sliding_window.band_scores(queries, past + queries, window) == counted
    assert counted <= sliding_window.dense_scores(queries, past + queries)


def test_a_load_is_data() -> None:
    assert balanced_load(5, 8, 3, 2) == Load(30, 16, 1)
    assert balanced_load(1, 8, 3) == Load(3, 3, 1)
    assert worst_load(5, 8, 3, 2) == Load(30, 6, 5)
    assert Manner().kind == "sdpa"

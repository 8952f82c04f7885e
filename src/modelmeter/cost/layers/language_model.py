"""A whole decoder-only language model in closed form: the prefill and the decode steps.

Axes: B requests, T positions, P positions with the cache, D hidden size, V vocabulary. Module names are
those of transformers' models (Llama, Mistral, Qwen2, Qwen3, Mixtral, DeepSeek-V2 and V3), with the
prefix of the model inside dropped; routed experts stand one by one, as in the checkpoints.

Source: Touvron et al., Llama (2023), section 2.2, for the order of norms and residuals; the papers of
each part in its own file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve, frozen

from modelmeter.cost.arithmetic import Number, less
from modelmeter.cost.layers.attend import Cache, Manner, forget
from modelmeter.cost.layers.decoder import Step
from modelmeter.cost.layers.feed_forward import Load, gated_mlp, mixture_of_experts
from modelmeter.cost.layers.grouped_query import GroupedQueryShape, grouped_query_attention
from modelmeter.cost.layers.language_shape import LanguageModel, LanguageWorkload
from modelmeter.cost.layers.latent_attention import latent_attention
from modelmeter.cost.layers.sliding_window import band_scores, cache_length, keys_seen
from modelmeter.cost.operators import (
    add,
    angle_table,
    band_mask,
    embedding,
    linear,
    position_numbers,
    rms_norm,
    shared_linear,
)
from modelmeter.cost.precision import INDEX_BYTES, Precision
from modelmeter.cost.tape import Part, Tape, Tensor
from modelmeter.cost.tree import tree_of
from modelmeter.patterns import one_of
from modelmeter.schema.cost import DECODE, PREFILL, CostTree


@frozen
class _Seen:
    """Keys that a step sees where there is no window, and where there is one: sums of them are linear costs."""

    everywhere: Number
    windowed: Number


@frozen
class _Forward:
    """One forward: its steps by window, and what routing gives it."""

    step: Step
    windowed: Step
    load: Load

    def step_of(self, window: int | None) -> Step:
        return self.step if window is None else self.windowed


def language_model_tree(model: LanguageModel, work: LanguageWorkload) -> CostTree:
    """The costs of a model and a workload of plain integers."""
    tape = write_language_model(model, work)
    return tree_of(family=model.prefix, tape=tape, kv_cache_bytes=kv_cache_bytes(model, work))


def kv_cache_bytes(model: LanguageModel, work: LanguageWorkload) -> dict[str, dict[str, Number]]:
    """Bytes held after the prefill and after the last step, by the attention's name.

    layers * B * positions held * elements of a position * bytes of an element; a window holds at most its size.
    """
    position = model.cache_bytes_per_token_and_layer(work.precision) * work.batch
    held: dict[str, dict[str, Number]] = {}
    for layer in range(model.layers):
        sums = held.setdefault(model.attention_name(layer), {PREFILL: 0, DECODE: 0})
        for run, positions in ((PREFILL, work.positions), (DECODE, work.positions + work.decode_steps)):
            sums[run] = sums[run] + position * cache_length(positions, model.window_of(layer))
    if isinstance(work.decode_steps, int) and work.decode_steps == 0:
        return {name: {PREFILL: sums[PREFILL]} for name, sums in held.items()}
    return held


def write_language_model(model: LanguageModel, work: LanguageWorkload) -> Tape:
    """All forwards on one tape: the runs ``prefill`` and ``decode``."""
    tape = Tape()
    length, steps, batch = work.positions, work.decode_steps, work.batch
    several = less(1, batch)
    tape.run = PREFILL
    whole = Step(batch, length, length, 0, True, several)
    ids = tape.given(whole.rows * INDEX_BYTES)
    _forward(tape, model, work, _Forward(whole, whole, work.prefill_load))
    tape.free(ids)
    if isinstance(steps, int) and steps == 0:
        return tape
    tape.run = DECODE

    def step(keys: Any, counted: bool) -> None:
        seen = keys if isinstance(keys, _Seen) else _Seen(keys, keys)
        load = work.decode_load if counted else Load(0, 0, 0)
        one = Step(batch, 1, seen.everywhere, seen.everywhere - 1, False, several)
        near = evolve(one, keys=seen.windowed, past=seen.windowed - 1)
        ids = tape.given(batch * INDEX_BYTES)
        _forward(tape, model, work, _Forward(one, near, load))
        tape.free(ids)

    last = length + steps
    every = _Seen(band_scores(steps, last, None), band_scores(steps, last, model.window))
    tape.spread(step, amount=every, over=steps, largest=_Seen(last, keys_seen(last, model.window)))
    return tape


def _forward(tape: Tape, model: LanguageModel, work: LanguageWorkload, forward: _Forward) -> None:
    """One forward of the root module."""
    precision, step, width = work.precision, forward.step, model.hidden_size
    root_class = f"{model.prefix}ForCausalLM"
    with tape.module(root_class, root_class, stage="prefill" if step.is_prefill else "decode") as root:
        root.core = True
        with tape.module(f"{model.prefix}Model", f"{model.prefix}Model", hidden_size=width) as core:
            core.core = True
            hidden, caches = _hidden_states(tape, model, work, forward)
        rows = step.batch if work.head == "last" else step.rows
        read = Part(hidden, rows * width * precision.activation_bytes)
        with tape.module("lm_head", "Linear", in_features=width, out_features=model.vocabulary, bias=False):
            if model.tied:
                table = Tensor(model.vocabulary * width * precision.weight_bytes, weight=True)
                logits = shared_linear(tape, read, table, rows, width, model.vocabulary, precision)
            else:
                logits = linear(tape, read, rows, width, model.vocabulary, precision)
            tape.returns(logits)
        tape.returns(logits)
        tape.free(logits, hidden, caches)


def _hidden_states(
    tape: Tape, model: LanguageModel, work: LanguageWorkload, forward: _Forward
) -> tuple[Tensor, Tensor]:
    """Embeddings, positions, masks, the layers and the last norm: (hidden states, caches)."""
    precision, step, width = work.precision, forward.step, model.hidden_size
    with tape.module("embed_tokens", "Embedding", num_embeddings=model.vocabulary, embedding_dim=width):
        ids = Tensor(step.rows * INDEX_BYTES, weight=True)
        hidden = embedding(tape, ids, step.rows, model.vocabulary, width, precision)
        tape.returns(hidden)
    numbers = position_numbers(tape, step.queries)
    masks = {window: _mask(tape, model, work, forward, window) for window in _windows(model)}
    with tape.module("rotary_emb", f"{model.prefix}RotaryEmbedding"):
        angles = angle_table(tape, numbers, step.queries, model.attention.rotary_dim, precision)
        tape.returns(*angles)
    hidden, caches = _layers(tape, model, work, forward, hidden, masks, angles)
    with tape.module("norm", f"{model.prefix}RMSNorm", hidden_size=width):
        result = rms_norm(tape, hidden, step.rows, width, precision)
        tape.returns(result)
    tape.free(hidden, numbers, *angles, *(mask for mask in masks.values() if mask is not None))
    tape.returns(result)
    return result, caches


def _windows(model: LanguageModel) -> list[int | None]:
    """The windows that occur, None for layers without one; in order of the layers."""
    return list(dict.fromkeys(model.window_of(layer) for layer in range(model.layers)))


def _mask(
    tape: Tape, model: LanguageModel, work: LanguageWorkload, forward: _Forward, window: int | None
) -> Tensor | None:
    """The mask of the layers with a window (or without one), where their kind of attention reads one.

    Written-out attention always does. One kernel knows a causal mask by itself, but no window: it reads
    a mask once a prefill is longer than that. A kernel that keeps to the band needs none, and neither
    does a step, whose cache holds what it sees.
    """
    step = forward.step_of(window)
    sizes = {"windowed": window is not None, "additive": work.attention == "eager"}
    if work.attention == "eager":
        return band_mask(tape, step.queries, step.keys, work.precision, **sizes)
    if work.attention == "sdpa" and window is not None and step.is_prefill:
        return band_mask(tape, step.queries, step.keys, work.precision, present=less(window, step.keys), **sizes)
    return None


def _layers(
    tape: Tape,
    model: LanguageModel,
    work: LanguageWorkload,
    forward: _Forward,
    hidden: Tensor,
    masks: dict[int | None, Tensor | None],
    angles: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """All layers; those of one kind are written once, as the last of their kind."""
    position = model.cache_bytes_per_token_and_layer(work.precision) * forward.step.batch
    windows = [model.window_of(layer) for layer in range(model.layers)]
    before = [position * forward.step_of(window).past for window in windows]
    after = [position * _held_after(forward.step_of(window), window) for window in windows]
    kinds: dict[tuple[int | None, bool], list[int]] = {}
    for layer in range(model.layers):
        kinds.setdefault((windows[layer], layer in model.expert_layers), []).append(layer)
    load = forward.load
    for (window, mixed), alike in kinds.items():
        last = alike[-1]
        others = tape.given(sum(after[:last], 0) + sum(before[last + 1 :], 0))
        with tape.repeated(len(alike), waits="layers with experts" if mixed else ""):
            result, cache = _layer(tape, model, work, forward, load, hidden, masks[window], angles, last)
        if mixed:
            # The load is that of all layers with experts together: the first kind of them has taken it.
            load = Load(0, 0, load.running)
        tape.free(hidden, others, *cache)
        hidden = result
    return hidden, tape.given(sum(after, 0))


def _held_after(step: Step, window: int | None) -> Number:
    """Positions in the cache after a forward."""
    return cache_length(step.keys, window) if step.is_prefill else step.keys


def _layer(
    tape: Tape,
    model: LanguageModel,
    work: LanguageWorkload,
    forward: _Forward,
    load: Load,
    x: Tensor,
    mask: Tensor | None,
    angles: tuple[Tensor, Tensor],
    layer: int,
) -> tuple[Tensor, Cache]:
    """x + attention(norm(x)), then that + feed_forward(norm(that)): (result, cache)."""
    precision, window = work.precision, model.window_of(layer)
    step, shape = forward.step_of(window), model.attention
    width = model.hidden_size
    elements, size = step.rows * width, precision.activation_bytes
    held = None
    if not step.is_prefill:
        rows = step.batch * step.past * precision.kv_bytes
        held = (tape.given(rows * shape.cache_sizes[0]), tape.given(rows * shape.cache_sizes[1]))
    manner = Manner(work.attention, window)
    with tape.module(f"layers.{_all(model)}", f"{model.prefix}DecoderLayer", members=model.layers):
        normal = _norm(tape, "input_layernorm", x, step.rows, model, precision)
        alike = [other for other in range(model.layers) if model.window_of(other) == window]
        place: dict[str, Any] = {"at": model.attention_name(layer), "members": len(alike)}
        if window is not None:
            place["sliding_window"] = window
        with tape.module("self_attn", f"{model.prefix}Attention", **place):
            if isinstance(shape, GroupedQueryShape):
                mixed, cache = grouped_query_attention(tape, normal, mask, angles, held, shape, step, manner, precision)
            else:
                mixed, cache = latent_attention(tape, normal, mask, angles, held, shape, step, manner, precision)
        tape.free(normal)
        if window is not None and step.is_prefill:
            cache = forget(tape, cache, shape.cache_sizes, cache_length(step.keys, window), step, precision)
        between = add(tape, x, mixed, elements, size)
        tape.free(mixed)
        again = _norm(tape, "post_attention_layernorm", between, step.rows, model, precision)
        fed = _feed_forward(tape, model, layer, step.rows, load, precision)(again)
        tape.free(again)
        result = add(tape, between, fed, elements, size)
        tape.free(fed, between)
        tape.returns(result)
    return result, cache


def _feed_forward(
    tape: Tape, model: LanguageModel, layer: int, rows: Number, load: Load, precision: Precision
) -> Callable[[Tensor], Tensor]:
    """The dense part of a layer, or its experts."""
    mixed = layer in model.expert_layers
    alike = [other for other in range(model.layers) if (other in model.expert_layers) == mixed]
    place: dict[str, Any] = {"at": f"layers.{one_of(map(str, alike))}.mlp", "members": len(alike)}
    width, dense_class = model.hidden_size, f"{model.prefix}MLP"

    def dense(x: Tensor) -> Tensor:
        with tape.module("mlp", dense_class, **place):
            return gated_mlp(tape, x, rows, width, model.intermediate_size, precision, bias=model.mlp_bias)

    def experts(x: Tensor) -> Tensor:
        assert model.experts is not None and model.router is not None
        with tape.module("mlp", f"{model.prefix}MoE", **place):
            return mixture_of_experts(
                tape, x, rows, model.experts, load, precision, router=model.router, expert=dense_class
            )

    return experts if mixed else dense


def _norm(tape: Tape, name: str, x: Tensor, rows: Number, model: LanguageModel, precision: Precision) -> Tensor:
    with tape.module(name, f"{model.prefix}RMSNorm", hidden_size=model.hidden_size):
        result = rms_norm(tape, x, rows, model.hidden_size, precision)
        tape.returns(result)
    return result


def _all(model: LanguageModel) -> str:
    return one_of(str(layer) for layer in range(model.layers))

"""DeepSeek-OCR's forwards in closed form: vision page by page, the prefill, and the decode steps.

Axes: B requests, T prompt positions, P positions with the cache, D hidden size, q image tokens of a side.
Everything follows from the configuration, the views' sides, each page's crop grid, the prompt's text
tokens, the batch and the number of decode steps. No number is measured or fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import field, frozen

from modelmeter.cost.arithmetic import Number, ceil_div, less
from modelmeter.cost.layers.decoder import AttentionShape, Step, decoder_layer
from modelmeter.cost.layers.feed_forward import ExpertsShape, Load, gated_mlp, mixture_of_experts
from modelmeter.cost.layers.parallel import ALONE, Parallel, add_up
from modelmeter.cost.operators import (
    all_gather,
    causal_mask,
    concatenate,
    copy,
    embedding,
    linear,
    rms_norm,
    scatter_features,
    to_float,
)
from modelmeter.cost.precision import BOOL_BYTES, INDEX_BYTES, WIDE_BYTES, Precision
from modelmeter.cost.tape import Part, Tape, Tensor
from modelmeter.families.deepseek_ocr.config import DecoderConfig, DeepSeekOCRConfig
from modelmeter.families.deepseek_ocr.costs.clip import clip_tower
from modelmeter.families.deepseek_ocr.costs.sam import COLOURS, sam_tower
from modelmeter.patterns import one_of

ROOT, CORE = "DeepseekOCRForCausalLM", "DeepseekOCRModel"


@frozen
class Pages:
    """``count`` pages, one after the other, of one crop grid; ``columns`` and ``rows`` are 1 where there is none."""

    columns: Number
    rows: Number
    count: Number = 1

    @property
    def crops(self) -> Number:
        """Crops besides the global view."""
        cells = self.columns * self.rows
        return cells * less(1, cells)


NOBODY = Load(0, 0, 0)
"""No token for any expert."""


@frozen
class Routing:
    """What routing gives the experts: in the prefill over all layers, in all decode steps over all layers."""

    prefill: Load
    decode: Load


@frozen
class Workload:
    """The sizes that change from scenario to scenario. Sides in pixels, lengths in tokens."""

    global_side: Number
    crop_side: Number
    pages: Sequence[Pages]
    """Pages of one request, in order."""
    text_tokens: Number
    decode_steps: Number
    batch: Number
    routing: Routing
    vision_attention: str = "sdpa"
    decoder_attention: str = "sdpa"
    head: str = "all"
    precision: Precision = field(factory=Precision)
    parallel: Parallel = ALONE
    """How devices share the layers. Requests and routing are those of one device, the busiest."""

    def image_tokens(self, pages: Pages, patch_size: int) -> Number:
        """Positions of one page: crops' rows with their newlines, the global view's, and a separator."""
        q = queries(self.global_side, patch_size)
        c = queries(self.crop_side, patch_size)
        crop_tokens = (c * pages.columns + 1) * (c * pages.rows) * less(0, pages.crops)
        return crop_tokens + (q + 1) * q + 1

    def sequence_length(self, patch_size: int) -> Number:
        """Positions of a prompt."""
        images = sum((self.image_tokens(pages, patch_size) * pages.count for pages in self.pages), 0)
        return images + self.text_tokens


def queries(side: Number, patch_size: int) -> Number:
    """Image tokens along one side of a view: two stride-2 convolutions over its patches."""
    return ceil_div(ceil_div(side // patch_size, 2), 2)


def kv_heads_here(decoder: DecoderConfig, parallel: Parallel) -> int:
    """Key-value heads of one device: its part, or one where there are fewer than devices (they are copied)."""
    return max(decoder.num_key_value_heads // parallel.tensor, 1)


def vocabulary_here(decoder: DecoderConfig, parallel: Parallel) -> int:
    """Rows of the embedding, and columns of the head, on one device; the vocabulary is padded until it divides."""
    return int(ceil_div(decoder.vocab_size, parallel.tensor))


def write_forwards(config: DeepSeekOCRConfig, work: Workload) -> Tape:
    """All forwards of a request batch on one tape: runs ``crops …``, ``global``, ``prefill`` and ``decode``."""
    tape = Tape()
    length = work.sequence_length(config.sam.patch_size)
    pixels = _pixels(work)
    several = less(1, work.batch)
    prefill = Step(work.batch, length, length, 0, True, several)
    tape.run = "prefill"
    # Inputs that the caller holds: image positions, grids and pixels throughout, and ids and attended positions.
    number_of_pages = work.batch * sum((pages.count for pages in work.pages), 0)
    images = prefill.rows * BOOL_BYTES + number_of_pages * 2 * INDEX_BYTES + pixels
    inputs = tape.given(prefill.rows * 2 * INDEX_BYTES + images)
    _forward(tape, config, work, prefill, None, work.routing.prefill)
    tape.free(inputs)

    steps = work.decode_steps
    tape.run, tape.present["decode"] = "decode", less(0, steps)

    def step(keys: Number, whole: bool) -> None:
        load = work.routing.decode if whole else NOBODY
        held = tape.given(work.batch * (keys + 1) * INDEX_BYTES + images)
        _forward(tape, config, work, Step(work.batch, 1, keys, keys - 1, False, several), held, load)
        tape.free(held)

    # Step t attends to length + t positions, t from 1.
    every = steps * length + steps * (steps + 1) // 2
    tape.spread(step, amount=every, over=steps, largest=length + steps)
    return tape


def _pixels(work: Workload) -> Number:
    """Bytes of the views of all pages of all requests."""
    cells: Number = 0
    for pages in work.pages:
        one = work.global_side * work.global_side + pages.crops * work.crop_side * work.crop_side
        cells = cells + one * pages.count
    return work.batch * cells * COLOURS * work.precision.activation_bytes


def _forward(
    tape: Tape, config: DeepSeekOCRConfig, work: Workload, step: Step, held: Tensor | None, load: Load
) -> None:
    """One forward of the root module."""
    decoder, precision = config.decoder, work.precision
    with tape.module(ROOT, ROOT, stage="prefill" if step.is_prefill else "decode") as root:
        root.core = True
        with tape.module(CORE, CORE, hidden_size=decoder.hidden_size) as core:
            core.core = True
            hidden, caches = _hidden_states(tape, config, work, step, load)
        rows, read = step.rows, hidden.bytes
        if work.head == "last":
            rows = step.batch
            read = rows * decoder.hidden_size * precision.activation_bytes
        vocabulary = vocabulary_here(decoder, work.parallel)
        size: dict[str, Any] = {"in_features": decoder.hidden_size, "out_features": vocabulary}
        with tape.module("lm_head", "Linear", **size):
            narrow = linear(tape, Part(hidden, read), rows, decoder.hidden_size, vocabulary, precision)
            if work.parallel.shares:
                part, narrow = narrow, all_gather(tape, narrow, work.parallel.tensor)
                tape.free(part)
            tape.returns(narrow)
        logits = to_float(tape, narrow, rows * decoder.vocab_size, precision)
        tape.returns_bytes(rows * decoder.vocab_size * WIDE_BYTES)
        tape.free(logits, narrow, hidden, caches)


def _hidden_states(
    tape: Tape, config: DeepSeekOCRConfig, work: Workload, step: Step, load: Load
) -> tuple[Tensor, Tensor]:
    """Embeddings, image features, positions and mask, the layers, and the last norm: (hidden states, caches)."""
    decoder, precision = config.decoder, work.precision
    width, size = decoder.hidden_size, precision.activation_bytes
    kept = kv_heads_here(decoder, work.parallel) * decoder.head_dim * 2 * precision.kv_bytes * step.batch
    before, after = kept * step.past, kept * step.keys
    caches = tape.given(before * decoder.num_hidden_layers)
    attended = None if step.is_prefill else Tensor(step.batch * step.keys * INDEX_BYTES)
    newline = tape.weight("image_newline", width, precision.weight_bytes)
    separator = tape.weight("view_seperator", width, precision.weight_bytes)
    vocabulary = vocabulary_here(decoder, work.parallel)
    with tape.module("embed_tokens", "Embedding", num_embeddings=vocabulary, embedding_dim=width):
        ids = Tensor(step.rows * INDEX_BYTES)
        hidden = embedding(tape, ids, step.rows, vocabulary, width, precision)
        add_up(tape, hidden, precision, work.parallel)
        tape.returns(hidden)
    features = Tensor(0)
    if step.is_prefill:
        features = _see(tape, config, work, newline, separator)
        seen = Tensor(step.rows * BOOL_BYTES)
        embedded, hidden = hidden, scatter_features(tape, hidden, seen, features, step.rows * width * size)
        tape.free(embedded)
    positions, mask = causal_mask(tape, attended, step.batch, step.queries, step.keys, precision)
    hidden, caches = _layers(tape, config, work, step, load, hidden, mask, positions, caches, (before, after))
    with tape.module("norm", "DeepseekV2RMSNorm", hidden_size=width):
        result = rms_norm(tape, hidden, step.rows, width, precision)
        tape.returns(result)
    tape.free(hidden, positions, mask, features)
    tape.returns(result)
    return result, caches


def _layers(
    tape: Tape,
    config: DeepSeekOCRConfig,
    work: Workload,
    step: Step,
    load: Load,
    hidden: Tensor,
    mask: Tensor,
    positions: Tensor,
    caches: Tensor,
    cache_bytes: tuple[Number, Number],
) -> tuple[Tensor, Tensor]:
    """The dense layers, then those with experts; each kind is written once, as the last of its kind."""
    decoder, precision, parallel = config.decoder, work.precision, work.parallel
    number = decoder.num_hidden_layers
    before, after = cache_bytes
    half = before // 2  # keys, and as many values
    heads = decoder.num_attention_heads // parallel.tensor, kv_heads_here(decoder, parallel)
    grouped = decoder.num_key_value_heads != decoder.num_attention_heads
    attention = AttentionShape(decoder.hidden_size, *heads, decoder.head_dim, work.decoder_attention, parallel, grouped)
    tape.free(caches)
    dense = [index for index in range(number) if not decoder.is_moe_layer(index)]
    mixed = [index for index in range(number) if decoder.is_moe_layer(index)]
    for indexes in (dense, mixed):
        if not indexes:
            continue
        last = indexes[-1]
        others = tape.given(last * after + (number - 1 - last) * before)
        name = one_of(str(index) for index in indexes)

        def feed_forward(x: Tensor, name: str = name, indexes: list[int] = indexes) -> Tensor:
            place: dict[str, Any] = {"at": f"layers.{name}.mlp", "members": len(indexes)}
            if indexes is dense:
                with tape.module("mlp", "DeepseekV2MLP", **place):
                    inner = decoder.intermediate_size // parallel.tensor
                    result = gated_mlp(tape, x, step.rows, decoder.hidden_size, inner, precision)
                    add_up(tape, result, precision, parallel)
                    return result
            assert decoder.n_routed_experts and decoder.num_experts_per_tok
            shape = ExpertsShape(
                decoder.hidden_size,
                decoder.moe_intermediate_size,
                decoder.n_routed_experts,
                decoder.n_shared_experts or 0,
                decoder.num_experts_per_tok,
            )
            with tape.module("mlp", "DeepseekV2MoE", **place):
                return mixture_of_experts(tape, x, step.rows, shape, load, precision, parallel=parallel)

        # Routing counts are read by the CPU in every layer with experts.
        with tape.repeated(len(indexes), waits="" if indexes is dense else "layers with experts"):
            layers = one_of(str(index) for index in range(number))
            held = None if step.is_prefill else (tape.given(half), tape.given(half))
            with tape.module(f"layers.{layers}", "DeepseekV2DecoderLayer", members=number, series=True):
                result, cache = decoder_layer(
                    tape, hidden, mask, positions, held, attention, step, precision, feed_forward
                )
        tape.free(hidden, others, *cache)
        hidden = result
    return hidden, tape.given(number * after)


def _see(tape: Tape, config: DeepSeekOCRConfig, work: Workload, newline: Tensor, separator: Tensor) -> Tensor:
    """Image features of all pages of all requests: [image tokens, D]."""
    patch, size = config.sam.patch_size, work.precision.activation_bytes
    width = config.decoder.hidden_size
    row = width * size
    all_tokens: Number = 0
    for pages in work.pages:
        all_tokens = all_tokens + work.image_tokens(pages, patch) * pages.count
    total_bytes = work.batch * all_tokens * row
    done: Number = 0
    for place, pages in enumerate(work.pages):
        tokens = work.image_tokens(pages, patch)
        page_bytes = tokens * row
        done = done + page_bytes * pages.count
        # Of equal pages the last one is written: the features of all before it wait.
        last = place == len(work.pages) - 1
        earlier = tape.given((work.batch - 1) * all_tokens * row + done - page_bytes)
        with tape.repeated(work.batch * pages.count):
            parts = []
            tape.present[f"crops {place}"] = less(0, pages.crops)
            with tape.repeated(less(0, pages.crops)):
                parts.append(_view(tape, config, work, f"crops {place}", pages.crops, work.crop_side, pages, newline))
            parts.append(_view(tape, config, work, "global", 1, work.global_side, Pages(1, 1), newline))
            page = concatenate(tape, [*parts, separator], page_bytes)
            if not last:
                tape.free(page)
        tape.free(earlier)
        if not last:
            tape.free(*parts)
    # The last page's parts and all pages wait until all are joined.
    tape.free(page)
    everything = tape.given(total_bytes)
    tape.free(*parts)
    features = concatenate(tape, [Part(everything, total_bytes)], total_bytes)
    tape.free(everything)
    return features


def _view(
    tape: Tape,
    config: DeepSeekOCRConfig,
    work: Workload,
    run: str,
    views: Number,
    side: Number,
    grid: Pages,
    newline: Tensor,
) -> Tensor:
    """Views of one size through both towers and the projector, as one picture with newlines."""
    precision, size = work.precision, work.precision.activation_bytes
    width = config.decoder.hidden_size
    before, tape.run = tape.run, run
    pixels = Tensor(views * COLOURS * side * side * size)
    sam, q = sam_tower(tape, pixels, views, side, config.sam, work.vision_attention, precision)
    clip = clip_tower(tape, sam, views, q, config.clip, work.vision_attention, precision, work.parallel)
    tokens = views * q * q
    joined_size = config.feature_size
    seen = Part(clip, tokens * config.clip.width * size)
    joined = concatenate(tape, [seen, sam], tokens * joined_size * size)
    with tape.module("projector", "MlpProjector", stage="projector"):
        with tape.module("layers", "Linear", in_features=joined_size, out_features=width):
            projected = linear(tape, joined, tokens, joined_size, width, precision, bias=True)
            tape.returns(projected)
        tape.returns(projected)
    tape.free(joined, sam, clip)
    # Several columns lie view by view and are brought side by side; one column lies well as it is.
    moved = less(1, grid.columns) * less(1, q)
    whole = tokens * width * size
    picture = copy(tape, Part(projected, whole * moved), whole * moved, present=moved)
    height, across = grid.rows * q, grid.columns * q
    present = less(0, views)
    ends = Part(newline, newline.bytes * present)
    result = concatenate(
        tape, [Part(projected, whole), ends], height * (across + 1) * width * size * present, present=present
    )
    tape.free(picture, projected)
    tape.run = before
    return result

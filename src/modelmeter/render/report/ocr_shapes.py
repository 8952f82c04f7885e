"""Shapes of DeepSeek-OCR's primitives, read off a report's configuration and scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from modelmeter.render.report.reading import ReportView

FAMILY = "deepseek-ocr"


@frozen
class Views:
    """Views of one size that go through the towers as one batch, ``times`` such batches in the whole run."""

    label: str
    views: int
    side: int
    times: int
    patches: int
    """Patches of a side."""
    tokens: int
    """Image tokens of a side."""
    windows: int
    """Windows of a side."""


@frozen
class Forward:
    """Forwards of the decoder: B requests, T new positions each, P positions with the cache, on average."""

    label: str
    stage: str
    batch: int
    queries: int
    keys: float
    last_keys: int
    times: int


@frozen
class Shapes:
    """What shapes the tensors of one run."""

    sam: Mapping[str, Any]
    clip: Mapping[str, Any]
    decoder: Mapping[str, Any]
    views: Sequence[Views]
    forwards: Sequence[Forward]
    dtypes: Mapping[str, str]
    """Data types of ``weights``, ``activations`` and ``cache``."""
    vision_attention: str
    decoder_attention: str
    head: str

    @property
    def sam_head(self) -> int:
        """Channels of a head of SAM."""
        return int(self.sam["width"] // self.sam["heads"])

    @property
    def clip_head(self) -> int:
        """Channels of a head of CLIP."""
        return int(self.clip["width"] // self.clip["heads"])

    @property
    def decoder_head(self) -> int:
        """Channels of a head of the decoder."""
        return int(self.decoder["hidden_size"] // self.decoder["num_attention_heads"])


def shapes_of(view: ReportView) -> Shapes | None:
    """The shapes of a report on DeepSeek-OCR; None for another model, or a report that does not hold them.

    None as well where devices share the layers: each then has other shapes than the model.
    """
    if view.inputs.get("family") != FAMILY:
        return None
    try:
        scenario = view.part("scenario")
        if max(scenario["tensor_parallel"], scenario["expert_parallel"]) > 1:
            return None
        return _shapes(view)
    except (KeyError, TypeError, AttributeError, ZeroDivisionError):
        # The contract leaves open what the scenario holds: what is not there is not shown.
        return None


def _shapes(view: ReportView) -> Shapes:
    configuration, scenario, described = (view.part(name) for name in ("configuration", "scenario", "described"))
    sam, clip, decoder = (configuration[name] for name in ("sam", "clip", "decoder"))
    workload = view.report.workload
    batch, steps = scenario["batch"], scenario["decode_steps"]
    global_side = workload.base_size if workload.crop_mode else workload.image_size
    crops: dict[int, int] = {}
    for page in described["pages"]:
        columns, rows = page["grid"]
        if columns * rows > 1:
            crops[columns * rows] = crops.get(columns * rows, 0) + 1
    parts = [(f"{number} crops", number, workload.image_size, pages) for number, pages in sorted(crops.items())]
    parts.append(("global view", 1, global_side, len(described["pages"])))
    prompt = described["seq_len"]
    forwards = [Forward("prefill", "prefill", batch, prompt, prompt, prompt, 1)]
    if steps:
        forwards.append(Forward("decode", "decode", batch, 1, prompt + (steps + 1) / 2, prompt + steps, steps))
    attention = scenario["attention"]
    weights = scenario["dtype"]
    activations = scenario["activation_dtype"] or weights
    return Shapes(
        sam,
        clip,
        decoder,
        [_views(label, number, side, batch * pages, sam) for label, number, side, pages in parts],
        forwards,
        {"weights": weights, "activations": activations, "cache": scenario["kv_dtype"] or activations},
        scenario["vision_attention"] or attention,
        scenario["decoder_attention"] or attention,
        scenario["head"],
    )


def _views(label: str, number: int, side: int, times: int, sam: Mapping[str, Any]) -> Views:
    patches = side // sam["patch_size"]
    half = -(-patches // 2)
    return Views(f"{label}, {side} px", number, side, times, patches, -(-half // 2), -(-patches // sam["window_size"]))


def primitives(shapes: Shapes, view: ReportView) -> list[tuple[str, str, str, str, str]]:
    """Key primitives: (what, module, part of the run, tensors, calls of each of its modules)."""
    sam, clip = shapes.sam, shapes.clip
    found: list[tuple[str, str, str, str, str]] = []
    attentions = [name for name, node in view.nodes.items() if node.parent_id and _is_sam_attention(view, name)]
    for windowed in (True, False):
        module = next((n for n in attentions if ("window_size" in view.nodes[n].constructor_params) == windowed), None)
        for run in shapes.views if module else ():
            maps = run.views * run.windows**2 if windowed else run.views
            side = sam["window_size"] if windowed else run.patches
            heads, cells = sam["heads"], side * side
            text = (
                f"q, k, v {_shape(maps, heads, cells, shapes.sam_head)}; scores {_shape(maps, heads, cells, cells)}; "
                f"position biases 2 × {_shape(maps, heads, cells, side)}"
            )
            what = "SAM attention in windows" if windowed else "SAM attention over the map"
            found.append((what, module or "", run.label, text, str(run.times)))
    for run in shapes.views:
        width, hidden = sam["width"], sam["width"] * sam["mlp_ratio"]
        rows = (run.views, run.patches, run.patches)
        text = f"{_shape(*rows, width)} → {_shape(*rows, hidden)} → {_shape(*rows, width)}"
        found.append(("SAM MLP block", _child(view, "sam_model.blocks.", ".mlp"), run.label, text, str(run.times)))
    for run in shapes.views:
        tokens, heads = 1 + run.tokens**2, clip["heads"]
        text = (
            f"q, k, v {_shape(run.views, heads, tokens, shapes.clip_head)}; "
            f"scores {_shape(run.views, heads, tokens, tokens)}"
        )
        module = _child(view, "vision_model.transformer.layers.", ".self_attn")
        found.append(("CLIP attention", module, run.label, text, str(run.times)))
    found += _of_decoder(shapes, view)
    return found


def _of_decoder(shapes: Shapes, view: ReportView) -> list[tuple[str, str, str, str, str]]:
    decoder = shapes.decoder
    found = []
    heads, groups = decoder["num_attention_heads"], decoder["num_key_value_heads"]
    for run in shapes.forwards:
        keys = _number(run.last_keys) if run.stage == "prefill" else f"up to {_number(run.last_keys)}"
        text = (
            f"q {_shape(run.batch, heads, run.queries, shapes.decoder_head)}; "
            f"k, v [{_number(run.batch)}, {groups}, {keys}, {shapes.decoder_head}]"
        )
        found.append(("decoder attention", _child(view, "layers.", ".self_attn"), run.label, text, _number(run.times)))
    experts = decoder.get("n_routed_experts")
    module = next((n for n in view.nodes if n.startswith("layers.") and ".experts." in n), None)
    if not experts or module is None:
        return found
    parent = view.nodes[module].parent_id or ""
    for run in shapes.forwards:
        tokens, top_k = run.batch * run.queries, decoder["num_experts_per_tok"]
        layers = sum(part.calls for part in view.stages[parent] if part.stage == run.stage)
        called = sum(part.calls for part in view.stages[module] if part.stage == run.stage)
        text = (
            f"{_number(tokens)} tokens × {top_k} of {experts} experts = {_number(tokens * top_k)} copies "
            f"{_shape(tokens * top_k, decoder['hidden_size'])}"
        )
        if layers and called:
            each = tokens * top_k * layers / called
            text += f"; {called / layers:.1f} experts called a layer, {each:.1f} copies each"
        found.append(("mixture of experts", parent, run.label, text, _number(run.times)))
    return found


def _is_sam_attention(view: ReportView, name: str) -> bool:
    return name.startswith("sam_model.blocks.") and name.endswith(".attn")


def _child(view: ReportView, start: str, end: str) -> str:
    return next((name for name in view.nodes if name.startswith(start) and name.endswith(end)), "")


def _shape(*sizes: float) -> str:
    return f"[{', '.join(_number(size) for size in sizes)}]"


def _number(number: float) -> str:
    return f"{number:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}") if number >= 10_000 else f"{number:g}"

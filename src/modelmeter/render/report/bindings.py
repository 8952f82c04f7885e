"""Which formula a module of DeepSeek-OCR has, and what its symbols are in each part of a run."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from attrs import frozen

from modelmeter.render.report.ocr_shapes import Forward, Shapes, Views
from modelmeter.render.report.reading import ReportView
from modelmeter.units import DTYPE_BYTES

WITH_BIAS = ("sam_model.", "vision_model.", "projector")
"""Where linear layers have a bias; the decoder's have none."""


@frozen
class Filled:
    """A formula's symbols in one part of a run, and how many calls there are of it."""

    label: str
    stage: str
    calls: Fraction
    values: Mapping[str, Fraction]


@frozen
class Binding:
    """A module's formula by name and variant, with its numbers part by part."""

    layer: str
    variants: tuple[str, ...]
    """One for each part."""
    parts: tuple[Filled, ...]
    is_wide: bool
    """Whether all is float32, so that nothing is converted."""


def binding_of(view: ReportView, shapes: Shapes, module: str) -> Binding | None:
    """The formula of a module with what is below it; None for one that is the sum of its parts."""
    try:
        return _Binder(view, shapes, module).binding()
    except (KeyError, TypeError, StopIteration, ZeroDivisionError):
        # A report whose modules lack what a formula takes has none for them.
        return None


class _Binder:
    def __init__(self, view: ReportView, shapes: Shapes, module: str) -> None:
        self.view, self.shapes, self.module = view, shapes, module
        self.node = view.nodes[module]
        self.given = self.node.constructor_params
        self.class_name = self.node.qualified_class_name.rpartition(".")[2]
        self.calls = {part.stage: part.calls for part in view.stages[module]}

    def binding(self) -> Binding | None:
        """The formula with all its parts."""
        makers = {
            "Linear": ("linear", self._linear),
            "LayerNorm": ("layer_norm", self._norm),
            "LayerNorm2d": ("channel_norm", self._norm),
            "DeepseekV2RMSNorm": ("rms_norm", self._norm),
            "Embedding": ("embedding", self._embedding),
            "GELU": ("activation", self._activation),
            "SiLU": ("activation", self._activation),
            "Conv2d": ("convolution", self._convolution),
            "MLPBlock": ("sam_mlp", self._mlp),
            "NoTPFeedForward": ("clip_mlp", self._mlp),
            "DeepseekV2MLP": ("gated_mlp", self._mlp),
            "Attention": ("sam_attention", self._sam_attention),
            "NoTPAttention": ("clip_attention", self._clip_attention),
            "LlamaAttention": ("self_attention", self._self_attention),
            "LlamaRotaryEmbedding": ("rotary_angles", self._rotary),
            "MoEGate": ("gate", self._gate),
            "DeepseekV2MoE": ("mixture_of_experts", self._mixture),
            "Sequential": ("sam_neck", self._neck),
        }
        if self.class_name not in makers or not any(self.calls.values()):
            return None
        layer, make = makers[self.class_name]
        widths = {"w": "weights", "a": "activations", "c": "cache"}
        bytes_of = {letter: Fraction(DTYPE_BYTES[self.shapes.dtypes[name]]) for letter, name in widths.items()}
        parts, variants = [], []
        for run in self._runs():
            values = {letter: Fraction(number) for letter, number in make(run).items()}
            stage = self.node.stage if isinstance(run, Views) else run.stage
            whole = sum(one.times for one in self._runs() if isinstance(run, Views) or one is run)
            calls = Fraction(self.calls.get(stage, 0) * run.times, whole)
            parts.append(Filled(run.label, stage, calls, bytes_of | values))
            variants.append(self._variant(run))
        is_wide = {self.shapes.dtypes[name] for name in ("weights", "activations")} == {"float32"}
        return Binding(layer, tuple(variants), tuple(parts), is_wide)

    def _runs(self) -> list[Any]:
        seen = self.module.startswith(WITH_BIAS)
        return list(self.shapes.views if seen else self.shapes.forwards)

    def _variant(self, run: Views | Forward) -> str:
        if self.class_name == "Linear":
            return "with bias" if self.module.startswith(WITH_BIAS) else ""
        if self.class_name == "Conv2d":
            return "with bias" if self.module.startswith("sam_model.patch_embed") else ""
        if self.class_name in ("Attention", "NoTPAttention"):
            return self.shapes.vision_attention
        if self.class_name == "LlamaAttention":
            assert isinstance(run, Forward)
            return f"{run.stage}, {self.shapes.decoder_attention}"
        return ""

    def _rows(self, run: Any) -> Any:
        """Rows of what a module is called with."""
        if self.module.startswith("sam_model."):
            if self._in_windows():
                return run.views * run.windows**2 * self.shapes.sam["window_size"] ** 2
            return run.views * run.patches**2
        if self.module.startswith("vision_model."):
            return run.views * (1 + run.tokens**2)
        if self.module.startswith("projector"):
            return run.views * run.tokens**2
        if self.module == "lm_head" and self.shapes.head == "last":
            return run.batch
        tokens = run.batch * run.queries
        if ".experts." not in self.module:
            return tokens
        # Of experts the mean: what an expert costs is linear in its tokens.
        expert = self.module[: self.module.index(".experts.")]
        called = self._called(expert, run.stage)
        return Fraction(tokens * self.shapes.decoder["num_experts_per_tok"]) / called

    def _called(self, mixture: str, stage: str) -> Fraction:
        """Experts that are called in one call of a mixture, on average."""
        experts = next(name for name in self.view.nodes[mixture].children if ".experts." in name)
        calls = [sum(p.calls for p in self.view.stages[name] if p.stage == stage) for name in (experts, mixture)]
        return Fraction(*calls)

    def _in_windows(self) -> bool:
        chain = (self.module, self.node.parent_id or "")
        return any("window_size" in self.view.nodes[name].constructor_params for name in chain if name)

    def _sibling(self, key: str) -> Any:
        """A constructor parameter of the first module beside this one that has it."""
        siblings = self.view.nodes[self.node.parent_id or ""].children
        return next(
            self.view.nodes[name].constructor_params[key]
            for name in siblings
            if key in self.view.nodes[name].constructor_params
        )

    def _child(self, key: str) -> Any:
        """A constructor parameter of the first module below that has it."""
        children = [self.view.nodes[name].constructor_params for name in self.node.children]
        return next(given[key] for given in children if key in given)

    def _linear(self, run: Any) -> dict[str, Any]:
        return {"T": self._rows(run), "D": self.given["in_features"], "F": self.given["out_features"]}

    def _norm(self, run: Any) -> dict[str, Any]:
        return {"T": self._rows(run), "D": self.given["hidden_size"]}

    def _embedding(self, run: Any) -> dict[str, Any]:
        entries = self.given["num_embeddings"]
        # CLIP's position table is read whole.
        rows = entries if isinstance(run, Views) else self._rows(run)
        return {"T": rows, "V": entries, "D": self.given["embedding_dim"]}

    def _activation(self, run: Any) -> dict[str, Any]:
        return {"T": self._rows(run), "F": self._sibling("out_features")}

    def _mlp(self, run: Any) -> dict[str, Any]:
        return {"T": self._rows(run), "D": self._child("in_features"), "F": self._child("out_features")}

    def _convolution(self, run: Views) -> dict[str, Any]:
        sam, kernel = self.shapes.sam, self.given["kernel_size"]
        half = -(-run.patches // 2)
        if "in_channels" not in self.given:
            inputs, outputs, side, before = 3, sam["width"], run.patches, run.side
        else:
            inputs, outputs = self.given["in_channels"], self.given["out_channels"]
            side, before = {
                "sam_model.net_2": (half, run.patches),
                "sam_model.net_3": (run.tokens, half),
            }.get(self.module, (run.patches, run.patches))
        elements = run.views * inputs * before**2
        return {"B": run.views, "X": elements, "I": inputs, "O": outputs, "H": side, "k": kernel}

    def _sam_attention(self, run: Views) -> dict[str, Any]:
        sam = self.shapes.sam
        common = {"N": sam["heads"], "C": self.shapes.sam_head}
        if self._in_windows():
            window = sam["window_size"]
            return {**common, "M": run.views * run.windows**2, "H": window, "S": window}
        return {**common, "M": run.views, "H": run.patches, "S": sam["image_size"] // sam["patch_size"]}

    def _clip_attention(self, run: Views) -> dict[str, Any]:
        tokens = 1 + run.tokens**2
        return {"M": run.views, "T": tokens, "N": self.shapes.clip["heads"], "C": self.shapes.clip_head}

    def _self_attention(self, run: Forward) -> dict[str, Any]:
        decoder = self.shapes.decoder
        if decoder["num_key_value_heads"] != decoder["num_attention_heads"]:
            raise KeyError("num_key_value_heads")
        return {
            "B": run.batch,
            "T": run.queries,
            "P": Fraction(run.keys),
            "D": decoder["hidden_size"],
            "N": decoder["num_attention_heads"],
            "C": self.shapes.decoder_head,
        }

    def _rotary(self, run: Forward) -> dict[str, Any]:
        return {"B": run.batch, "T": run.queries, "C": self.shapes.decoder_head}

    def _gate(self, run: Forward) -> dict[str, Any]:
        given = self.given
        return {"T": self._rows(run), "D": given["hidden_size"], "E": given["num_experts"], "K": given["top_k"]}

    def _mixture(self, run: Forward) -> dict[str, Any]:
        decoder = self.shapes.decoder
        return {
            "T": self._rows(run),
            "D": decoder["hidden_size"],
            "E": decoder["n_routed_experts"],
            "K": decoder["num_experts_per_tok"],
            "F": decoder["moe_intermediate_size"],
            "S": decoder["n_shared_experts"],
            "A": self._called(self.module, run.stage),
        }

    def _neck(self, run: Views) -> dict[str, Any]:
        sam = self.shapes.sam
        return {"M": run.views, "H": run.patches, "D": sam["width"], "O": sam["out_channels"]}

"""What a decoder-only language model is made of, and what is asked of it."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import in_

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.layers.attend import KINDS
from modelmeter.cost.layers.feed_forward import ExpertsShape, Load
from modelmeter.cost.layers.grouped_query import GroupedQueryShape
from modelmeter.cost.layers.latent_attention import LatentShape
from modelmeter.cost.layers.routing import Router
from modelmeter.cost.precision import Precision
from modelmeter.patterns import one_of

NOBODY = Load(0, 0, 0)
"""What experts get where there are none."""


@frozen
class LanguageModel:
    """Sizes and kinds of layers; numbers of layers count from 0.

    ``prefix`` begins the names of its classes (``Llama``, ``Qwen3Moe``, ``DeepseekV3``).
    """

    prefix: str
    vocabulary: int
    hidden_size: int
    layers: int
    attention: GroupedQueryShape | LatentShape
    intermediate_size: int
    """Of the dense feed-forward parts."""
    mlp_bias: bool = False
    experts: ExpertsShape | None = None
    router: Router | None = None
    expert_layers: frozenset[int] = frozenset()
    """Layers with experts; the others are dense."""
    window: int | None = None
    windowed_layers: frozenset[int] = frozenset()
    """Layers that see the last ``window`` positions; the others see all."""
    tied: bool = False
    """Whether the head's weight is the embedding's table."""

    def __attrs_post_init__(self) -> None:
        every = set(range(self.layers))
        if not self.expert_layers <= every or not self.windowed_layers <= every:
            raise ValueError(f"layers are numbered 0 to {self.layers - 1}")
        if self.expert_layers and (self.experts is None or self.router is None):
            raise ValueError("layers with experts need their sizes and a router")
        if self.windowed_layers and not self.window:
            raise ValueError("layers with a window need its size")

    def window_of(self, layer: int) -> int | None:
        """The window of a layer, if it has one."""
        return self.window if layer in self.windowed_layers else None

    def attention_name(self, layer: int) -> str:
        """The name that a layer's attention shares with those that see as far: ``layers.[0,2].self_attn``."""
        alike = [other for other in range(self.layers) if self.window_of(other) == self.window_of(layer)]
        return f"layers.{one_of(map(str, alike))}.self_attn"

    def cache_elements(self) -> int:
        """Elements of one position in one layer's cache."""
        return sum(self.attention.cache_sizes)

    def cache_bytes_per_token_and_layer(self, precision: Precision) -> int:
        """Bytes that one more position takes in one layer's cache, until its window is full.

        2 G C elements with grouped queries, R + S with latent attention (N (C + S + V) expanded).
        """
        return self.cache_elements() * precision.kv_bytes


@frozen
class LanguageWorkload:
    """B prompts of as many positions, then decode steps of one token each, B at a time.

    Step t attends to ``positions + t``, t from 1. What routing gives the experts of all layers together is
    the caller's: once for the prefill, once for all steps (see ``expert_load``).
    """

    batch: Number
    positions: Number
    decode_steps: Number = 0
    prefill_load: Load = NOBODY
    decode_load: Load = NOBODY
    attention: str = field(default="sdpa", validator=in_(KINDS))
    head: str = field(default="all", validator=in_(("all", "last")))
    """Logits for all positions, or for the last one of each request."""
    precision: Precision = field(factory=Precision)

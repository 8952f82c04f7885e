"""What a family adds to be measured: equal runs over and over, real pages, and decode steps to capture.

A family that can be measured has a method ``bench()``. Torch is imported only when a bench is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from modelmeter.families.protocol import Family, ForwardCall, Forwards
from modelmeter.schema.scenario import Scenario

if TYPE_CHECKING:
    from torch import Tensor, nn


class RunInputs(Protocol):
    """Inputs of one workload, from which any number of equal runs can be made."""

    decode_steps: int
    """Decode steps of the next run; a run that met the end of its text sets it for those that follow."""

    def chooser(self) -> Callable[[Tensor], Tensor | None]:
        """For one run: from the last position's logits [B, vocabulary] to the next ids [B, 1], or None to end."""
        ...

    def forwards(self, choose: Callable[[Tensor], Tensor | None]) -> Forwards:
        """The forwards of one run."""
        ...


class StaticDecode(Protocol):
    """Decode steps over tensors that keep their shapes and places, without a word from the host."""

    ids: Tensor
    """The token that the next step reads [B, 1]."""
    logits: Tensor
    """What the last step wrote [B, vocabulary]."""

    def begin(self, prefill: ForwardCall, output: Any) -> None:
        """Take over from a prefill: its cache and its mask."""
        ...

    def step(self) -> None:
        """One decode step."""
        ...


class Reader(Protocol):
    """A checkpoint in its published format that reads pages: tokenizer, prompt and weights."""

    name: str
    prompt: str
    text_tokens: int
    """Prompt tokens besides the images', those that begin it included."""

    def check(self, module: nn.Module) -> None:
        """ConfigurationError if the weights do not fit a module, which needs no weights itself."""
        ...

    def load_weights(self, module: nn.Module) -> None:
        """Copy the checkpoint's weights into a module."""
        ...

    def inputs(self, scenario: Scenario, pages: Sequence[Path], device: str) -> ReaderInputs:
        """Page files as the inputs of a resolved scenario; PageError for one that cannot be read."""
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as text, without the token that ends it."""
        ...


class ReaderInputs(RunInputs, Protocol):
    """Inputs whose runs write text."""

    tokens: list[int]
    """What the first run wrote for the first request."""
    ended: bool
    """Whether that text came to its end."""


class Bench(Protocol):
    """All that a family adds."""

    def small_configuration(self) -> Any:
        """A configuration of the family that a CPU runs in seconds."""
        ...

    def sample_inputs(self, config: Any, scenario: Scenario, *, seed: int, device: str) -> RunInputs:
        """Random pixels and tokens of a fixed seed, so that routing is spread as on real pages."""
        ...

    def open_reader(self, config: Any, folder: Path, prompt: str | None) -> Reader:
        """The checkpoint in a folder; ConfigurationError where its tokenizer is missing or cannot be read."""
        ...

    def static_decode(self, module: nn.Module, scenario: Scenario, device: str) -> StaticDecode:
        """Decode steps of a resolved scenario that can be captured."""
        ...


class MeasurableFamily(Family, Protocol):
    """A family with a bench."""

    def bench(self) -> Bench:
        """What it takes to measure this family; imports torch."""
        ...

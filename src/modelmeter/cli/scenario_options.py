"""The options of the scenario, the same for every command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import asdict, field, frozen
from cyclopts import Parameter

from modelmeter.cli.arguments import Sizes, Whole
from modelmeter.cli.pages import read_page
from modelmeter.cli.workload import read_workload
from modelmeter.errors import ScenarioError, UsageError
from modelmeter.schema.scenario import Page, parse_size

_NO_KEYS = ("workload", "page", "grid", "max_new_tokens")

_OVERRIDES = {
    "mode": ("base_size", "image_size", "crop_mode"),
    "attention": ("vision_attention", "decoder_attention"),
    "seq_len": ("text_tokens",),
    "text_tokens": ("seq_len",),
}
"""An option to the keys of a workload file that it replaces besides its own."""


@Parameter(name="*")
@frozen(kw_only=True)
class ScenarioOptions:
    """Scenario: what is run. Options override the keys of a workload file."""

    workload: Path | None = None
    "File with some of these keys, YAML or JSON, or a workload profile such as dsocr-standard-v1."
    page: Sizes = field(default=())
    "Page of WIDTHxHEIGHT pixels; repeatable."
    grid: Sizes = field(default=())
    "Page with a crop grid of WIDTHxHEIGHT crops, 1x1 for none; repeatable."
    mode: str | None = None
    "Resolution mode: tiny, small, base, large or gundam."
    base_size: Whole | None = None
    "Side of the global view in pixels."
    image_size: Whole | None = None
    "Side of a crop in pixels."
    crop_mode: bool | None = None
    "Whether pages are cropped."
    text_tokens: Whole | None = None
    "Prompt tokens besides the images', BOS included."
    seq_len: Whole | None = None
    "All prompt positions; sets the text tokens."
    decode_steps: Whole | None = None
    "Forwards of one token after the prefill."
    max_new_tokens: Whole | None = None
    "Tokens to generate: one more than the decode steps."
    batch: Whole | None = None
    "Requests run together."
    dtype: str | None = None
    "Weights' dtype."
    activation_dtype: str | None = None
    "Activations' dtype."
    kv_dtype: str | None = None
    "Key-value cache's dtype."
    attention: str | None = None
    "eager or sdpa, for all parts."
    vision_attention: str | None = None
    "eager or sdpa, in the vision towers."
    decoder_attention: str | None = None
    "eager or sdpa, in the decoder."
    head: str | None = None
    "Logits of all positions or of the last."
    routing: str | None = None
    "balanced, worst, zipf:ALPHA, random:SEED or a JSON table."
    execution: str | None = None
    "eager or graph; measure captures the decode step, trace keeps it for later commands."
    device: str | None = None
    "Device id; kept in the document for later commands."
    devices: Whole | None = None
    "How many devices; as many as share the layers if not given."
    tensor_parallel: Whole | None = None
    "Devices that share each layer: heads, inner widths, vocabulary."
    expert_parallel: Whole | None = None
    "Devices that share the routed experts, each holding some of them whole."

    def values(self, files: Sequence[Path] = ()) -> dict[str, Any]:
        """Scenario keys that were given: by page files and these options, and below them by the workload file."""
        values = read_workload(self.workload) if self.workload is not None else {}
        given = {k: v for k, v in asdict(self).items() if v is not None and k not in _NO_KEYS}
        if self.max_new_tokens is not None:
            given["decode_steps"] = self._steps_after_prefill(self.max_new_tokens)
        pages = [read_page(path) for path in files]
        pages += [Page(*parse_size(text, "--page", "1240x1754")) for text in self.page]
        pages += [Page(grid=parse_size(text, "--grid")) for text in self.grid]
        if pages:
            given["pages"] = tuple(pages)
        for key in given:
            for replaced in _OVERRIDES.get(key, ()):
                values.pop(replaced, None)
        return {**values, **given}

    def check_device(self) -> None:
        """Refuse a device that is not in the catalogue, where a command keeps it for later ones."""
        if self.device is not None:
            from modelmeter.cost.catalogue import find_device

            find_device(self.device)

    def _steps_after_prefill(self, tokens: int) -> int:
        if tokens < 1:
            raise ScenarioError(f"--max-new-tokens is {tokens}", remedy="give a whole number of at least 1")
        if self.decode_steps not in (None, tokens - 1):
            raise UsageError(
                "--max-new-tokens and --decode-steps contradict each other",
                remedy="give one of them; the prefill yields the first token",
            )
        return tokens - 1

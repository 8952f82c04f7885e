"""DeepSeek-OCR on the bench: a small configuration, varied inputs, a reader of pages, and decode steps to capture.

Imports torch.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from modelmeter.families.deepseek_ocr.captured import StaticDecode
from modelmeter.families.deepseek_ocr.config import DeepSeekOCRConfig, small_config
from modelmeter.families.deepseek_ocr.inputs import NextTokens, Request, blank_request, request_forwards, torch_dtype
from modelmeter.families.deepseek_ocr.network import DeepseekOCRForCausalLM
from modelmeter.families.deepseek_ocr.reader import PageReader
from modelmeter.families.deepseek_ocr.views import page_layouts
from modelmeter.families.protocol import Forwards
from modelmeter.schema.scenario import Scenario

_SHIFT = 48
"""Pixels by which the pages of a batch are shifted against each other."""


class DeepSeekOCRBench:
    """What the family adds to be measured."""

    def small_configuration(self) -> DeepSeekOCRConfig:
        return small_config()

    def sample_inputs(self, config: DeepSeekOCRConfig, scenario: Scenario, *, seed: int, device: str) -> SampleInputs:
        return SampleInputs(config, scenario, seed=seed, device=device)

    def open_reader(self, config: DeepSeekOCRConfig, folder: Path, prompt: str | None) -> PageReader:
        return PageReader(config, folder, prompt)

    def static_decode(self, module: nn.Module, scenario: Scenario, device: str) -> StaticDecode:
        assert isinstance(module, DeepseekOCRForCausalLM) and scenario.seq_len is not None
        return StaticDecode(module, scenario.batch, scenario.seq_len + scenario.decode_steps, device)


class SampleInputs:
    """Random pixels, prompts and next tokens of a fixed seed.

    The tokens that random weights would choose are nearly always the same ones, so that a batch would
    go to a handful of experts; random ones spread over them as text does.
    """

    def __init__(self, config: DeepSeekOCRConfig, scenario: Scenario, *, seed: int, device: str) -> None:
        assert scenario.text_tokens is not None
        generator = torch.Generator().manual_seed(seed)
        self._decoder = config.decoder
        self.decode_steps = scenario.decode_steps
        batch = scenario.batch
        words = config.decoder.image_placeholder or config.decoder.vocab_size
        self._next = torch.randint(words, (scenario.decode_steps, batch, 1), generator=generator).to(device)
        layouts = page_layouts(scenario, patch_size=config.sam.patch_size)
        dtype = torch_dtype(scenario.dtype)
        pages = [
            tuple(
                (torch.rand(views, 3, side, side, generator=generator) * 2 - 1).to(device, dtype)
                for views, side in ((page.num_crops, page.workload.image_size), (1, page.workload.global_side))
            )
            for page in layouts
        ]
        self._requests = []
        for row in range(batch):
            images = [(crops.roll(_SHIFT * row, -1), whole.roll(_SHIFT * row, -1)) for crops, whole in pages]
            request = blank_request(config.decoder, layouts, scenario.text_tokens, images)
            self._requests.append(_with_words(request, torch.randint(words, request.ids.shape, generator=generator)))

    def chooser(self) -> NextTokens:
        """The same tokens in every run, whatever the logits."""
        remaining = iter(self._next)
        return lambda _: next(remaining, None)

    def forwards(self, choose: NextTokens) -> Forwards:
        """The forwards of one run."""
        return request_forwards(self._decoder, self._requests, self.decode_steps, choose)


def _with_words(request: Request, words: Tensor) -> Request:
    """The request with other words where its text is; the token that begins it stays."""
    ids = torch.where(request.seen, request.ids, words)
    ids[0] = request.ids[0]
    return Request(ids, request.seen, request.images, request.grids)

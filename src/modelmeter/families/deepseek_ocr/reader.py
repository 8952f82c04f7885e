"""Pages and a prompt to a request, and what the model wrote to text: everything around the network. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from modelmeter.errors import ConfigurationError, ScenarioError
from modelmeter.families.deepseek_ocr.checkpoint import check_checkpoint, load_checkpoint
from modelmeter.families.deepseek_ocr.config import DeepSeekOCRConfig
from modelmeter.families.deepseek_ocr.images import open_page, page_views
from modelmeter.families.deepseek_ocr.inputs import NextTokens, Request, request_forwards, torch_dtype
from modelmeter.families.deepseek_ocr.tokenizer import PAGE_MARK, complete_prompt, load_tokenizer, split_prompt
from modelmeter.families.deepseek_ocr.views import PageLayout, VisionWorkload
from modelmeter.families.protocol import Forwards
from modelmeter.schema.scenario import Scenario


class PageReader:
    """A checkpoint in its published format: tokenizer, prompt and weights."""

    def __init__(self, config: DeepSeekOCRConfig, folder: Path, prompt: str | None = None) -> None:
        if not folder.is_dir():
            raise ConfigurationError(f"there is no folder {folder}", remedy="give the folder that holds the checkpoint")
        self._config = config
        self._folder = folder
        self._tokenizer = load_tokenizer(folder)
        self.name = folder.resolve().name
        self.prompt = complete_prompt(prompt)
        # One page is as good as many: what is counted is the text around them.
        self.text_tokens = 1 + sum(len(ids) for ids in self._text_ids(max(1, self.prompt.count(PAGE_MARK))))

    def check(self, module: nn.Module) -> None:
        """ConfigurationError if the weights do not fit a module, which needs none itself."""
        check_checkpoint(module, self._folder)

    def load_weights(self, module: nn.Module) -> None:
        """Copy the weights into a module."""
        load_checkpoint(module, self._folder)

    def request(self, workload: VisionWorkload, pages: Sequence[Path], dtype: torch.dtype, device: str) -> Request:
        """BOS, then text and pages as the prompt has them."""
        decoder = self._config.decoder
        texts = self._text_ids(len(pages))
        ids, seen = [decoder.bos_token_id, *texts[0]], [False] * (1 + len(texts[0]))
        images, grids = [], []
        for path, text in zip(pages, texts[1:], strict=True):
            (crops, whole), grid = page_views(open_page(path), workload, dtype)
            images.append((crops.to(device), whole.to(device)))
            grids.append(grid)
            tokens = PageLayout(workload, grid).image_tokens
            ids += [decoder.image_placeholder] * tokens + text
            seen += [True] * tokens + [False] * len(text)
        return Request(torch.tensor(ids), torch.tensor(seen), tuple(images), tuple(grids))

    def inputs(self, scenario: Scenario, pages: Sequence[Path], device: str) -> ReadingInputs:
        """The same request as often as the scenario's batch says."""
        workload = VisionWorkload.from_scenario(scenario, patch_size=self._config.sam.patch_size)
        request = self.request(workload, pages, torch_dtype(scenario.dtype), device)
        if len(request.ids) != scenario.seq_len:
            raise ScenarioError(
                f"the page files take {len(request.ids)} positions, the scenario has {scenario.seq_len}",
                remedy="give the scenario the sizes of these files",
            )
        return ReadingInputs(self._config, [request] * scenario.batch, scenario.decode_steps)

    def text(self, tokens: Sequence[int]) -> str:
        """What the model wrote, up to the token that ends it."""
        kept = list(tokens)
        if self._config.decoder.eos_token_id in kept:
            kept = kept[: kept.index(self._config.decoder.eos_token_id)]
        return self._tokenizer.decode(kept).strip()

    def _text_ids(self, pages: int) -> list[list[int]]:
        found = [self._tokenizer.encode(text) if text else [] for text in split_prompt(self.prompt, pages)]
        largest, number = max((token for ids in found for token in ids), default=0), self._config.decoder.vocab_size
        if largest >= number:
            raise ConfigurationError(
                f"the tokenizer in {self._folder} gives token {largest}, the model has {number} tokens",
                remedy="use the tokenizer that was published with the model",
            )
        return found


class ReadingInputs:
    """Greedy reading: the first run ends where the text does, and those that follow take as many steps."""

    def __init__(self, config: DeepSeekOCRConfig, requests: Sequence[Request], decode_steps: int) -> None:
        self._decoder = config.decoder
        self._requests = requests
        self.decode_steps = decode_steps
        self.tokens: list[int] = []
        self.ended = False

    def chooser(self) -> NextTokens:
        """Greedy; the first run looks for the end of the text, for which the host waits at every token."""
        return _greedy if self.tokens else self._until_the_end

    def forwards(self, choose: NextTokens) -> Forwards:
        """The forwards of one run."""
        return request_forwards(self._decoder, self._requests, self.decode_steps, choose)

    def _until_the_end(self, logits: Tensor) -> Tensor | None:
        chosen = _greedy(logits)
        self.tokens.append(int(chosen[0, 0]))
        # All requests are the same, so the first speaks for them.
        if self.tokens[-1] == self._decoder.eos_token_id:
            self.ended = True
            self.decode_steps = len(self.tokens) - 1
            return None
        return chosen


def _greedy(logits: Tensor) -> Tensor:
    return logits.argmax(dim=-1, keepdim=True)

"""The network in a scenario's dtypes, and example inputs for it: ids, pages, masks. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from attrs import frozen
from torch import Tensor

from modelmeter.families.deepseek_ocr.config import DecoderConfig, DeepSeekOCRConfig
from modelmeter.families.deepseek_ocr.network import DeepseekOCRForCausalLM
from modelmeter.families.deepseek_ocr.network.model import PageImages
from modelmeter.families.deepseek_ocr.views import PageLayout
from modelmeter.families.protocol import ForwardCall, Forwards
from modelmeter.schema.scenario import Scenario


def torch_dtype(name: str) -> torch.dtype:
    """A dtype by its name without ``torch.``."""
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def build_network(config: DeepSeekOCRConfig, scenario: Scenario) -> DeepseekOCRForCausalLM:
    """The network in evaluation mode, its parameters made in the scenario's dtype."""
    assert scenario.vision_attention and scenario.decoder_attention and scenario.kv_dtype
    kv_dtype = torch_dtype(scenario.kv_dtype) if scenario.kv_dtype != scenario.dtype else None
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch_dtype(scenario.dtype))
    try:
        network = DeepseekOCRForCausalLM(
            config,
            vision_attention=scenario.vision_attention,
            decoder_attention=scenario.decoder_attention,
            head=scenario.head,
            kv_dtype=kv_dtype,
        )
    finally:
        torch.set_default_dtype(before)
    return network.eval()


def request_ids(decoder: DecoderConfig, pages: Sequence[PageLayout], text_tokens: int) -> Tensor:
    """Token ids of one prompt [T]: BOS, the pages' placeholders, then the text."""
    image_tokens = sum(page.image_tokens for page in pages)
    # Any token that is no placeholder stands for text; its value changes neither shapes nor costs.
    text = decoder.eos_token_id if decoder.eos_token_id != decoder.image_placeholder else decoder.bos_token_id
    ids = torch.full((text_tokens + image_tokens,), text, dtype=torch.int64)
    ids[0] = decoder.bos_token_id
    ids[1 : 1 + image_tokens] = decoder.image_placeholder
    return ids


def blank_page(page: PageLayout, dtype: torch.dtype) -> PageImages:
    """The views of an empty page: crops [w*h, 3, s, s] and the global view [1, 3, S, S]."""
    side, whole = page.workload.image_size, page.workload.global_side
    return (
        torch.zeros(page.num_crops, 3, side, side, dtype=dtype),
        torch.zeros(1, 3, whole, whole, dtype=dtype),
    )


@frozen
class Request:
    """One prompt: its token ids [T], where image tokens stand [T], and its pages' views and crop grids."""

    ids: Tensor
    seen: Tensor
    images: tuple[PageImages, ...]
    grids: tuple[tuple[int, int], ...]


NextTokens = Callable[[Tensor], Tensor | None]
"""From the last position's logits [B, vocabulary] to the next ids [B, 1]; None ends the run."""


def blank_request(
    decoder: DecoderConfig, pages: Sequence[PageLayout], text_tokens: int, images: Sequence[PageImages]
) -> Request:
    """A prompt of placeholder text with these views of its pages."""
    ids = request_ids(decoder, pages, text_tokens)
    seen = torch.zeros(len(ids), dtype=torch.bool)
    seen[1 : 1 + sum(page.image_tokens for page in pages)] = True
    return Request(ids, seen, tuple(images), tuple(page.grid for page in pages))


def run_forwards(
    config: DeepSeekOCRConfig,
    scenario: Scenario,
    requests: Sequence[Sequence[PageLayout]],
    text_tokens: Sequence[int],
    images: Sequence[PageImages] | None = None,
) -> Forwards:
    """Prefill of a batch of requests, then decode steps of one token each.

    Requests may have different pages and text lengths; shorter prompts are padded on the left.
    ``images`` are the views of all pages in order; blank ones if they are not given.
    """
    dtype = torch_dtype(scenario.dtype)
    pages = [page for request in requests for page in request]
    views = iter([blank_page(page, dtype) for page in pages] if images is None else images)
    prompts = [
        blank_request(config.decoder, request, text, [next(views) for _ in request])
        for request, text in zip(requests, text_tokens, strict=True)
    ]
    return request_forwards(config.decoder, prompts, scenario.decode_steps)


def request_forwards(
    decoder: DecoderConfig, requests: Sequence[Request], decode_steps: int, next_tokens: NextTokens | None = None
) -> Forwards:
    """Prefill of a batch, then up to ``decode_steps`` forwards of one token each.

    Shorter prompts are padded on the left. ``next_tokens`` is asked after every forward, also the last;
    without it decoding is greedy and nothing is done with the last logits.
    """
    longest = max(len(request.ids) for request in requests)
    ids = torch.full((len(requests), longest), decoder.eos_token_id, dtype=torch.int64)
    attended = torch.zeros(len(requests), longest, dtype=torch.int64)
    seen = torch.zeros(len(requests), longest, dtype=torch.bool)
    for row, request in enumerate(requests):
        start = longest - len(request.ids)
        ids[row, start:] = request.ids
        attended[row, start:] = 1
        seen[row, start:] = request.seen
    shown = [page for request in requests for page in request.images]
    grids = torch.tensor([grid for request in requests for grid in request.grids], dtype=torch.int64)
    padded = bool((attended == 0).any())

    output = yield ForwardCall(
        "prefill",
        (ids,),
        {
            **({"attention_mask": attended} if padded else {}),
            "images": shown,
            "images_seq_mask": seen,
            "images_spatial_crop": grids,
        },
    )
    cache = output.past_key_values
    for step in range(1, decode_steps + 1):
        attended = torch.cat((attended, torch.ones(len(requests), 1, dtype=torch.int64)), dim=1)
        chosen = (next_tokens or _greedy)(output.logits[:, -1])
        if chosen is None:
            return
        ids = chosen
        output = None  # the logits of the step before are not live during this one
        # The vendor's generation loop hands the pages over at every step; only the first looks at them.
        output = yield ForwardCall(
            f"decode {step}", (ids,), {"past_key_values": cache, "attention_mask": attended, "images": shown}
        )
    if next_tokens is not None:
        next_tokens(output.logits[:, -1])


def _greedy(logits: Tensor) -> Tensor:
    return logits.argmax(dim=-1, keepdim=True)

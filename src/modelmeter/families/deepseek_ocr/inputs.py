"""The network in a scenario's dtypes, and example inputs for it: ids, pages, masks. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
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
    decoder = config.decoder
    dtype = torch_dtype(scenario.dtype)
    prompts = [request_ids(decoder, pages, text) for pages, text in zip(requests, text_tokens, strict=True)]
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), longest), decoder.eos_token_id, dtype=torch.int64)
    attended = torch.zeros(len(prompts), longest, dtype=torch.int64)
    seen = torch.zeros(len(prompts), longest, dtype=torch.bool)
    for row, (prompt, pages) in enumerate(zip(prompts, requests, strict=True)):
        start = longest - len(prompt)
        ids[row, start:] = prompt
        attended[row, start:] = 1
        seen[row, start + 1 : start + 1 + sum(page.image_tokens for page in pages)] = True
    pages = [page for request in requests for page in request]
    shown = [blank_page(page, dtype) for page in pages] if images is None else list(images)
    grids = torch.tensor([page.grid for page in pages], dtype=torch.int64)
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
    for step in range(1, scenario.decode_steps + 1):
        attended = torch.cat((attended, torch.ones(len(prompts), 1, dtype=torch.int64)), dim=1)
        ids = output.logits[:, -1].argmax(dim=-1, keepdim=True)
        output = None  # the logits of the step before are not live during this one
        # The vendor's generation loop hands the pages over at every step; only the first looks at them.
        output = yield ForwardCall(
            f"decode {step}", (ids,), {"past_key_values": cache, "attention_mask": attended, "images": shown}
        )

"""Decode steps on tensors of fixed shapes: what is captured on a GPU computes what the network does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from modelmeter.families.deepseek_ocr import PageLayout, VisionWorkload
from modelmeter.families.deepseek_ocr.captured import ExpertsByIndex, StaticDecode
from modelmeter.families.deepseek_ocr.inputs import blank_page, blank_request, request_forwards
from modelmeter.families.deepseek_ocr.network import DeepseekOCRForCausalLM
from modelmeter.families.deepseek_ocr.network.decoder import DeepseekV2MoE
from modelmeter.families.protocol import ForwardCall
from modelmeter.measuring.graphs import CapturedDecode
from modelmeter.measuring.models import fill
from small import small_config

LAYOUT = PageLayout(VisionWorkload(base_size=128, image_size=64), (1, 1))
STEPS = 5


def network(device: str = "cpu", **options: Any) -> DeepseekOCRForCausalLM:
    with torch.device(device):
        module = DeepseekOCRForCausalLM(small_config(), **options).eval()
    fill(module, 3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(6)  # so that routing and logits differ from token to token
    return module


def both(module: DeepseekOCRForCausalLM, text: list[int], device: str = "cpu") -> list[tuple[Tensor, Tensor]]:
    """Logits of every decode step: the network's, and those of steps that are captured on a GPU."""
    config = small_config()
    requests = []
    for row, tokens in enumerate(text):
        request = blank_request(config.decoder, [LAYOUT], tokens, [blank_page(LAYOUT, torch.float32)])
        request.ids[1 - tokens :] = torch.arange(tokens - 1) * 7 % 90 + row
        requests.append(request)

    def moved(call: ForwardCall) -> ForwardCall:
        kwargs = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in call.kwargs.items()}
        kwargs["images"] = [tuple(part.to(device) for part in page) for page in call.kwargs["images"]]
        return ForwardCall(call.name, (call.args[0].to(device),), kwargs)

    forwards = request_forwards(config.decoder, requests, STEPS)
    prefill = moved(next(forwards))
    pairs = []
    with torch.no_grad():
        output = module(*prefill.args, **prefill.kwargs)
        static = StaticDecode(module, len(text), len(requests[0].ids) + 20 + STEPS, device)
        decode = CapturedDecode(static, device)
        decode.begin(prefill, output)
        while True:
            try:
                call = moved(forwards.send(output))
            except StopIteration:
                return pairs
            output = module(*call.args, **call.kwargs)
            decode.ids.copy_(call.args[0])
            decode.step()
            pairs.append((output.logits[:, -1].clone(), decode.logits.clone()))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("text", [[4], [12, 3, 7]])
def test_static_steps_are_the_network_s(attention: str, text: list[int]) -> None:
    """With prompts of different lengths, and with cached values of another dtype."""
    for kv_dtype in (None, torch.float64):
        pairs = both(network(decoder_attention=attention, kv_dtype=kv_dtype), text)
        assert len(pairs) == STEPS
        assert (pairs[0][0] - pairs[1][0]).abs().max() > 0.1, "steps that do not differ prove nothing"
        for own, static in pairs:
            assert torch.allclose(own, static, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_experts_by_index_are_the_network_s(tokens: int) -> None:
    """Gathered ones for few tokens (8 experts, 3 a token), all of them for many."""
    module = network()
    layers = [layer for layer in module.modules() if isinstance(layer, DeepseekV2MoE)]
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    hidden = torch.randn(tokens, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = [layer(hidden) for layer in layers]
        with ExpertsByIndex(module).installed():
            found = [layer(hidden) for layer in layers]
            assert all("run_experts" in vars(layer) for layer in layers)
    for one, other in zip(expected, found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)
    assert not any("run_experts" in vars(layer) for layer in layers)
    assert all(torch.equal(parameter, before[name]) for name, parameter in module.named_parameters())


def test_experts_are_put_back_after_an_error() -> None:
    module = network()
    with pytest.raises(RuntimeError, match="stop"), ExpertsByIndex(module).installed():
        raise RuntimeError("stop")
    assert not any("run_experts" in vars(layer) for layer in module.modules())


def test_experts_take_no_more_memory() -> None:
    module = network()

    def held() -> int:
        return sum({p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in module.parameters()}.values())

    before = held()
    with ExpertsByIndex(module).installed():
        assert held() == before


def test_each_run_begins_anew() -> None:
    module = network()
    first, second = both(module, [6]), both(module, [6])
    for (_, one), (_, other) in zip(first, second, strict=True):
        assert torch.equal(one, other)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("text", [[4], [12, 3, 7]])
def test_replayed_steps_are_the_network_s(text: list[int]) -> None:
    for own, replayed in both(network("cuda"), text, "cuda"):
        assert torch.allclose(own, replayed, rtol=1e-3, atol=1e-3)

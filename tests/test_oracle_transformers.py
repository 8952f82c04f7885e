"""DeepSeek-OCR against code that nobody here wrote: transformers' ``unlimited_ocr`` and ``deepseek_ocr2``.

Unlimited-OCR has DeepSeek-OCR's architecture, so a small model of ours and one of theirs are given
the same random weights and must give the same numbers and the same matrix FLOPs. What differs:

- Its attention slides over the generated tokens (``reference_sliding_attention``). The layers are
  set to ``full_attention`` here, which is DeepSeek-OCR's.
- It computes rotary angles once, element by element; DeepSeek-OCR's code does in every layer as a
  matrix product of [C/2, 1] and [1, T]. Those are the only matrix FLOPs that differ.
- Its vision tower lacks CLIP's patch convolution, which DeepSeek-OCR's checkpoint holds and never runs.
- Its experts are two fused tensors, its CLIP has three projections for queries, keys and values: the
  same products, otherwise laid out.
- It resizes relative positions also where the size is right already, which changes nothing, and does so
  in the weights' dtype; DeepSeek-OCR, in float32. In float32, as here, they agree.
- Its SAM neck has an epsilon of 1e-6 whatever the configuration says; that is DeepSeek-OCR's value.
- It runs the global views of all pages in one batch and the crops of all pages in another, DeepSeek-OCR
  page by page: the same FLOPs, other calls.
- Its eager attention takes no grouped heads (it leaves out the repetition); those are compared in sdpa.
- Neither renormalises the weights of the chosen experts.

DeepSeek-OCR-2 shares SAM and the tiling, not the second tower, nor the newlines after rows.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from modelmeter import TraceOptions, VisionWorkload, compute_view_layout, trace
from modelmeter.families.deepseek_ocr import PageLayout
from modelmeter.families.deepseek_ocr.config import DeepSeekOCRConfig
from modelmeter.families.deepseek_ocr.inputs import request_ids
from modelmeter.families.deepseek_ocr.network import DeepseekOCRForCausalLM
from modelmeter.families.deepseek_ocr.views import closest_grid
from small import small_config

pytest.importorskip("transformers.models.unlimited_ocr")
pytest.importorskip("transformers.models.deepseek_ocr2")

from transformers.models.deepseek_ocr2.configuration_deepseek_ocr2 import DeepseekOcr2SamVisionConfig
from transformers.models.deepseek_ocr2.image_processing_pil_deepseek_ocr2 import (
    DeepseekOcr2ImageProcessorPil,
    get_all_supported_aspect_ratios,
    get_optimal_tiled_canvas,
)
from transformers.models.deepseek_ocr2.modeling_deepseek_ocr2 import DeepseekOcr2SamVisionEncoder
from transformers.models.unlimited_ocr.configuration_unlimited_ocr import UnlimitedOcrConfig
from transformers.models.unlimited_ocr.modeling_unlimited_ocr import UnlimitedOcrForConditionalGeneration
from transformers.models.unlimited_ocr.processing_unlimited_ocr import UnlimitedOcrProcessor


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(0)


KINDS = ["eager", "sdpa"]
WORKLOAD = VisionWorkload(base_size=192, image_size=128)  # 3 and 2 tokens a side, so that crops interleave
CONFIG = small_config()
GROUPED = small_config(num_key_value_heads=2)
SAM = {
    "num_hidden_layers": CONFIG.sam.layers,
    "hidden_size": CONFIG.sam.width,
    "num_attention_heads": CONFIG.sam.heads,
    "output_channels": CONFIG.sam.out_channels,
    "image_size": CONFIG.sam.image_size,
    "patch_size": CONFIG.sam.patch_size,
    "window_size": CONFIG.sam.window_size,
    "global_attn_indexes": list(CONFIG.sam.global_attn_indexes),
    "mlp_dim": CONFIG.sam.width * CONFIG.sam.mlp_ratio,
    "downsample_channels": list(CONFIG.sam.downsample_channels),
}
CLIP = {
    "num_hidden_layers": CONFIG.clip.layers,
    "hidden_size": CONFIG.clip.width,
    "intermediate_size": CONFIG.clip.width * CONFIG.clip.mlp_ratio,
    "num_attention_heads": CONFIG.clip.heads,
    "image_size": CONFIG.clip.image_size,
    "patch_size": CONFIG.clip.patch_size,
}
TEXT = {
    key: getattr(CONFIG.decoder, key)
    for key in (
        "hidden_size",
        "intermediate_size",
        "moe_intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "n_routed_experts",
        "n_shared_experts",
        "num_experts_per_tok",
        "first_k_dense_replace",
        "vocab_size",
        "max_position_embeddings",
    )
}
TOLERANCE = {"atol": 2e-4, "rtol": 1e-4}


def config_for(kind: str) -> DeepSeekOCRConfig:
    return GROUPED if kind == "sdpa" else CONFIG


def our_model(kind: str) -> DeepseekOCRForCausalLM:
    module = DeepseekOCRForCausalLM(config_for(kind), vision_attention=kind, decoder_attention=kind).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.normal_(std=0.25, generator=generator)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    return module


def their_model(kind: str) -> Any:
    config = UnlimitedOcrConfig(
        vision_config={"sam_config": dict(SAM), "encoder_config": dict(CLIP)},
        text_config={
            **TEXT,
            "num_key_value_heads": config_for(kind).decoder.num_key_value_heads,
            "layer_types": ["full_attention"] * CONFIG.decoder.num_hidden_layers,
        },
        image_token_id=CONFIG.decoder.image_placeholder,
        attn_implementation=kind,
        experts_implementation="eager",
    )
    return UnlimitedOcrForConditionalGeneration(config).eval()


SAM_NAMES = [
    ("patch_embed.proj.", "patch_embed.projection."),
    ("blocks.", "layers."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
    ("neck.0.", "neck.conv1."),
    ("neck.1.", "neck.layer_norm1."),
    ("neck.2.", "neck.conv2."),
    ("neck.3.", "neck.layer_norm2."),
    ("net_2.", "proj.conv1."),
    ("net_3.", "proj.conv2."),
]


def sam_weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """Our SAM's weights under their names."""
    named = {}
    for name, weight in module.state_dict().items():
        for ours, theirs in SAM_NAMES:
            name = name.replace(ours, theirs)
        named[name] = weight
    return named


def clip_weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """Our CLIP's weights under their names, the projection in three; the unused convolution is left out."""
    named = {}
    for name, weight in module.state_dict().items():
        name = name.replace("transformer.layers", "encoder.layers")
        if "qkv_proj" in name:
            for part, third in zip("qkv", weight.chunk(3), strict=True):
                named[name.replace("qkv_proj", f"{part}_proj")] = third
        elif "patch_embedding" not in name:
            named[name] = weight
    return named


def decoder_weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """Our decoder's weights under their names, the experts fused."""
    named = {}
    for name, weight in module.state_dict().items():
        if ".experts." not in name and name.startswith(("embed_tokens", "layers", "norm")):
            named[name] = weight
    for index, layer in enumerate(module.layers):  # type: ignore[union-attr,arg-type]
        if hasattr(layer.mlp, "experts"):
            experts = list(layer.mlp.experts)
            fused = [torch.cat((expert.gate_proj.weight, expert.up_proj.weight)) for expert in experts]
            named[f"layers.{index}.mlp.experts.gate_up_proj"] = torch.stack(fused)
            named[f"layers.{index}.mlp.experts.down_proj"] = torch.stack([e.down_proj.weight for e in experts])
    return named


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest) -> tuple[DeepseekOCRForCausalLM, Any]:
    """A model of ours and one of theirs with the same weights; every weight of theirs comes from ours."""
    ours, theirs = our_model(request.param), their_model(request.param)
    core, towers = ours.model, theirs.model.vision_tower
    towers.sam_encoder.load_state_dict(sam_weights(core.sam_model))
    towers.vision_encoder.load_state_dict(clip_weights(core.vision_model))
    theirs.model.multi_modal_projector.load_state_dict(core.projector.layers.state_dict())
    theirs.model.language_model.load_state_dict(decoder_weights(core))
    theirs.lm_head.load_state_dict(ours.lm_head.state_dict())
    with torch.no_grad():
        theirs.model.image_newline.copy_(core.image_newline)
        theirs.model.view_separator.copy_(core.view_seperator)
    unused = core.vision_model.embeddings.patch_embedding.weight.numel()
    counts = [sum(parameter.numel() for parameter in module.parameters()) for module in (ours, theirs)]
    assert counts[0] - unused == counts[1]
    return ours, theirs


def matrix_flops(module: nn.Module, *args: Any, **kwargs: Any) -> int:
    """Matrix FLOPs of one forward with real weights, by ModelMeter's tracer."""
    graph = trace(module, *args, options=TraceOptions(weightless=False), **kwargs)
    assert not graph.unknown_operators
    return graph.total.matrix_flops


@torch.no_grad()
def torch_flops(module: nn.Module, *args: Any, **kwargs: Any) -> int:
    """The same by torch's counter, which knows no fused attention on the CPU."""
    with FlopCounterMode(display=False) as counter:
        module(*args, **kwargs)
    return int(counter.get_total_flops())


def assert_same_flops(
    ours: tuple[nn.Module, tuple[Any, ...]], theirs: tuple[nn.Module, tuple[Any, ...]], *, eager: bool, extra: int = 0
) -> None:
    """Equal matrix FLOPs, ``extra`` of them ours alone; by torch's own counter too where it can count."""
    expected = matrix_flops(theirs[0], *theirs[1]) + extra
    assert matrix_flops(ours[0], *ours[1]) == expected > 0
    if eager:
        assert torch_flops(ours[0], *ours[1]) == torch_flops(theirs[0], *theirs[1]) + extra == expected


def is_eager(ours: DeepseekOCRForCausalLM) -> bool:
    return bool(ours.model.layers[0].self_attn.attention == "eager")


# The towers


@pytest.mark.parametrize("side", [128, 64, 80, 208])  # its own size; smaller; with padded windows; larger
def test_sam_tower(pair: tuple[Any, Any], side: int) -> None:
    ours, theirs = pair[0].model.sam_model, pair[1].model.vision_tower.sam_encoder
    views = torch.randn(2, 3, side, side)
    with torch.no_grad():
        torch.testing.assert_close(ours(views), theirs(views).last_hidden_state, **TOLERANCE)
    assert_same_flops((ours, (views,)), (theirs, (views,)), eager=is_eager(pair[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_sam_tower_of_deepseek_ocr_2(kind: str) -> None:
    # Its configuration has the same keys, and its last convolution keeps the channels it is given.
    ours = our_model(kind).model.sam_model
    theirs = DeepseekOcr2SamVisionEncoder(DeepseekOcr2SamVisionConfig(**SAM, attn_implementation=kind)).eval()
    theirs.load_state_dict(sam_weights(ours))
    views = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(views), theirs(views).last_hidden_state, **TOLERANCE)
    assert_same_flops((ours, (views,)), (theirs, (views,)), eager=kind == "eager")


@pytest.mark.parametrize("side", [4, 2, 7])  # its own grid of positions; smaller; larger
def test_clip_tower(pair: tuple[Any, Any], side: int) -> None:
    ours, theirs = pair[0].model.vision_model, pair[1].model.vision_tower.vision_encoder
    features = torch.randn(2, CONFIG.clip.width, side, side)
    with torch.no_grad():
        torch.testing.assert_close(ours(None, features), theirs(features).last_hidden_state, **TOLERANCE)
    assert_same_flops((ours, (None, features)), (theirs, (features,)), eager=is_eager(pair[0]))


def test_projector(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair[0].model.projector, pair[1].model.multi_modal_projector
    features = torch.randn(2, 9, CONFIG.feature_size)
    with torch.no_grad():
        torch.testing.assert_close(ours(features), theirs(features), **TOLERANCE)
    assert_same_flops((ours, (features,)), (theirs, (features,)), eager=True)


# The decoder


def rotary_flops(layers: int, batch: int, positions: int) -> int:
    """What ours alone does as matrix products: [C/2, 1] times [1, T] in every layer."""
    return layers * batch * 2 * (CONFIG.decoder.head_dim // 2) * positions


@pytest.mark.parametrize("layer", range(CONFIG.decoder.num_hidden_layers))
def test_feed_forward_parts(pair: tuple[Any, Any], layer: int) -> None:
    ours, theirs = pair[0].model.layers[layer].mlp, pair[1].model.language_model.layers[layer].mlp
    hidden = torch.randn(2, 11, CONFIG.decoder.hidden_size)
    with torch.no_grad():
        torch.testing.assert_close(ours(hidden), theirs(hidden), **TOLERANCE)
    assert_same_flops((ours, (hidden,)), (theirs, (hidden,)), eager=True)


def test_gate_chooses_and_weighs_alike(pair: tuple[Any, Any]) -> None:
    hidden = torch.randn(1, 40, CONFIG.decoder.hidden_size)
    with torch.no_grad():
        experts, weights = pair[0].model.layers[1].mlp.gate(hidden)
        _, their_weights, their_experts = pair[1].model.language_model.layers[1].mlp.gate(hidden)
    order, their_order = experts.argsort(-1), their_experts.argsort(-1)
    assert torch.equal(experts.gather(1, order), their_experts.gather(1, their_order))
    torch.testing.assert_close(weights.gather(1, order), their_weights.gather(1, their_order))


def test_text_alone_and_decode_steps(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    ids = torch.randint(0, 100, (2, 13))
    with torch.no_grad():
        output, their_output = ours(ids), theirs(ids, use_cache=True)
        torch.testing.assert_close(output.logits, their_output.logits, **TOLERANCE)
        for _ in range(3):
            ids = output.logits[:, -1].argmax(-1, keepdim=True)
            assert torch.equal(ids, their_output.logits[:, -1].argmax(-1, keepdim=True))
            output = ours(ids, past_key_values=output.past_key_values)
            their_output = theirs(ids, past_key_values=their_output.past_key_values, use_cache=True)
            torch.testing.assert_close(output.logits, their_output.logits, **TOLERANCE)
    keys = their_output.past_key_values.layers[1].keys
    torch.testing.assert_close(output.past_key_values.layers[1].keys, keys, **TOLERANCE)


# The whole model


def batch_of(requests: list[list[PageLayout]], text: list[int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """One batch, padded on the left, as ours takes it and as theirs does."""
    placeholder = CONFIG.decoder.image_placeholder
    prompts = [request_ids(CONFIG.decoder, pages, count) for pages, count in zip(requests, text, strict=True)]
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), 2)
    attended = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
        attended[row, longest - len(prompt) :] = 1
    last_words = torch.randint(2, placeholder, (len(prompts), 2))
    ids[:, -2:] = last_words
    pages = [page for request in requests for page in request]
    crops = [torch.randn(page.num_crops, 3, WORKLOAD.image_size, WORKLOAD.image_size) for page in pages]
    whole = [torch.randn(1, 3, WORKLOAD.base_size, WORKLOAD.base_size) for _ in pages]
    grids = [page.grid for page in pages]
    ours = {
        "input_ids": ids,
        "attention_mask": attended,
        "images": list(zip(crops, whole, strict=True)),
        "images_seq_mask": ids == placeholder,
        "images_spatial_crop": torch.tensor(grids),
    }
    theirs = {
        "input_ids": ids,
        "attention_mask": attended,
        "position_ids": (attended.cumsum(-1) - 1).clamp(min=0),
        "pixel_values": torch.cat(whole),
        "pixel_values_local": torch.cat(crops) if any(len(views) for views in crops) else None,
        "num_local_patches": [len(views) for views in crops],
        "patches_grid": [list(grid) for grid in grids],
    }
    return ours, theirs


def pages_of(*grids: tuple[int, int]) -> list[PageLayout]:
    return [PageLayout(WORKLOAD, grid) for grid in grids]


BATCHES = [
    pytest.param([pages_of((1, 1))], [5], id="no crops"),
    pytest.param([pages_of((3, 2))], [5], id="crops"),
    pytest.param([pages_of((2, 1), (1, 1), (1, 3))], [5], id="three pages"),
    pytest.param([pages_of((2, 1)), pages_of((1, 1), (3, 3)), pages_of((1, 2))], [9, 3, 20], id="padded batch"),
]


@pytest.mark.parametrize(("requests", "text"), BATCHES)
def test_whole_model(pair: tuple[Any, Any], requests: list[list[PageLayout]], text: list[int]) -> None:
    ours, theirs = pair
    inputs, their_inputs = batch_of(requests, text)
    with torch.no_grad():
        logits, their_logits = ours(**inputs).logits, theirs(**their_inputs).logits
    attended = inputs["attention_mask"].bool()  # what stands at padding is nobody's result
    torch.testing.assert_close(logits[attended], their_logits[attended], **TOLERANCE)

    flops, their_flops = matrix_flops(ours, **inputs), matrix_flops(theirs, **their_inputs)
    batch, positions = inputs["input_ids"].shape
    assert flops == their_flops + rotary_flops(len(ours.model.layers), batch, positions)
    if is_eager(ours):
        assert torch_flops(ours, **inputs) == flops
        assert torch_flops(theirs, **their_inputs) == their_flops


def test_image_tokens_before_the_decoder(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    pages = pages_of((3, 2), (1, 1), (1, 4))
    inputs, their_inputs = batch_of([pages], [3])
    with torch.no_grad():
        tokens = ours.model.see(inputs["images"], inputs["images_spatial_crop"])
        their_tokens = theirs.model.get_image_features(
            their_inputs["pixel_values"],
            their_inputs["pixel_values_local"],
            their_inputs["num_local_patches"],
            their_inputs["patches_grid"],
            return_dict=True,
        ).pooler_output
    assert [len(page) for page in tokens] == [page.image_tokens for page in pages]
    for page, their_page in zip(tokens, their_tokens, strict=True):
        torch.testing.assert_close(page, their_page, **TOLERANCE)


# Tiling and token counts. Unlimited-OCR's own image processor needs torchvision; DeepSeek-OCR-2's in
# PIL has the same functions and other limits: tiles of 768 and at most 6, where Unlimited-OCR has 640
# and 32, and DeepSeek-OCR 640 and 9.

GUNDAM = VisionWorkload()
sizes = st.integers(1, 6000)


def their_grid(width: int, height: int, *, tile: int = 640, fewest: int = 2, most: int = 9) -> tuple[int, int]:
    w, h = get_optimal_tiled_canvas((height, width), (tile, tile), fewest, most)
    return w, h


def test_grid_lists_hold_the_same_grids() -> None:
    theirs = get_all_supported_aspect_ratios(2, 9)
    assert set(theirs) == set(GUNDAM.grids())
    assert [w * h for w, h in theirs] == [w * h for w, h in GUNDAM.grids()]


@given(sizes, sizes)
@settings(max_examples=400, deadline=None)
def test_crop_grid_of_any_page_is_theirs_at_our_limits(width: int, height: int) -> None:
    assert closest_grid(GUNDAM, width, height) == their_grid(width, height)


def test_crop_grid_is_theirs_on_a_mesh_of_sizes_and_on_ties() -> None:
    mesh = [(w, h) for w in range(1, 4200, 97) for h in range(1, 4200, 89)]
    ties = [(a * scale, b * scale) for a in range(1, 19) for b in range(1, 19) for scale in (1, 37, 64, 160, 229)]
    for width, height in mesh + ties:
        assert closest_grid(GUNDAM, width, height) == their_grid(width, height), (width, height)


@given(sizes, sizes, st.integers(1, 4), st.integers(4, 16))
@settings(max_examples=100, deadline=None)
def test_crop_grid_is_theirs_for_other_numbers_of_crops(width: int, height: int, fewest: int, most: int) -> None:
    workload = VisionWorkload(min_num=fewest, max_num=most)
    assert closest_grid(workload, width, height) == their_grid(width, height, fewest=fewest, most=most)


def test_their_tie_rule_follows_the_tile_and_ours_is_640_whatever_the_crop_size() -> None:
    # 1:1 is 2x2 and, with 9 crops, 3x3, which wins above half of its area: 1357.6 px square for tiles
    # of 640, 1086.1 for 512, 1629.2 for 768.
    crops_of_512 = VisionWorkload(image_size=512)
    assert their_grid(1200, 1200, tile=512) == (3, 3)
    assert closest_grid(crops_of_512, 1200, 1200) == their_grid(1200, 1200) == (2, 2)
    assert their_grid(1500, 1500, tile=768) == (2, 2)
    assert closest_grid(GUNDAM, 1500, 1500) == (3, 3)


def test_their_limit_of_cropping_is_the_tile_and_their_most_crops_are_fewer() -> None:
    processor = DeepseekOcr2ImageProcessorPil(size={"height": 1024, "width": 1024})
    assert (processor.min_patches, processor.max_patches, processor.tile_size) == (2, 6, 768)

    def their_crops(width: int, height: int, **limits: int) -> int:
        page = torch.zeros(3, height, width, dtype=torch.uint8).numpy()
        return int(processor(page, **limits, input_data_format="channels_first")["num_local_patches"][0])

    # An image is cropped if a side is above the tile: 768 there, 640 here.
    assert their_crops(700, 700) == 0 and compute_view_layout(GUNDAM, 700, 700) == (5, 2, 2)
    # At our limits the whole decision is ours, also at the boundary.
    for width, height in [(640, 640), (641, 640), (640, 641), (300, 900), (1240, 1754), (2000, 230)]:
        views, _, _ = compute_view_layout(GUNDAM, width, height)
        assert views - 1 == their_crops(width, height, tile_size=640, max_patches=9)
    assert their_crops(2000, 230) == 6 and compute_view_layout(GUNDAM, 2000, 230) == (10, 9, 1)


@given(st.sampled_from([(1, 1), *GUNDAM.grids()]), st.integers(4, 90), st.integers(4, 90))
@settings(max_examples=60, deadline=None)
def test_token_counts_are_their_processor_s(grid: tuple[int, int], base: int, image: int) -> None:
    class Limits:
        size = {"height": 16 * base, "width": 16 * base}  # noqa: RUF012 - as theirs
        tile_size = 16 * image

    processor = UnlimitedOcrProcessor.__new__(UnlimitedOcrProcessor)
    processor.image_processor, processor.image_token = Limits(), "."
    processor.patch_size, processor.downsample_ratio = 16, 4
    page = PageLayout(VisionWorkload(16 * base, 16 * image), grid)
    found = {"patches_grid": [list(grid)], "num_local_patches": [page.num_crops]}
    assert page.image_tokens == len(processor.replace_image_token(found, 0))

"""DeepSeek-OCR's network, run for real at small sizes, and its checkpoint loader."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from modelmeter import Scenario, build_weightless
from modelmeter.errors import ConfigurationError, MissingDependencyError, ScenarioError
from modelmeter.families.deepseek_ocr import FAMILY, PageLayout, VisionWorkload, read_configuration
from modelmeter.families.deepseek_ocr.checkpoint import load_checkpoint
from modelmeter.families.deepseek_ocr.config import DeepSeekOCRConfig
from modelmeter.families.deepseek_ocr.inputs import run_forwards
from modelmeter.families.deepseek_ocr.network import DeepseekOCRForCausalLM, KeyValueCache
from modelmeter.families.deepseek_ocr.network.attention import scaled_dot_product
from modelmeter.families.deepseek_ocr.network.decoder import DeepseekV2MoE, LlamaRotaryEmbedding, MoEGate, rotate
from modelmeter.families.deepseek_ocr.network.model import positions_and_mask
from modelmeter.families.deepseek_ocr.network.sam import Attention, Block, join_windows, split_windows
from small import small_config, small_source

PUBLISHED_PARAMETERS = Path(__file__).parent / "data" / "deepseek_ocr_parameters.json"
SMALL_WORKLOAD = VisionWorkload(base_size=128, image_size=64)
SCENARIO = Scenario(dtype="float32")
NO_CROPS, TWO_CROPS, SIX_CROPS = (1, 1), (2, 1), (3, 2)


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(0)


few_examples = settings(max_examples=8, deadline=None, derandomize=True)


def layout(grid: tuple[int, int]) -> PageLayout:
    return PageLayout(SMALL_WORKLOAD, grid)


def fill(module: torch.nn.Module, seed: int = 0) -> None:
    """Random values for every parameter, also those that the network makes as zeros or ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.normal_(std=0.25, generator=generator)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)


def network(config: DeepSeekOCRConfig | None = None, seed: int = 0, **options: Any) -> DeepseekOCRForCausalLM:
    module = DeepseekOCRForCausalLM(config or small_config(), **options).eval()
    fill(module, seed)
    return module


def pixels(page: PageLayout, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    side, whole = page.workload.image_size, page.workload.global_side
    return (
        torch.randn(page.num_crops, 3, side, side, generator=generator),
        torch.randn(1, 3, whole, whole, generator=generator),
    )


@torch.no_grad()
def run(
    module: DeepseekOCRForCausalLM,
    config: DeepSeekOCRConfig,
    requests: list[list[PageLayout]],
    text: list[int],
    images: list[Any],
    decode_steps: int = 0,
) -> list[Any]:
    """Outputs of all forwards of a batch, as the family would run it."""
    scenario = Scenario(dtype="float32", decode_steps=decode_steps)
    forwards = run_forwards(config, scenario, requests, text, images)
    outputs: list[Any] = []
    try:
        call = next(forwards)
        while True:
            outputs.append(module(*call.args, **call.kwargs))
            call = forwards.send(outputs[-1])
    except StopIteration:
        return outputs


@torch.no_grad()
def prefill(module: DeepseekOCRForCausalLM, grid: tuple[int, int], text: int, length: int | None = None) -> Any:
    """A prompt of BOS, one page's tokens and text ids that differ, cut to a length if one is given."""
    page = layout(grid)
    vocabulary = module.lm_head.out_features
    ids = torch.arange(1 + page.image_tokens + text) * 7 % (vocabulary - 1)
    seen = torch.zeros(len(ids), dtype=torch.bool)
    seen[1 : 1 + page.image_tokens] = True
    return module(
        ids[None, :length],
        images=[pixels(page, seed=3)],
        images_seq_mask=seen[None, :length],
        images_spatial_crop=torch.tensor([grid]),
    ), ids


# Parameters


def test_full_size_parameters_are_the_published_checkpoint_s() -> None:
    published = json.loads(PUBLISHED_PARAMETERS.read_text(encoding="utf-8"))
    module = build_weightless(lambda: FAMILY.build(FAMILY.default_configuration(), Scenario()))
    built = {
        name: [list(parameter.shape), str(parameter.dtype).removeprefix("torch.")]
        for name, parameter in module.named_parameters()
    }
    assert built == published
    assert len(built) == 2710
    assert sum(math.prod(shape) for shape, _ in built.values()) == 3_336_106_240
    assert set(module.state_dict()) == set(published), "a buffer would be missing from the published checkpoint"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_routed_experts", "8"),
        ("n_routed_experts", 8.0),
        ("n_shared_experts", -1),
        ("num_experts_per_tok", True),
        ("first_k_dense_replace", None),
        ("first_k_dense_replace", -1),
        ("rms_norm_eps", "small"),
        ("rope_theta", 0),
        ("eos_token_id", [1]),
    ],
)
def test_values_that_no_network_can_be_built_from_are_refused(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"{key} is {re.escape(repr(value))} in DecoderConfig; give a "):
        small_config(**{key: value})


@pytest.mark.parametrize("key", ["global_attn_indexes", "downsample_channels"])
@pytest.mark.parametrize("value", [None, 5, "12", [1.5, 2], [True], ["a"]])
def test_lists_of_the_vision_configuration_hold_whole_numbers(key: str, value: Any) -> None:
    source = small_source()
    source["vision_config"]["width"]["sam_vit_b"][key] = value
    with pytest.raises(ConfigurationError, match=rf"{key} is .* in SamConfig; give a list of whole numbers"):
        read_configuration(source)


# Forwards


@pytest.mark.parametrize(("grid", "tokens"), [(NO_CROPS, 7), (TWO_CROPS, 10), (SIX_CROPS, 15)])
def test_prefill_takes_pages_with_and_without_crops(grid: tuple[int, int], tokens: int) -> None:
    # 128 pixels are 2 tokens a side, 64 are 1: global (2+1)*2+1 = 7, crops (w+1)*h.
    module, page = network(), layout(grid)
    assert page.image_tokens == tokens
    output, ids = prefill(module, grid, text=4)
    assert output.logits.shape == (1, len(ids), 101)
    assert output.logits.dtype == torch.float32
    assert torch.isfinite(output.logits).all()
    assert output.past_key_values.get_seq_length() == 1 + tokens + 4


def test_every_view_and_every_text_token_reaches_the_last_logits() -> None:
    module, page = network(), layout(TWO_CROPS)
    reference = prefill(module, TWO_CROPS, text=4)[0].logits[0, -1]
    ids = torch.arange(1 + page.image_tokens + 4) * 7 % 100
    seen = torch.zeros(1, len(ids), dtype=torch.bool)
    seen[0, 1 : 1 + page.image_tokens] = True
    for changed in ("first crop", "last crop", "global view", "text"):
        crops, whole = (view.clone() for view in pixels(page, seed=3))
        other = ids.clone()
        if changed == "global view":
            whole[0, 0, 0, 0] += 5
        elif changed == "text":
            other[-2] += 1
        else:
            crops[0 if changed == "first crop" else -1, 0, 0, 0] += 5
        with torch.no_grad():
            logits = module(
                other[None],
                images=[(crops, whole)],
                images_seq_mask=seen,
                images_spatial_crop=torch.tensor([TWO_CROPS]),
            ).logits[0, -1]
        assert not torch.allclose(logits, reference, atol=1e-6), changed


decoders = st.fixed_dictionaries(
    {
        "num_hidden_layers": st.integers(1, 4),
        "num_attention_heads": st.just(4),
        "num_key_value_heads": st.sampled_from([1, 2, 4]),
        "n_routed_experts": st.integers(3, 9),
        "num_experts_per_tok": st.integers(1, 3),
        "n_shared_experts": st.sampled_from([None, 1, 2]),
        "first_k_dense_replace": st.integers(0, 5),
        "intermediate_size": st.integers(1, 60),
        "moe_intermediate_size": st.integers(1, 30),
        "hidden_size": st.sampled_from([8, 32, 48]),
    }
)


@few_examples
@given(
    decoder=decoders,
    grid=st.sampled_from([NO_CROPS, TWO_CROPS, SIX_CROPS]),
    text=st.integers(2, 6),
    kind=st.sampled_from(["eager", "sdpa"]),
)
def test_one_more_position_is_the_same_in_a_prefill_and_in_a_cached_step(
    decoder: dict[str, Any], grid: tuple[int, int], text: int, kind: str
) -> None:
    config = small_config(**decoder)
    module = network(config, decoder_attention=kind, vision_attention=kind)
    whole, ids = prefill(module, grid, text)
    steps = 2 if text > 2 else 1
    output, _ = prefill(module, grid, text, length=len(ids) - steps)
    for position in range(len(ids) - steps, len(ids)):
        with torch.no_grad():
            output = module(ids[None, position : position + 1], past_key_values=output.past_key_values)
        torch.testing.assert_close(output.logits[:, 0], whole.logits[:, position], atol=2e-4, rtol=1e-4)
    assert output.past_key_values.get_seq_length() == len(ids)
    held = output.past_key_values.layers[-1].keys
    assert held.shape == (1, config.decoder.num_key_value_heads, len(ids), config.decoder.head_dim)


def test_dense_decoder_has_no_gate_and_runs() -> None:
    source = small_source()
    for key in ("n_routed_experts", "n_shared_experts", "num_experts_per_tok", "moe_intermediate_size"):
        del source["language_config"][key]
    config = read_configuration(source)
    module = network(config)
    assert not any("gate.weight" in name or "experts" in name for name, _ in module.named_parameters())
    assert torch.isfinite(prefill(module, TWO_CROPS, text=3)[0].logits).all()


def test_shared_experts_are_one_mlp_of_their_added_width_or_absent() -> None:
    with_shared = network(small_config(n_shared_experts=3)).model.layers[1].mlp
    assert with_shared.shared_experts.gate_proj.weight.shape == (3 * 24, 48)
    without = network(small_config(n_shared_experts=None)).model.layers[1].mlp
    assert not hasattr(without, "shared_experts")


def test_first_layers_are_dense_and_the_others_experts() -> None:
    module = network(small_config(num_hidden_layers=4, first_k_dense_replace=2))
    assert [type(layer.mlp).__name__ for layer in module.model.layers] == [
        "DeepseekV2MLP",
        "DeepseekV2MLP",
        "DeepseekV2MoE",
        "DeepseekV2MoE",
    ]


@pytest.mark.parametrize("part", ["vision_attention", "decoder_attention"])
def test_eager_and_sdpa_attention_agree(part: str) -> None:
    config = small_config(num_key_value_heads=2)
    eager = prefill(network(config, **{part: "eager"}), SIX_CROPS, text=5)[0].logits
    sdpa = prefill(network(config, **{part: "sdpa"}), SIX_CROPS, text=5)[0].logits
    torch.testing.assert_close(eager, sdpa, atol=2e-4, rtol=1e-4)


def test_eager_attention_is_the_written_out_formula() -> None:
    q, k, v = torch.randn(3, 2, 4, 5, 6).unbind(0)
    mask = torch.randn(2, 1, 5, 5)
    expected = torch.empty_like(q)
    for b in range(2):
        for n in range(4):
            for t in range(5):
                scores = torch.stack([q[b, n, t] @ k[b, n, p] / 6**0.5 + mask[b, 0, t, p] for p in range(5)])
                expected[b, n, t] = (scores.exp() / scores.exp().sum()) @ v[b, n]
    for kind in ("eager", "sdpa"):
        torch.testing.assert_close(scaled_dot_product(q, k, v, mask=mask, kind=kind), expected, atol=1e-5, rtol=1e-5)


def test_grouped_heads_are_full_heads_with_repeated_weights() -> None:
    grouped = network(small_config(num_key_value_heads=2))
    full = network(small_config(num_key_value_heads=4))
    weights = grouped.state_dict()
    for name, weight in weights.items():
        if "self_attn.k_proj" in name or "self_attn.v_proj" in name:
            weights[name] = weight.view(2, 1, 12, 48).expand(2, 2, 12, 48).reshape(48, 48)
    full.load_state_dict(weights)
    left, right = (prefill(module, TWO_CROPS, text=4)[0].logits for module in (grouped, full))
    torch.testing.assert_close(left, right, atol=2e-4, rtol=1e-4)


def test_last_head_gives_the_last_of_all_logits() -> None:
    every = prefill(network(head="all"), TWO_CROPS, text=4)[0].logits
    last = prefill(network(head="last"), TWO_CROPS, text=4)[0].logits
    assert last.shape == (1, 1, 101)
    torch.testing.assert_close(last, every[:, -1:], atol=1e-5, rtol=1e-5)


def test_cache_is_kept_in_its_own_dtype() -> None:
    exact, rounded = network(), network(kv_dtype=torch.bfloat16)
    left, right = (prefill(module, TWO_CROPS, text=4)[0] for module in (exact, rounded))
    assert left.past_key_values.layers[0].keys.dtype == torch.float32
    for layer in right.past_key_values.layers:
        assert layer.keys.dtype == layer.values.dtype == torch.bfloat16
    torch.testing.assert_close(
        right.past_key_values.layers[0].keys, left.past_key_values.layers[0].keys.to(torch.bfloat16)
    )
    assert right.logits.dtype == torch.float32
    assert not torch.equal(left.logits, right.logits)  # attention reads what the cache holds


def test_scenario_dtypes_reach_weights_and_cache() -> None:
    scenario = Scenario(dtype="bfloat16", kv_dtype="float32", head="last").resolve()
    module = FAMILY.build(small_config(), scenario)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.bfloat16}
    fill(module)
    with torch.no_grad():
        output = module(torch.tensor([[1, 2, 3]]))
    assert output.past_key_values.layers[0].keys.dtype == torch.float32
    assert output.logits.shape == (1, 1, 101)
    assert torch.get_default_dtype() == torch.float32


# Batches and pages


@pytest.mark.parametrize("kind", ["eager", "sdpa"])
def test_padded_batch_gives_each_request_what_it_gets_alone(kind: str) -> None:
    config = small_config(num_key_value_heads=2)
    module = network(config, decoder_attention=kind)
    requests = [[layout(SIX_CROPS)], [layout(NO_CROPS)], [layout(TWO_CROPS), layout(NO_CROPS)]]
    text = [3, 9, 2]
    images = [[pixels(page, seed=10 * row + column) for column, page in enumerate(r)] for row, r in enumerate(requests)]
    together = run(module, config, requests, text, [views for request in images for views in request], decode_steps=2)
    assert len(together) == 3
    for row, request in enumerate(requests):
        alone = run(module, config, [request], [text[row]], images[row], decode_steps=2)
        for batched, single in zip(together, alone, strict=True):
            torch.testing.assert_close(batched.logits[row, -1], single.logits[0, -1], atol=3e-4, rtol=1e-4)


def test_padding_has_no_influence_and_positions_start_behind_it() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    positions, bias = positions_and_mask(torch.zeros(2, 3, dtype=torch.int64), mask, 2, torch.float32)
    assert positions.tolist() == [[0, 1, 2], [2, 3, 4]]
    visible = (bias == 0)[:, 0]
    assert visible.tolist() == [
        [[False, False, True, False, False], [False, False, True, True, False], [False, False, True, True, True]],
        [[True, True, True, False, False], [True, True, True, True, False], [True, True, True, True, True]],
    ]
    assert (bias[~visible[:, None]] == torch.finfo(torch.float32).min).all()


def test_pages_of_one_request_are_seen_in_order() -> None:
    config, module = small_config(), network()
    pages = [layout(TWO_CROPS), layout(NO_CROPS)]
    first, second = pixels(pages[0], seed=1), pixels(pages[1], seed=2)
    grids = torch.tensor([page.grid for page in pages])
    with torch.no_grad():
        both = module.model.see([first, second], grids)
        alone = [module.model.see([views], grids[index : index + 1])[0] for index, views in enumerate((first, second))]
    assert [len(tokens) for tokens in both] == [page.image_tokens for page in pages]
    for together, single in zip(both, alone, strict=True):
        torch.testing.assert_close(together, single)

    entering: list[torch.Tensor] = []
    handle = module.model.layers[0].register_forward_pre_hook(lambda _, args: entering.append(args[0]))
    run(module, config, [pages], [3], [first, second])
    handle.remove()
    image_tokens = sum(page.image_tokens for page in pages)
    torch.testing.assert_close(entering[0][0, 1 : 1 + image_tokens], torch.cat(alone))
    embedding = module.model.embed_tokens.weight
    torch.testing.assert_close(entering[0][0, 0], embedding[config.decoder.bos_token_id])
    torch.testing.assert_close(entering[0][0, -1], embedding[config.decoder.eos_token_id])


def test_pages_are_looked_at_once_a_request_and_not_in_decode_steps() -> None:
    config, module = small_config(), network()
    views: list[int] = []
    handle = module.model.sam_model.register_forward_pre_hook(lambda _, args: views.append(args[0].shape[0]))
    pages = [layout(SIX_CROPS), layout(NO_CROPS)]
    run(module, config, [pages], [3], [pixels(page, seed=0) for page in pages], decode_steps=2)
    handle.remove()
    assert views == [6, 1, 1]  # six crops in one batch, their global view, the other page's


def test_unmatched_pages_and_grids_are_refused() -> None:
    module = network()
    with pytest.raises(ValueError, match="shorter"):
        module.model.see([pixels(layout(NO_CROPS), seed=0)] * 2, torch.tensor([NO_CROPS]))


# Image tokens


@few_examples
@given(st.sampled_from((*SMALL_WORKLOAD.grids(), (1, 1))), st.integers(1, 3), st.integers(1, 3))
def test_image_tokens_are_rows_of_crops_with_newlines_then_the_global_view_then_the_separator(
    grid: tuple[int, int], crop_side: int, global_side: int
) -> None:
    module, (columns, rows) = network(), grid
    depth = 48
    crops = columns * rows if columns * rows > 1 else 0
    # The value of a token says where it comes from: 1000 * view + 10 * its row + its column.
    local = torch.tensor([1000 * (c + 1) + 10 * y + x for c in range(crops) for y in range(crop_side)
                          for x in range(crop_side)]).float()  # fmt: skip
    whole = torch.tensor([10 * y + x for y in range(global_side) for x in range(global_side)]).float()

    def features(views: torch.Tensor) -> torch.Tensor:
        values, side = (local, crop_side) if views.shape[0] == crops else (whole, global_side)
        return values.view(-1, side * side, 1).expand(-1, -1, depth)

    core = module.model
    core._view_features = features  # type: ignore[method-assign]
    with torch.no_grad():
        core.image_newline.fill_(-1)
        core.view_seperator.fill_(-2)
        [tokens] = core.see([(torch.zeros(crops, 3, 4, 4), torch.zeros(1, 3, 4, 4))], torch.tensor([grid]))

    expected: list[int] = []
    if crops:
        for y in range(rows * crop_side):
            for x in range(columns * crop_side):
                crop = (y // crop_side) * columns + x // crop_side
                expected.append(1000 * (crop + 1) + 10 * (y % crop_side) + x % crop_side)
            expected.append(-1)
    for y in range(global_side):
        expected += [*(10 * y + x for x in range(global_side)), -1]
    expected.append(-2)
    assert tokens[:, 0].int().tolist() == expected
    assert (tokens == tokens[:, :1]).all()


def test_view_features_put_clip_before_sam_and_leave_the_class_token_out() -> None:
    core = network().model
    view = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        sam = core.sam_model(view)
        clip = core.vision_model(view, sam)
        assert sam.shape == (2, 32, 2, 2) and clip.shape == (2, 5, 32)
        weight, bias = core.projector.layers.weight, core.projector.layers.bias
        expected = [
            weight @ torch.cat((clip[b, 1 + 2 * y + x], sam[b, :, y, x])) + bias
            for b in range(2)
            for y in range(2)
            for x in range(2)
        ]
        torch.testing.assert_close(
            core._view_features(view).reshape(8, -1), torch.stack(expected), atol=1e-4, rtol=1e-4
        )


def test_clip_never_runs_its_own_patch_convolution() -> None:
    module = network()
    module.model.vision_model.embeddings.patch_embedding.register_forward_pre_hook(
        lambda *_: pytest.fail("the patch convolution ran")
    )
    prefill(module, TWO_CROPS, text=3)


# Square views only


def test_views_that_are_not_square_are_refused_with_the_reason() -> None:
    with pytest.raises(ScenarioError, match=r"base_size is \(1024, 512\).*views are square.*CLIP's position table"):
        VisionWorkload(base_size=(1024, 512))  # type: ignore[arg-type]
    core = network().model
    with pytest.raises(ValueError, match=r"2x1 tokens is not square, as CLIP's position table is"):
        core._view_features(torch.zeros(1, 3, 128, 64))


# Parts


@few_examples
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_windows_cover_the_map_and_are_joined_again(views: int, height: int, width: int, side: int) -> None:
    x = torch.arange(1.0, views * height * width * 2 + 1).view(views, height, width, 2)
    windows = split_windows(x, side)
    assert windows.shape == (views * -(-height // side) * -(-width // side), side, side, 2)
    assert torch.equal(join_windows(windows, side, height, width), x)
    assert windows.sum() == x.sum()  # what is padded is zero


def test_one_window_as_large_as_the_map_is_global_attention() -> None:
    config = small_config().sam
    windowed = Block(config, window_size=8, attention="eager")
    whole = Block(config, window_size=0, attention="eager")
    fill(windowed)
    whole.load_state_dict(windowed.state_dict())
    x = torch.randn(2, 8, 8, config.width)
    torch.testing.assert_close(windowed(x), whole(x))


def test_position_bias_is_the_query_times_the_offsets_embeddings() -> None:
    attention = Attention(width=12, heads=2, side=4, attention="eager")
    fill(attention)
    q = torch.randn(3, 2, 16, 6)
    bias = attention._position_bias(q, 4, 4)
    for t, p in [(0, 15), (15, 0), (6, 6), (3, 12), (9, 2)]:
        (y, x), (y2, x2) = divmod(t, 4), divmod(p, 4)
        embedding = attention.rel_pos_h[y - y2 + 3] + attention.rel_pos_w[x - x2 + 3]
        torch.testing.assert_close(bias[:, :, t, p], q[:, :, t] @ embedding)


def test_position_tables_are_resized_to_the_view() -> None:
    core = network().model
    sam, embeddings = core.sam_model, core.vision_model.embeddings
    with torch.no_grad():
        sam.pos_embed.fill_(0.5)
        embeddings.position_embedding.weight.fill_(0.25)
        embeddings.position_embedding.weight[0].fill_(9)
    assert sam._positions(8, 8) is sam.pos_embed
    torch.testing.assert_close(sam._positions(5, 5), torch.full((1, 5, 5, 24), 0.5))
    assert embeddings._positions(4).shape == (1, 17, 32)
    small = embeddings._positions(2)
    torch.testing.assert_close(small[0, :, 0], torch.tensor([9, 0.25, 0.25, 0.25, 0.25]))


@few_examples
@given(st.integers(1, 12), st.integers(1, 9), st.data())
def test_experts_give_the_sum_that_a_loop_over_tokens_gives(tokens: int, experts: int, data: st.DataObject) -> None:
    top_k = data.draw(st.integers(1, experts))
    chosen = data.draw(st.lists(st.permutations(range(experts)), min_size=tokens, max_size=tokens))
    moe = DeepseekV2MoE(small_config(n_routed_experts=experts, num_experts_per_tok=top_k).decoder)
    fill(moe)
    table = torch.tensor([row[:top_k] for row in chosen])
    x, weights = torch.randn(tokens, 48), torch.rand(tokens, top_k)
    expected = torch.stack(
        [sum(weights[t, j] * moe.experts[int(table[t, j])](x[t]) for j in range(top_k)) for t in range(tokens)]
    )
    torch.testing.assert_close(moe.run_experts(x, table, weights), expected, atol=1e-4, rtol=1e-4)


def test_gate_takes_the_largest_probabilities_as_they_are() -> None:
    gate = MoEGate(small_config().decoder).to(torch.bfloat16)
    fill(gate)
    x = torch.randn(2, 5, 48, dtype=torch.bfloat16) * 0.2
    experts, weights = gate(x)
    probabilities = (x.float().view(10, 48) @ gate.weight.float().t()).softmax(-1)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sort(descending=True).values, probabilities.topk(3).values)
    torch.testing.assert_close(probabilities.gather(1, experts), weights)
    assert (weights.sum(-1) < 0.95).all()  # not renormalised


def test_rotary_products_depend_on_the_distance_alone() -> None:
    rotary = LlamaRotaryEmbedding(8, 10_000.0)
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def product(at: int, of: int) -> float:
        turned = []
        for x, position in ((q, at), (k, of)):
            cos, sin = rotary(x, torch.tensor([[position]]))
            turned.append(rotate(x, cos[:, None], sin[:, None]))
        return float((turned[0] * turned[1]).sum())

    assert product(107, 100) == pytest.approx(product(7, 0), abs=1e-4)
    assert product(7, 0) != pytest.approx(product(0, 0), abs=1e-4)
    assert product(5, 5) == pytest.approx(float((q * k).sum()), abs=1e-4)


def test_cache_grows_layer_by_layer() -> None:
    cache = KeyValueCache(2)
    assert cache.get_seq_length() == 0
    first, second = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 1, 4)
    cache.update(first, first, 0)
    keys, values = cache.update(second, -second, 0)
    assert torch.equal(keys, torch.cat((first, second), dim=2))
    assert torch.equal(values, torch.cat((first, -second), dim=2))
    assert cache.get_seq_length() == 4 and cache.layers[1].keys is None


# Checkpoints


def write_checkpoint(folder: Path, weights: dict[str, torch.Tensor], shards: int = 1) -> None:
    folder.mkdir(exist_ok=True)
    if shards == 1:
        save_file(weights, folder / "model.safetensors")
        return
    homes = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:06}.safetensors"
        part = dict(list(weights.items())[shard::shards])
        save_file(part, folder / file)
        homes |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": homes}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """A checkpoint of the small network in bfloat16, like the published one."""
    return {name: weight.to(torch.bfloat16) for name, weight in network(seed=5).state_dict().items()}


def assert_holds(module: DeepseekOCRForCausalLM, weights: dict[str, torch.Tensor]) -> None:
    for name, parameter in module.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, weights[name].float()), name


@pytest.mark.parametrize("shards", [1, 3])
def test_checkpoint_is_loaded_from_one_file_or_from_shards(
    tmp_path: Path, weights: dict[str, torch.Tensor], shards: int
) -> None:
    write_checkpoint(tmp_path, weights, shards)
    module = network()
    load_checkpoint(module, tmp_path)
    assert_holds(module, weights)


def test_buffers_in_a_checkpoint_are_computed_not_loaded(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    name = "model.vision_model.embeddings.position_ids"
    write_checkpoint(tmp_path, {**weights, name: torch.zeros(1, 17, dtype=torch.int64)})
    module = network()
    load_checkpoint(module, str(tmp_path))
    assert_holds(module, weights)
    assert module.get_buffer(name)[0, -1] == 16


def test_wrong_names_are_listed_and_change_nothing(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    changed = {name: weight for name, weight in weights.items() if not name.startswith("lm_head")}
    changed["model.extra.weight"] = torch.zeros(2)
    write_checkpoint(tmp_path, changed)
    module = network()
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    with pytest.raises(ConfigurationError, match=r"lacks lm_head.weight and has unexpectedly model.extra.weight"):
        load_checkpoint(module, tmp_path)
    assert all(torch.equal(parameter, before[name]) for name, parameter in module.named_parameters())


def test_long_lists_of_wrong_names_are_cut(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    kept = dict(list(weights.items())[:-9])
    write_checkpoint(tmp_path, kept)
    with pytest.raises(ConfigurationError, match=r"lacks (\S+, ){4}\S+ and 4 more"):
        load_checkpoint(network(), tmp_path)


@pytest.mark.parametrize(
    ("replacement", "problem"),
    [
        (torch.zeros(48, 101), r"lm_head.weight is \[48, 101\], not \[101, 48\]"),
        (torch.zeros(101, 48, dtype=torch.int8), r"lm_head.weight holds I8, no floating-point numbers"),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_change_nothing(
    tmp_path: Path, weights: dict[str, torch.Tensor], replacement: torch.Tensor, problem: str
) -> None:
    write_checkpoint(tmp_path, {**weights, "lm_head.weight": replacement}, shards=2)
    module = network()
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    with pytest.raises(ConfigurationError, match=problem):
        load_checkpoint(module, tmp_path)
    assert all(torch.equal(parameter, before[name]) for name, parameter in module.named_parameters())


def one_line(error: pytest.ExceptionInfo[ConfigurationError]) -> str:
    text = str(error.value)
    assert "\n" not in text and error.value.remedy
    return text


def test_missing_and_broken_files_give_one_line(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    module, index = network(), tmp_path / "model.safetensors.index.json"
    with pytest.raises(ConfigurationError, match="there is no folder") as error:
        load_checkpoint(module, tmp_path / "nowhere")
    one_line(error)
    with pytest.raises(ConfigurationError, match=r"holds neither model.safetensors nor") as error:
        load_checkpoint(module, tmp_path)
    one_line(error)
    for broken in ("{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}'):
        index.write_text(broken, encoding="utf-8")
        with pytest.raises(ConfigurationError, match=r"index.json is no index of a checkpoint") as error:
            load_checkpoint(module, tmp_path)
        one_line(error)
    index.write_text('{"weight_map": {"a": "../a.safetensors"}}', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"'../a.safetensors' outside its folder") as error:
        load_checkpoint(module, tmp_path)
    one_line(error)
    index.write_text('{"weight_map": {"a": "a.safetensors"}}', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"cannot read .*a.safetensors") as error:
        load_checkpoint(module, tmp_path)
    one_line(error)

    write_checkpoint(tmp_path, weights, shards=2)
    shard = tmp_path / "model-00002-of-000002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(ConfigurationError, match=r"cannot read .*model-00002-of-000002.safetensors") as error:
        load_checkpoint(module, tmp_path)
    one_line(error)


def test_index_that_contradicts_its_shards_is_refused(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    write_checkpoint(tmp_path, weights, shards=2)
    index = tmp_path / "model.safetensors.index.json"
    document = json.loads(index.read_text(encoding="utf-8"))
    del document["weight_map"]["lm_head.weight"]
    index.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"model-0000\d-of-000002.safetensors disagree about lm_head.weight"):
        load_checkpoint(network(), tmp_path)


def test_module_without_weights_takes_no_checkpoint(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    write_checkpoint(tmp_path, weights)
    module = build_weightless(lambda: FAMILY.build(small_config(), SCENARIO.resolve()))
    with pytest.raises(ConfigurationError, match="built without weights"):
        load_checkpoint(module, tmp_path)


def test_missing_safetensors_package_is_named(
    tmp_path: Path, weights: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path, weights)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingDependencyError, match=r"'safetensors'.*pip install 'modelmeter\[trace\]'"):
        load_checkpoint(network(), tmp_path)

"""Views, crop grids and image tokens of pages, by the design's formulas."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

import modelmeter
from modelmeter import Page, Scenario
from modelmeter.errors import ScenarioError, UnknownNameError
from modelmeter.families.deepseek_ocr import FAMILY, PageLayout, VisionWorkload, compute_view_layout, published_config
from modelmeter.families.deepseek_ocr.views import closest_grid, page_layout, page_layouts, sequence_length

GUNDAM = VisionWorkload()
GRIDS = GUNDAM.grids()
EVERY_GRID = [(1, 1), *GRIDS]

pixels = st.integers(1, 12_000)
sides = st.integers(1, 120).map(lambda patches: 16 * patches)


# The grid list and the choice in it


def test_grids_are_all_of_two_to_nine_crops_ordered_by_their_number() -> None:
    assert set(GRIDS) == {(w, h) for w in range(1, 10) for h in range(1, 10) if 2 <= w * h <= 9}
    assert len(GRIDS) == 22
    assert [w * h for w, h in GRIDS] == sorted(w * h for w, h in GRIDS)


def test_number_of_crops_can_be_bounded_otherwise() -> None:
    assert VisionWorkload(min_num=3, max_num=4).grids() == ((1, 3), (3, 1), (1, 4), (2, 2), (4, 1))
    assert compute_view_layout(VisionWorkload(min_num=1, max_num=1), 3000, 1000) == (1, 1, 1)
    assert compute_view_layout(VisionWorkload(min_num=1), 3000, 3000) == (10, 3, 3)
    assert compute_view_layout(VisionWorkload(min_num=1), 700, 300) == (3, 2, 1)


@pytest.mark.parametrize(
    ("width", "height", "layout"),
    [
        (640, 640, (1, 1, 1)),
        (1, 640, (1, 1, 1)),
        (641, 640, (5, 2, 2)),  # the aspect ratio of 2x2 is exactly 1, of 3x3 too: see the ties below
        (1280, 640, (3, 2, 1)),
        (640, 1280, (3, 1, 2)),
        (1240, 1754, (7, 2, 3)),  # A4 at 150 dpi
        (1754, 1240, (7, 3, 2)),
        (2480, 3508, (7, 2, 3)),  # A4 at 300 dpi
        (10_000, 1, (10, 9, 1)),
        (1, 10_000, (10, 1, 9)),
    ],
)
def test_known_pages_give_known_views(width: int, height: int, layout: tuple[int, int, int]) -> None:
    assert compute_view_layout(GUNDAM, width, height) == layout


@given(pixels, pixels)
def test_every_page_gets_a_grid_of_the_list_or_none(width: int, height: int) -> None:
    views, w, h = compute_view_layout(GUNDAM, width, height)
    if max(width, height) <= 640:
        assert (views, w, h) == (1, 1, 1)
    else:
        assert (w, h) in GRIDS and views == 1 + w * h


@given(pixels, pixels)
def test_no_grid_is_closer_to_the_page_s_ratio(width: int, height: int) -> None:
    w, h = closest_grid(GUNDAM, width, height)
    # The vendor compares in floating point; beyond its rounding no grid may be closer.
    exact = Fraction(width, height)
    chosen = abs(exact - Fraction(w, h))
    assert all(chosen <= abs(exact - Fraction(*grid)) + Fraction(1, 10**9) for grid in GRIDS)


@given(pixels, pixels, st.integers(2, 4))
def test_scaling_a_page_keeps_the_ratio_of_its_grid_unless_it_ties(width: int, height: int, factor: int) -> None:
    small, large = closest_grid(GUNDAM, width, height), closest_grid(GUNDAM, factor * width, factor * height)
    exact = Fraction(width, height)
    distances = [abs(abs(exact - Fraction(*grid)) - abs(exact - Fraction(*small))) for grid in (small, large)]
    assert max(distances) < Fraction(1, 10**9)
    assert large[0] * large[1] >= small[0] * small[1], "a larger page fills more crops, never fewer"


# Ties. 2:1 is the ratio of 2x1 and of 4x2; the later one wins above half of its area, 640**2 * 8 / 2.


@pytest.mark.parametrize(
    ("width", "height", "grid"),
    [
        (1810, 905, (2, 1)),  # 1,638,050 is not above 1,638,400
        (1812, 906, (4, 2)),  # 1,641,672 is
        (2560, 640, (4, 1)),  # 4:1 has one grid
        (905, 1810, (1, 2)),
        (906, 1812, (2, 4)),
        (1280, 1280, (2, 2)),  # 1:1 is 2x2 and 3x3: 1,638,400 is not above 640**2 * 9 / 2 = 1,843,200
        (1357, 1357, (2, 2)),  # 1,841,449
        (1358, 1358, (3, 3)),  # 1,844,164
        (900, 720, (2, 2)),  # 5:4 lies between 1:1 (2x2, 3x3) and 3:2 (3x2)
        (1250, 1000, (3, 2)),  # 1,250,000 is above 1,228,800, half of 3x2, not above half of 3x3
        (1600, 1280, (3, 3)),
    ],
)
def test_exact_ties_go_to_the_later_grid_only_if_the_page_fills_half_of_it(
    width: int, height: int, grid: tuple[int, int]
) -> None:
    assert closest_grid(GUNDAM, width, height) == grid


def test_tie_at_exactly_half_of_the_area_stays_with_the_earlier_grid() -> None:
    assert 2 * 1440 * 1280 == 640 * 640 * 3 * 3
    assert closest_grid(GUNDAM, 1440, 1280) == closest_grid(GUNDAM, 1280, 1440) == (2, 2)
    assert closest_grid(GUNDAM, 1441, 1280) == closest_grid(GUNDAM, 1281, 1440) == (3, 3)


def test_ties_are_those_of_floating_point_as_in_the_vendor_s_code() -> None:
    # 5:6 is halfway between 2:3 and 1:1, but 5/6 - 2/3 and 1 - 5/6 differ in their last bit, so that
    # 1:1 is closer; as an exact tie the page would take 2x3, which it fills more than half.
    assert Fraction(1100, 1320) - Fraction(2, 3) == 1 - Fraction(1100, 1320)
    assert 2 * 1100 * 1320 > 640 * 640 * 6
    assert closest_grid(GUNDAM, 1100, 1320) == (2, 2)


def test_order_among_grids_of_equally_many_crops_never_matters() -> None:
    # The vendor sorts a set by the number of crops, so that order is Python's own. It could only
    # matter if two such grids were equally close and no other closer: halfway between their ratios.
    for a in GRIDS:
        for b in GRIDS:
            if a < b and a[0] * a[1] == b[0] * b[1]:
                halfway = (Fraction(*a) + Fraction(*b)) / 2
                closest = min(abs(halfway - Fraction(*grid)) for grid in GRIDS)
                assert closest < abs(halfway - Fraction(*a))


@given(pixels, pixels, sides, sides)
def test_limit_of_640_and_the_tie_rule_do_not_follow_the_crop_size(
    width: int, height: int, base_size: int, image_size: int
) -> None:
    other = VisionWorkload(base_size, image_size)
    assert compute_view_layout(other, width, height) == compute_view_layout(GUNDAM, width, height)


@given(pixels, pixels)
def test_without_crop_mode_there_is_one_view(width: int, height: int) -> None:
    assert compute_view_layout(evolve(GUNDAM, crop_mode=False), width, height) == (1, 1, 1)


@pytest.mark.parametrize("size", [(0, 100), (100, 0), (-1, 5)])
def test_page_without_area_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ScenarioError, match=rf"image of {size[0]}x{size[1]} pixels has no area"):
        compute_view_layout(GUNDAM, *size)


# Tokens


def test_published_token_counts() -> None:
    assert [GUNDAM.queries(side) for side in (512, 640, 1024, 1280)] == [8, 10, 16, 20]
    alone, two = PageLayout(GUNDAM, (1, 1)), PageLayout(GUNDAM, (2, 1))
    assert (alone.image_tokens, alone.crop_tokens, alone.num_crops) == (273, 0, 0)
    assert (two.image_tokens, two.crop_tokens, two.num_crops) == (483, 210, 2)
    assert sequence_length(Scenario(), [two], 8192) == (10, 493)


@pytest.mark.parametrize(
    ("mode", "sizes", "padded", "tokens"),
    [
        ("tiny", (512, 512, False), False, 73),
        ("small", (640, 640, False), False, 111),
        ("base", (1024, 1024, False), True, 273),
        ("large", (1280, 1280, False), True, 421),
        ("gundam", (1024, 640, True), True, 273 + 21 * 30),
    ],
)
def test_five_modes(mode: str, sizes: tuple[int, int, bool], padded: bool, tokens: int) -> None:
    workload = VisionWorkload.from_mode(mode)
    assert (workload.base_size, workload.image_size, workload.crop_mode) == sizes
    assert workload.global_side == (sizes[0] if sizes[2] else sizes[1])
    assert workload.global_is_padded is padded
    [layout] = page_layouts(Scenario(mode=mode))  # A4 at 150 dpi, 2x3 crops
    assert layout.image_tokens == tokens


def test_unknown_mode_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown mode 'gundm'; did you mean 'gundam'"):
        VisionWorkload.from_mode("gundm")


def test_sizes_override_the_mode() -> None:
    workload = VisionWorkload.from_scenario(Scenario(mode="base", crop_mode=True, image_size=512))
    assert workload == VisionWorkload(base_size=1024, image_size=512, crop_mode=True)
    assert workload.global_side == 1024
    assert VisionWorkload.from_scenario(Scenario(crop_mode=False)).global_side == 640


@given(st.sampled_from(EVERY_GRID), sides, sides)
def test_tokens_are_queries_with_a_newline_a_row_and_one_separator(
    grid: tuple[int, int], base_size: int, image_size: int
) -> None:
    workload = VisionWorkload(base_size, image_size)
    layout = PageLayout(workload, grid)
    (w, h), q, q_global = grid, math.ceil(image_size // 16 / 4), math.ceil(base_size // 16 / 4)
    crops = (q * w + 1) * (q * h) if w * h > 1 else 0
    assert layout.num_crops == (w * h if w * h > 1 else 0)
    assert layout.image_tokens == layout.crop_tokens + layout.global_tokens == crops + (q_global + 1) * q_global + 1


@given(sides)
def test_queries_are_two_halvings_of_the_patches_rounded_up(side: int) -> None:
    once = (side // 16 + 1) // 2  # a 3x3 convolution with stride 2 and padding 1
    assert GUNDAM.queries(side) == (once + 1) // 2


# Pages of a scenario


def test_pages_are_given_by_pixels_or_by_grid() -> None:
    pages = (Page(1754, 1240), Page(grid=(3, 2)), Page(grid=(1, 1)), Page(300, 400))
    assert [layout.grid for layout in page_layouts(Scenario(pages=pages))] == [(3, 2), (3, 2), (1, 1), (1, 1)]


@given(st.sampled_from(EVERY_GRID))
def test_every_grid_is_some_page_s(grid: tuple[int, int]) -> None:
    w, h = grid
    scale = 640 if w * h > 1 else 100
    assert compute_view_layout(GUNDAM, w * scale, h * scale)[1:] == grid
    assert page_layout(GUNDAM, Page(grid=grid)).grid == grid


@pytest.mark.parametrize(("grid", "crops"), [((5, 2), 10), ((1, 10), 10), ((4, 3), 12)])
def test_grid_that_the_model_cannot_have_is_refused(grid: tuple[int, int], crops: int) -> None:
    with pytest.raises(ScenarioError, match=rf"grid {grid[0]}x{grid[1]} has {crops} crops; the model makes none"):
        page_layout(GUNDAM, Page(grid=grid))


def test_grid_without_cropping_is_refused() -> None:
    with pytest.raises(ScenarioError, match="grid 2x1 with cropping off"):
        page_layouts(Scenario(mode="base", pages=(Page(grid=(2, 1)),)))
    assert page_layouts(Scenario(mode="base", pages=(Page(grid=(1, 1)),)))[0].grid == (1, 1)


@pytest.mark.parametrize("keys", [{"width": 0, "height": 5}, {"width": 5}, {"grid": (0, 2)}, {}])
def test_page_without_size_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ScenarioError, match="page"):
        Scenario(pages=(Page(**keys),))


def test_scenario_without_pages_is_refused() -> None:
    with pytest.raises(ScenarioError, match="there is no page"):
        FAMILY.resolve(published_config(), Scenario(pages=()))


# Sizes


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [
        ({"base_size": 1000}, "base-size 1000 is not divisible by the patch size 16; use 992 or 1008"),
        ({"image_size": 650}, "image-size 650 is not divisible by the patch size 16; use 640 or 656"),
        ({"image_size": 10}, "image-size 10 is not divisible by the patch size 16; use 16$"),
        ({"base_size": 0}, "base_size is 0; give a whole number of pixels"),
        ({"base_size": 640.0}, "base_size is 640.0; give a whole number"),
        ({"base_size": True}, "base_size is True; give a whole number"),
        ({"image_size": [640, 480]}, r"image_size is \[640, 480\]; views are square"),
        ({"patch_size": 0}, "patch_size is 0; give a whole number of at least 1"),
        ({"downsample_ratio": -4}, "downsample_ratio is -4; give a whole number of at least 1"),
        ({"min_num": 5, "max_num": 4}, "crops from 5 to 4 are no range"),
        ({"min_num": 0}, "min_num is 0; give a whole number of at least 1"),
    ],
)
def test_sizes_that_the_model_cannot_have_are_refused(sizes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ScenarioError, match=problem):
        VisionWorkload(**sizes)


def test_size_of_a_scenario_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ScenarioError, match="image-size 650 is not divisible"):
        FAMILY.resolve(published_config(), Scenario(image_size=650))


# Sequence length

ONE_PAGE = [PageLayout(GUNDAM, (2, 1))]


def test_given_sequence_length_sets_the_text_tokens() -> None:
    assert sequence_length(Scenario(seq_len=500), ONE_PAGE, 8192) == (17, 500)
    assert sequence_length(Scenario(seq_len=500, text_tokens=17), ONE_PAGE, 8192) == (17, 500)
    assert sequence_length(Scenario(seq_len=484), ONE_PAGE, 8192) == (1, 484)
    resolved = FAMILY.resolve(published_config(), Scenario(seq_len=500, pages=(Page(grid=(2, 1)),)))
    assert (resolved.text_tokens, resolved.seq_len) == (17, 500)


def test_tokens_of_all_pages_count() -> None:
    pages = [PageLayout(GUNDAM, grid) for grid in ((2, 1), (1, 1), (3, 3))]
    assert sequence_length(Scenario(text_tokens=4), pages, 8192) == (4, 4 + 483 + 273 + 273 + 31 * 30)


@pytest.mark.parametrize(
    ("scenario", "problem"),
    [
        (Scenario(seq_len=483), "seq_len 483 is too short: the images take 483 positions; give at least 484"),
        (Scenario(seq_len=12), "seq_len 12 is too short"),
        (Scenario(seq_len=500, text_tokens=10), "seq_len 500 leaves 17 text tokens, not 10; give only one"),
        (Scenario(text_tokens=0), "text_tokens is 0; give at least 1"),
        (Scenario(text_tokens=7709, decode_steps=1), "8192 prompt positions and 1 decode steps exceed .* 8192"),
        (Scenario(seq_len=9000), "9000 prompt positions and 0 decode steps exceed the model's 8192"),
    ],
)
def test_sequence_that_the_model_cannot_have_is_refused(scenario: Scenario, problem: str) -> None:
    with pytest.raises(ScenarioError, match=problem):
        sequence_length(scenario, ONE_PAGE, 8192)


def test_prompt_and_decode_may_reach_the_model_s_last_position() -> None:
    assert sequence_length(Scenario(text_tokens=7709), ONE_PAGE, 8192) == (7709, 8192)
    assert sequence_length(Scenario(text_tokens=7700, decode_steps=9), ONE_PAGE, 8192) == (7700, 8183)


@given(st.lists(st.sampled_from(EVERY_GRID), min_size=1, max_size=3), st.integers(1, 500))
@settings(deadline=None)
def test_text_and_sequence_length_are_two_ways_to_say_the_same(grids: list[tuple[int, int]], text: int) -> None:
    layouts = [PageLayout(GUNDAM, grid) for grid in grids]
    _, length = sequence_length(Scenario(text_tokens=text), layouts, 8192)
    assert sequence_length(Scenario(seq_len=length), layouts, 8192) == (text, length)


# Without torch


def test_views_are_public_and_need_no_torch() -> None:
    assert modelmeter.VisionWorkload is VisionWorkload
    assert modelmeter.compute_view_layout is compute_view_layout
    code = (
        "import sys, modelmeter.families.deepseek_ocr as family;"
        "from modelmeter import Scenario, VisionWorkload, compute_view_layout;"
        "assert compute_view_layout(VisionWorkload(), 1240, 1754) == (7, 2, 3);"
        "family.FAMILY.describe(family.published_config(), Scenario());"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)

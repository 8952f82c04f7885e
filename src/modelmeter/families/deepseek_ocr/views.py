"""Views and image tokens of a page: how it is cropped and how many positions it takes. No torch.

The crop grid follows DeepSeek-OCR's published preprocessing: none if both sides of the image are at
most 640 pixels, else the grid of 2 to 9 crops whose aspect ratio is closest to the image's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from attrs import Attribute, field, frozen

from modelmeter.errors import ScenarioError
from modelmeter.schema.scenario import RESOLUTION_MODES, Page, Scenario

NO_CROP_LIMIT = 640
"""Pixels: an image with both sides at most this long is not cropped. Literal in the vendor's code,
whatever the crop size, like the area in the tie rule."""


def _view_side(instance: VisionWorkload, attribute: Attribute[int], value: object) -> None:
    name = attribute.name
    if isinstance(value, (tuple, list)):
        raise ScenarioError(
            f"{name} is {value!r}",
            remedy="views are square, since CLIP's position table is; give one number of pixels",
        )
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ScenarioError(f"{name} is {value!r}", remedy="give a whole number of pixels")


def _count(instance: VisionWorkload, attribute: Attribute[int], value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ScenarioError(f"{attribute.name} is {value!r}", remedy="give a whole number of at least 1")


@frozen
class VisionWorkload:
    """How pages become views. Sides in pixels; views are square.

    ``downsample_ratio`` is the reduction between the patch grid and the image tokens (two stride-2
    convolutions, so 4); ``min_num`` and ``max_num`` bound the number of crops.
    """

    base_size: int = field(default=1024, validator=_view_side)
    image_size: int = field(default=640, validator=_view_side)
    crop_mode: bool = True
    patch_size: int = field(default=16, validator=_count)
    downsample_ratio: int = field(default=4, validator=_count)
    min_num: int = field(default=2, validator=_count)
    max_num: int = field(default=9, validator=_count)

    def __attrs_post_init__(self) -> None:
        for name in ("base_size", "image_size"):
            side = getattr(self, name)
            if side % self.patch_size:
                below = side // self.patch_size * self.patch_size
                above = below + self.patch_size
                raise ScenarioError(
                    f"{name.replace('_', '-')} {side} is not divisible by the patch size {self.patch_size}",
                    remedy=f"use {below} or {above}" if below else f"use {above}",
                )
        if self.max_num < self.min_num:
            raise ScenarioError(
                f"crops from {self.min_num} to {self.max_num} are no range",
                remedy="give a max_num of at least min_num",
            )

    @classmethod
    def from_mode(cls, mode: str) -> VisionWorkload:
        """The workload of a resolution mode: tiny, small, base, large or gundam."""
        return cls.from_scenario(Scenario(mode=mode))

    @classmethod
    def from_scenario(cls, scenario: Scenario, *, patch_size: int = 16) -> VisionWorkload:
        """The workload that a scenario's mode and sizes give."""
        scenario = scenario.resolve()
        assert scenario.base_size and scenario.image_size
        return cls(scenario.base_size, scenario.image_size, bool(scenario.crop_mode), patch_size)

    @property
    def global_side(self) -> int:
        """Side of the one view that every page has: base_size with cropping, image_size without."""
        return self.base_size if self.crop_mode else self.image_size

    @property
    def global_is_padded(self) -> bool:
        """Whether the page is padded into the global view (else it is resized, losing its aspect)."""
        return self.crop_mode or self.image_size > NO_CROP_LIMIT

    def queries(self, side: int) -> int:
        """Image tokens along one side of a view: ceil((side // patch) / downsample)."""
        return -(-(side // self.patch_size) // self.downsample_ratio)

    def grids(self) -> tuple[tuple[int, int], ...]:
        """Every grid (w, h) of min_num to max_num crops, in order of w*h."""
        return _grids(self.min_num, self.max_num)


@cache
def _grids(min_num: int, max_num: int) -> tuple[tuple[int, int], ...]:
    pairs = {(w, h) for w in range(1, max_num + 1) for h in range(1, max_num + 1) if min_num <= w * h <= max_num}
    return tuple(sorted(pairs, key=lambda grid: (grid[0] * grid[1], grid)))


def closest_grid(workload: VisionWorkload, image_w: int, image_h: int) -> tuple[int, int]:
    """The grid whose w/h is closest to the image's.

    On an exact tie the later grid wins if the image's area is above half of that grid's (640**2 * w * h).
    Ties are those of floating-point numbers, as in the vendor's code: 5/6 is closer to 1 than to 2/3.
    """
    ratio = image_w / image_h
    best, best_difference = (1, 1), float("inf")
    for w, h in workload.grids():
        difference = abs(ratio - w / h)
        fills = 2 * image_w * image_h > NO_CROP_LIMIT * NO_CROP_LIMIT * w * h
        if difference < best_difference or (difference == best_difference and fills):
            best, best_difference = (w, h), difference
    return best


def compute_view_layout(workload: VisionWorkload, image_w: int, image_h: int) -> tuple[int, int, int]:
    """Views of one page: (num_views_total, w_crop, h_crop), for an image of the given pixels.

    The global view is counted; without crops the result is (1, 1, 1). Raises ScenarioError for an
    image without area.
    """
    if image_w < 1 or image_h < 1:
        raise ScenarioError(f"an image of {image_w}x{image_h} pixels has no area", remedy="give sizes of at least 1")
    if not workload.crop_mode or (image_w <= NO_CROP_LIMIT and image_h <= NO_CROP_LIMIT):
        return 1, 1, 1
    w, h = closest_grid(workload, image_w, image_h)
    return (1, 1, 1) if w * h == 1 else (1 + w * h, w, h)


@frozen
class PageLayout:
    """The views of one page and the positions they take. ``grid`` is (1, 1) where there are no crops."""

    workload: VisionWorkload
    grid: tuple[int, int]

    @property
    def num_crops(self) -> int:
        """Crops besides the global view."""
        w, h = self.grid
        return w * h if w * h > 1 else 0

    @property
    def crop_tokens(self) -> int:
        """Positions of all crops: rows across the whole grid, each with a newline at its end."""
        if not self.num_crops:
            return 0
        q = self.workload.queries(self.workload.image_size)
        w, h = self.grid
        return (q * w + 1) * (q * h)

    @property
    def global_tokens(self) -> int:
        """Positions of the global view: its rows with newlines, and the separator after it."""
        q = self.workload.queries(self.workload.global_side)
        return (q + 1) * q + 1

    @property
    def image_tokens(self) -> int:
        """Positions of the page in the sequence."""
        return self.crop_tokens + self.global_tokens


def page_layout(workload: VisionWorkload, page: Page) -> PageLayout:
    """The views of a page given by its pixels or by its crop grid.

    Raises ScenarioError for a grid that the model cannot have.
    """
    if page.grid is None:
        assert page.width is not None and page.height is not None
        _, w, h = compute_view_layout(workload, page.width, page.height)
        return PageLayout(workload, (w, h))
    w, h = page.grid
    if (w, h) != (1, 1):
        if not workload.crop_mode:
            raise ScenarioError(f"grid {w}x{h} with cropping off", remedy="use --grid 1x1, or --crop-mode")
        if (w, h) not in workload.grids():
            raise ScenarioError(
                f"grid {w}x{h} has {w * h} crops",
                remedy=f"the model makes none (1x1) or {workload.min_num} to {workload.max_num} crops",
            )
    return PageLayout(workload, (w, h))


def page_layouts(scenario: Scenario, *, patch_size: int = 16) -> list[PageLayout]:
    """The layouts of all pages of one request."""
    workload = VisionWorkload.from_scenario(scenario, patch_size=patch_size)
    return [page_layout(workload, page) for page in scenario.pages]


def sequence_length(scenario: Scenario, layouts: Sequence[PageLayout], max_positions: int) -> tuple[int, int]:
    """Text tokens and positions of a prompt: (text_tokens, seq_len).

    Raises ScenarioError where ``seq_len`` is shorter than the images need, contradicts ``text_tokens``,
    or is beyond the model's positions together with the decode steps.
    """
    image_tokens = sum(layout.image_tokens for layout in layouts)
    if scenario.seq_len is None:
        text_tokens = 10 if scenario.text_tokens is None else scenario.text_tokens
    else:
        text_tokens = scenario.seq_len - image_tokens
        if text_tokens < 1:
            raise ScenarioError(
                f"seq_len {scenario.seq_len} is too short: the images take {image_tokens} positions",
                remedy=f"give at least {image_tokens + 1}, for the images and the token that begins the text",
            )
        if scenario.text_tokens is not None and scenario.text_tokens != text_tokens:
            raise ScenarioError(
                f"seq_len {scenario.seq_len} leaves {text_tokens} text tokens, not {scenario.text_tokens}",
                remedy="give only one of --seq-len and --text-tokens",
            )
    if text_tokens < 1:
        raise ScenarioError("text_tokens is 0", remedy="give at least 1: the prompt begins with the BOS token")
    positions = image_tokens + text_tokens
    if positions + scenario.decode_steps > max_positions:
        raise ScenarioError(
            f"{positions} prompt positions and {scenario.decode_steps} decode steps exceed the model's {max_positions}",
            remedy="use fewer pages, crops, text tokens or decode steps",
        )
    return text_tokens, positions


__all__ = [
    "NO_CROP_LIMIT",
    "RESOLUTION_MODES",
    "PageLayout",
    "VisionWorkload",
    "closest_grid",
    "compute_view_layout",
    "page_layout",
    "page_layouts",
    "sequence_length",
]

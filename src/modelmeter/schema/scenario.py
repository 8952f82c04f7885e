"""The scenario: one set of keys for every command.

It says what is run (pages, mode, text, batch, dtypes), how (attention, head, routing, execution) and
on what (device, how many, how split). Keys that are None are derived; ``resolve`` fills them in.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve, field, frozen

from modelmeter.errors import ScenarioError, UnknownNameError
from modelmeter.routing import parse_routing
from modelmeter.units import DTYPE_BYTES, FLOAT_DTYPES

RESOLUTION_MODES: dict[str, tuple[int, int, bool]] = {
    "tiny": (512, 512, False),
    "small": (640, 640, False),
    "base": (1024, 1024, False),
    "large": (1280, 1280, False),
    "gundam": (1024, 640, True),
}
"""Mode to (base_size, image_size, crop_mode), sizes in pixels; from the vendor's published usage."""

A4_AT_150_DPI = (1240, 1754)
"""The default page in pixels: 210 x 297 mm at 150 dots per inch."""

ATTENTION_KINDS = ("eager", "sdpa")


@frozen
class Page:
    """One page image: its size in pixels, or the crop grid it is known to give (width first)."""

    width: int | None = None
    height: int | None = None
    grid: tuple[int, int] | None = None
    name: str | None = None

    def __str__(self) -> str:
        if self.grid is not None:
            return f"grid {self.grid[0]}x{self.grid[1]}"
        return f"{self.width}x{self.height}"


def _one_of(kind: str, valid: tuple[str, ...]) -> Any:
    def check(_: Any, __: Any, value: str | None) -> None:
        if value is not None and value not in valid:
            raise UnknownNameError(kind, value, valid)

    return check


def _at_least(minimum: int) -> Any:
    def check(_: Any, attribute: Any, value: int | None) -> None:
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < minimum):
            option = attribute.name.replace("_", "-")
            raise ScenarioError(f"--{option} is {value!r}", remedy=f"give a whole number of at least {minimum}")

    return check


@frozen
class Scenario:
    """A workload. Sizes in pixels, lengths in tokens; see the design's table for each key."""

    pages: tuple[Page, ...] = (Page(*A4_AT_150_DPI),)
    mode: str = field(default="gundam", validator=_one_of("mode", tuple(RESOLUTION_MODES)))
    base_size: int | None = field(default=None, validator=_at_least(1))
    image_size: int | None = field(default=None, validator=_at_least(1))
    crop_mode: bool | None = None
    text_tokens: int | None = field(default=None, validator=_at_least(0))
    seq_len: int | None = field(default=None, validator=_at_least(1))
    decode_steps: int = field(default=0, validator=_at_least(0))
    batch: int = field(default=1, validator=_at_least(1))
    dtype: str = field(default="bfloat16", validator=_one_of("dtype", FLOAT_DTYPES))
    activation_dtype: str | None = field(default=None, validator=_one_of("dtype", FLOAT_DTYPES))
    kv_dtype: str | None = field(default=None, validator=_one_of("dtype", FLOAT_DTYPES))
    attention: str = field(default="sdpa", validator=_one_of("attention", ATTENTION_KINDS))
    vision_attention: str | None = field(default=None, validator=_one_of("attention", ATTENTION_KINDS))
    decoder_attention: str | None = field(default=None, validator=_one_of("attention", ATTENTION_KINDS))
    head: str = field(default="all", validator=_one_of("head", ("all", "last")))
    routing: str = "balanced"
    execution: str = field(default="eager", validator=_one_of("execution", ("eager", "graph")))
    device: str = "h100-sxm"
    devices: int = field(default=1, validator=_at_least(1))
    tensor_parallel: int = field(default=1, validator=_at_least(1))
    expert_parallel: int = field(default=1, validator=_at_least(1))

    def __attrs_post_init__(self) -> None:
        parse_routing(self.routing)
        for page in self.pages:
            sizes = page.grid if page.grid is not None else (page.width, page.height)
            if any(not isinstance(size, int) or size < 1 for size in sizes):
                raise ScenarioError(f"page {page} has no area", remedy="give sizes of at least 1, width first")
        for split in ("tensor_parallel", "expert_parallel"):
            if self.devices % getattr(self, split) and getattr(self, split) > 1:
                raise ScenarioError(
                    f"--{split.replace('_', '-')} {getattr(self, split)} does not divide --devices {self.devices}",
                    remedy="split over a number that divides the devices",
                )

    def resolve(self) -> Scenario:
        """The same scenario with mode, dtypes and attention kinds filled in where they are derived."""
        base_size, image_size, crop_mode = RESOLUTION_MODES[self.mode]
        return evolve(
            self,
            base_size=self.base_size or base_size,
            image_size=self.image_size or image_size,
            crop_mode=crop_mode if self.crop_mode is None else self.crop_mode,
            activation_dtype=self.activation_dtype or self.dtype,
            kv_dtype=self.kv_dtype or self.activation_dtype or self.dtype,
            vision_attention=self.vision_attention or self.attention,
            decoder_attention=self.decoder_attention or self.attention,
        )

    @property
    def num_pages(self) -> int:
        """Pages of one request."""
        return len(self.pages)


def dtype_bytes(name: str) -> int:
    """Bytes of one element of a dtype given without ``torch.``."""
    if name not in DTYPE_BYTES:
        raise UnknownNameError("dtype", name, DTYPE_BYTES)
    return DTYPE_BYTES[name]


def parse_size(text: str, option: str) -> tuple[int, int]:
    """``3x2`` becomes (3, 2): width first."""
    width, separator, height = text.lower().replace("×", "x").partition("x")
    if not separator or not (width.strip().isdecimal() and height.strip().isdecimal()):
        raise ScenarioError(f"{option} {text!r} is no size", remedy="write WIDTHxHEIGHT, for example 3x2")
    return int(width), int(height)

"""The scenario: one set of keys for every command.

It says what is run (pages, mode, text, batch, dtypes), how (attention, head, routing, execution) and
on what (device, how many, how split). Keys that are None are derived; ``resolve`` fills them in.
"""

from __future__ import annotations

import re
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

PLACEMENT_KEYS = ("execution", "device", "devices", "tensor_parallel", "expert_parallel")
"""Keys that a trace does not look at: its document keeps them for the commands that plan with it."""

HUGGING_FACE_KEYS = ("batch", "decode_steps", "dtype", "attention", "routing", *PLACEMENT_KEYS)
"""Keys that mean something for a Hugging Face configuration, which takes token ids."""

FUNCTION_KEYS = ("routing", *PLACEMENT_KEYS)
"""Keys that mean something for a function, which decides everything else by itself."""


def _size(_: Any, attribute: Any, value: Any) -> None:
    if value is not None and (type(value) is not int or value < 1):
        raise ScenarioError(
            f"a page's {attribute.name} is {value!r}", remedy="give a whole number of at least 1, in pixels"
        )


def _grid(_: Any, __: Any, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, tuple) or len(value) != 2 or any(type(side) is not int for side in value):
        raise ScenarioError(f"a page's grid is {value!r}", remedy="give two whole numbers, width first")
    if min(value) < 1:
        raise ScenarioError(
            f"page grid {value[0]}x{value[1]} has no area", remedy="give sizes of at least 1, width first"
        )


@frozen
class Page:
    """One page image: its size in pixels, or the crop grid it is known to give (width first)."""

    width: int | None = field(default=None, validator=_size)
    height: int | None = field(default=None, validator=_size)
    grid: tuple[int, int] | None = field(default=None, validator=_grid)
    name: str | None = None

    def __attrs_post_init__(self) -> None:
        sizes = (self.width is not None) + (self.height is not None)
        if sizes == 1 or (sizes == 0) == (self.grid is None):
            raise ScenarioError("a page needs a width and a height, or a grid", remedy="give one of the two")

    def __str__(self) -> str:
        if self.grid is not None:
            return f"grid {self.grid[0]}x{self.grid[1]}"
        return f"{self.width}x{self.height}"


def _one_of(kind: str, valid: tuple[str, ...], *, optional: bool = False) -> Any:
    def check(_: Any, __: Any, value: Any) -> None:
        if not (optional and value is None) and value not in valid:
            raise UnknownNameError(kind, str(value), valid)

    return check


def _at_least(minimum: int, *, optional: bool = False) -> Any:
    def check(_: Any, attribute: Any, value: Any) -> None:
        if not (optional and value is None) and (type(value) is not int or value < minimum):
            raise ScenarioError(
                f"{_option(attribute)} is {value!r}", remedy=f"give a whole number of at least {minimum}"
            )

    return check


def _text(_: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise ScenarioError(f"{_option(attribute)} is {value!r}", remedy="give a name")


def _flag(_: Any, attribute: Any, value: Any) -> None:
    if value is not None and not isinstance(value, bool):
        raise ScenarioError(f"{_option(attribute)} is {value!r}", remedy="give true or false")


def _pages(_: Any, __: Any, value: Any) -> None:
    if not isinstance(value, tuple) or not all(isinstance(page, Page) for page in value):
        raise ScenarioError(f"pages is {value!r:.80}", remedy="give a tuple of Page objects")


def _option(attribute: Any) -> str:
    return f"--{attribute.name.replace('_', '-')}"


def _dtype(*, optional: bool = False) -> Any:
    return _one_of("dtype", FLOAT_DTYPES, optional=optional)


@frozen
class Scenario:
    """A workload. Sizes in pixels, lengths in tokens; see the design's table for each key."""

    pages: tuple[Page, ...] = field(default=(Page(*A4_AT_150_DPI),), validator=_pages)
    mode: str = field(default="gundam", validator=_one_of("mode", tuple(RESOLUTION_MODES)))
    base_size: int | None = field(default=None, validator=_at_least(1, optional=True))
    image_size: int | None = field(default=None, validator=_at_least(1, optional=True))
    crop_mode: bool | None = field(default=None, validator=_flag)
    text_tokens: int | None = field(default=None, validator=_at_least(0, optional=True))
    seq_len: int | None = field(default=None, validator=_at_least(1, optional=True))
    decode_steps: int = field(default=0, validator=_at_least(0))
    batch: int = field(default=1, validator=_at_least(1))
    dtype: str = field(default="bfloat16", validator=_dtype())
    activation_dtype: str | None = field(default=None, validator=_dtype(optional=True))
    kv_dtype: str | None = field(default=None, validator=_dtype(optional=True))
    attention: str = field(default="sdpa", validator=_one_of("attention", ATTENTION_KINDS))
    vision_attention: str | None = field(default=None, validator=_one_of("attention", ATTENTION_KINDS, optional=True))
    decoder_attention: str | None = field(default=None, validator=_one_of("attention", ATTENTION_KINDS, optional=True))
    head: str = field(default="all", validator=_one_of("head", ("all", "last")))
    routing: str = field(default="balanced", validator=_text)
    execution: str = field(default="eager", validator=_one_of("execution", ("eager", "graph")))
    device: str = field(default="h100-sxm", validator=_text)
    tensor_parallel: int = field(default=1, validator=_at_least(1))
    expert_parallel: int = field(default=1, validator=_at_least(1))
    devices: int = field(validator=_at_least(1))

    @devices.default
    def _as_many_as_share(self) -> int:
        degrees = (self.tensor_parallel, self.expert_parallel)
        return max((degree for degree in degrees if type(degree) is int), default=1)

    def __attrs_post_init__(self) -> None:
        parse_routing(self.routing)
        for split in ("tensor_parallel", "expert_parallel"):
            if self.devices % getattr(self, split):
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

    def check_traceable(self) -> None:
        """Refuse what a forward cannot run in, though a plan may ask for it.

        Raises ScenarioError for activations in another dtype than the weights, and for 8-bit weights:
        torch multiplies neither without operators that the models do not call.
        """
        if self.activation_dtype not in (None, self.dtype):
            raise ScenarioError(
                f"--activation-dtype {self.activation_dtype} with --dtype {self.dtype}: "
                "a trace runs weights and activations in one dtype",
                remedy="give --dtype alone",
            )
        if DTYPE_BYTES[self.dtype] < 2:
            raise ScenarioError(
                f"torch cannot run a model in --dtype {self.dtype}", remedy="trace it in bfloat16 or float16"
            )

    @property
    def replicas(self) -> int:
        """Copies of the model that run beside each other, each on the devices that share its layers."""
        return self.devices // max(self.tensor_parallel, self.expert_parallel)

    @property
    def num_pages(self) -> int:
        """Pages of one request."""
        return len(self.pages)


def dtype_bytes(name: str) -> int:
    """Bytes of one element of a dtype given without ``torch.``."""
    if name not in DTYPE_BYTES:
        raise UnknownNameError("dtype", name, DTYPE_BYTES)
    return DTYPE_BYTES[name]


# Nine digits are a billion: more pixels, crops or tokens than anything can have.
_SIZE = re.compile(r"([0-9]{1,9})\s*[xX×]\s*([0-9]{1,9})")


def is_size(text: str) -> bool:
    """Whether a text is a size as ``parse_size`` reads it."""
    return _SIZE.fullmatch(text.strip()) is not None


def parse_size(text: str, option: str, example: str = "3x2") -> tuple[int, int]:
    """``3x2`` becomes (3, 2): width first."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ScenarioError(f"{option} {text!r:.60} is no size", remedy=f"write two numbers with an x, as in {example}")
    return int(found[1]), int(found[2])

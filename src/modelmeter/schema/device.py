"""A device: its peak rates, memory and power, each figure with where it was read.

Dense and sparse peaks are kept apart. A peak is for matrix products with one multiply-add counted as 2
operations, accumulating in float32 (int32 for int8), since that is what PyTorch asks for. Sparse means
2:4 structured sparsity, which no dense model gets.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from attrs import field, fields, frozen

from modelmeter.errors import ScenarioError

KINDS = ("gpu", "cpu", "npu", "tpu")

DTYPES = ("float64", "float32", "tf32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "int8")
"""Names that a peak may have: those of torch without ``torch.``, and ``tf32``.

``float32`` is the full-precision rate, which PyTorch's matrix products have unless TF32 is allowed.
"""

GIBIBYTE = 2**30

_ID = re.compile(r"[a-z0-9][a-z0-9+._-]{0,62}")


def _text(_: Any, attribute: Any, value: Any) -> None:
    # Names reach terminals: one that holds control characters could steer them.
    if value is not None and (not value.strip() or not value.isprintable()):
        raise ValueError(f"{attribute.name} is {value!r:.40}, expected one line of text")


def _identifier(_: Any, __: Any, value: str) -> None:
    if not _ID.fullmatch(value):
        raise ValueError(f"id is {value!r:.40}, expected small letters, digits, '-', '.', '_' or '+', as in 'h100-sxm'")


def _kind(_: Any, __: Any, value: str) -> None:
    if value not in KINDS:
        raise ValueError(f"kind is {value!r:.40}, expected one of {', '.join(KINDS)}")


def _above_zero(_: Any, attribute: Any, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{attribute.name} is {value}, expected a finite number above zero")


def _dtypes(_: Any, attribute: Any, value: dict[str, Figure]) -> None:
    unknown = [name for name in value if name not in DTYPES]
    if unknown:
        raise ValueError(f"{attribute.name} has the dtype {unknown[0]!r:.40}, expected one of {', '.join(DTYPES)}")


def _not_empty(_: Any, attribute: Any, value: dict[str, Figure]) -> None:
    if not value:
        raise ValueError(f"{attribute.name} is empty, expected a figure for at least one dtype")


def _whole(_: Any, attribute: Any, value: Figure) -> None:
    if value.value != int(value.value):
        raise ValueError(f"{attribute.name} is {value.value}, expected a whole number of bytes")


@frozen
class Source:
    """Where figures come from. ``url`` is a public page; an assumption or a derivation needs none."""

    title: str = field(validator=_text)
    url: str | None = field(default=None, validator=_text)


@frozen
class Figure:
    """A number, the key of its source, and whether it was read there (to the digits that the source shows)."""

    value: float = field(validator=_above_zero)
    source: str = field(validator=_text)
    verified: bool = False
    note: str | None = field(default=None, validator=_text)


@frozen(kw_only=True)
class Figures:
    """All figures of a device; the unit is in the name.

    ``vector_flops_per_s`` is float32 outside the matrix units. ``memory_bytes`` is the capacity as sold, where a
    vendor's GB of device memory is 2**30 bytes. ``interconnect_bytes_per_s`` is in one direction.
    ``link_latency_s`` is what one step of a ring takes besides its bytes. ``launch_overhead_s`` is the host's time to
    issue one operation of eager PyTorch.
    """

    dense_flops_per_s: dict[str, Figure] = field(validator=[_not_empty, _dtypes])
    sparse_flops_per_s: dict[str, Figure] = field(factory=dict, validator=_dtypes)
    vector_flops_per_s: Figure
    memory_bytes: Figure = field(validator=_whole)
    memory_bytes_per_s: Figure
    power_w: Figure
    launch_overhead_s: Figure
    interconnect_bytes_per_s: Figure | None = None
    link_latency_s: Figure | None = None
    hourly_price_usd: Figure | None = None

    @sparse_flops_per_s.validator
    def _above_dense(self, _: Any, value: dict[str, Figure]) -> None:
        for dtype, figure in value.items():
            dense = self.dense_flops_per_s.get(dtype)
            if dense is None:
                raise ValueError(f"sparse_flops_per_s has {dtype}, which dense_flops_per_s lacks")
            if figure.value <= dense.value:
                raise ValueError(
                    f"{dtype} has {figure.value:g} with sparsity and {dense.value:g} without, expected more with it: "
                    "vendors print the sparse figure large, the dense one is half of it"
                )

    def named(self) -> Iterator[tuple[str, Figure]]:
        """Every figure by name, peaks as ``dense_flops_per_s.bfloat16``, in the order of the fields."""
        for attribute in fields(Figures):
            value = getattr(self, attribute.name)
            if isinstance(value, dict):
                for dtype in DTYPES:
                    if dtype in value:
                        yield f"{attribute.name}.{dtype}", value[dtype]
            elif value is not None:
                yield attribute.name, value


OPTIONAL_FIGURES = tuple(attribute.name for attribute in fields(Figures) if attribute.default is None)
"""Figures of one number that a device need not have."""


@frozen
class Device:
    """One accelerator or one CPU socket. Properties give plain numbers, ``figures`` their sources as well."""

    id: str = field(validator=_identifier)
    name: str = field(validator=_text)
    vendor: str = field(validator=_text)
    kind: str = field(validator=_kind)
    architecture: str = field(validator=_text)
    figures: Figures
    sources: dict[str, Source]
    interconnect: str | None = field(default=None, validator=_text)

    def __attrs_post_init__(self) -> None:
        for key in self.sources:
            if not key.isprintable():
                raise ValueError(f"sources has the key {key!r:.40}, expected one line of text")
        for name, figure in self.figures.named():
            if figure.source not in self.sources:
                known = ", ".join(self.sources) or "none"
                raise ValueError(f"{name} names the source {figure.source!r:.40}, but sources has {known:.200}")

    def peak_flops_per_s(self, dtype: str) -> float:
        """Dense matrix peak in operations per second; ``torch.bfloat16`` is taken for ``bfloat16``.

        ``float32`` is the full-precision figure: PyTorch's matrix products do not use TF32 unless told to.
        Raises ScenarioError for a dtype that the device has no figure for.
        """
        name = dtype.removeprefix("torch.")
        figure = self.figures.dense_flops_per_s.get(name)
        if figure is None:
            known = ", ".join(known for known in DTYPES if known in self.figures.dense_flops_per_s)
            raise ScenarioError(
                f"device {self.id} ({self.name}) has no peak for {name:.40}; it has {known}",
                remedy="choose one of these dtypes or another device, or give the figure in a file with --device-file",
            )
        return figure.value

    @property
    def dense_flops_per_s(self) -> dict[str, float]:
        """Dense matrix peaks by dtype, in operations per second."""
        return {dtype: figure.value for dtype, figure in self.figures.dense_flops_per_s.items()}

    @property
    def sparse_flops_per_s(self) -> dict[str, float]:
        """Matrix peaks with 2:4 structured sparsity by dtype, in operations per second."""
        return {dtype: figure.value for dtype, figure in self.figures.sparse_flops_per_s.items()}

    @property
    def vector_flops_per_s(self) -> float:
        """Float32 operations per second outside the matrix units."""
        return self.figures.vector_flops_per_s.value

    @property
    def memory_bytes(self) -> int:
        """Capacity as sold, in bytes; drivers and error correction keep one or two per cent of it."""
        return int(self.figures.memory_bytes.value)

    @property
    def memory_bytes_per_s(self) -> float:
        """Peak bandwidth of the device's own memory."""
        return self.figures.memory_bytes_per_s.value

    @property
    def interconnect_bytes_per_s(self) -> float | None:
        """Bytes per second to other devices, in one direction, all links together."""
        figure = self.figures.interconnect_bytes_per_s
        return None if figure is None else figure.value

    @property
    def link_latency_s(self) -> float | None:
        """Seconds that one step of a collective takes besides its bytes, where that is known."""
        figure = self.figures.link_latency_s
        return None if figure is None else figure.value

    @property
    def power_w(self) -> float:
        """The vendor's power limit in watts."""
        return self.figures.power_w.value

    @property
    def launch_overhead_s(self) -> float:
        """The host's time to issue one operation of eager PyTorch, in seconds."""
        return self.figures.launch_overhead_s.value

    @property
    def hourly_price_usd(self) -> float | None:
        """Rent in US dollars an hour, where one is known."""
        figure = self.figures.hourly_price_usd
        return None if figure is None else figure.value

    def to_data(self) -> dict[str, Any]:
        """Plain data, as in a device file: what a report embeds."""
        from modelmeter.schema.codec import converter

        data: dict[str, Any] = converter().unstructure(self)
        return data

    @classmethod
    def from_data(cls, data: Any, where: str) -> Device:
        """A device from plain data, strictly. Raises DocumentError that begins with ``where`` and names the field."""
        from modelmeter.schema.codec import structure_document

        return structure_document(data, cls, where)

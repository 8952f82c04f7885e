"""How numbers are written for people."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modelmeter.schema.scenario import dtype_bytes
from modelmeter.units import (
    DTYPE_BYTES,
    FLOAT_DTYPES,
    format_bytes,
    format_count,
    format_flops,
    format_quantity,
    format_share,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1.00 KB"),
        (1234, "1.23 KB"),
        (9_994, "9.99 KB"),
        (9_995, "10.0 KB"),
        (99_949, "99.9 KB"),
        (99_950, "100 KB"),
        (999_499, "999 KB"),
        (999_500, "1.00 MB"),
        (6_672_547_120, "6.67 GB"),
        (10**24, "1.00 YB"),
        (10**30, "1000000 YB"),
        (-1500, "-1.50 KB"),
        (0.25, "0.25 B"),
        (2.5, "2.50 B"),
    ],
)
def test_bytes(value: float, text: str) -> None:
    assert format_bytes(value) == text


def test_other_units() -> None:
    assert format_flops(2_502_300_000_000) == "2.50 TFLOP"
    assert format_count(3_336_106_240) == "3.34 G"
    assert format_count(12) == "12"
    assert format_quantity(1500, "") == "1.50 K"


def test_share() -> None:
    assert format_share(1, 3) == "33.3%"
    assert format_share(1, 0) == "-"
    assert format_share(10**30, 10**30) == "100.0%"


@given(st.integers(min_value=0, max_value=10**26))
def test_three_digits_that_are_right(value: int) -> None:
    number, unit = format_bytes(value).split(" ")
    scale = 1000 ** ("B", "KB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB").index(unit)
    assert math.isclose(float(number) * scale, value, rel_tol=0.0051)
    assert len(number.replace(".", "")) <= 3


@pytest.mark.parametrize("name", DTYPE_BYTES)
def test_sizes_are_torchs(name: str) -> None:
    dtype = getattr(torch, name)
    assert torch.empty(0, dtype=dtype).element_size() == DTYPE_BYTES[name] == dtype_bytes(name)
    assert (name in FLOAT_DTYPES) == dtype.is_floating_point

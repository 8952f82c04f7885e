"""Sizes of data types, and how numbers are written for people.

Decimal prefixes throughout: 1 GB is 10**9 bytes, 1 TFLOP is 10**12 floating-point operations.
"""

from __future__ import annotations

from fractions import Fraction

DTYPE_BYTES: dict[str, int] = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}
"""Bytes of one element, by the name that torch gives the type (without ``torch.``)."""

FLOAT_DTYPES = ("float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "float32", "float64")

_PREFIXES = ("", "K", "M", "G", "T", "P", "E", "Z", "Y")


def format_quantity(value: int | float, unit: str) -> str:
    """``1234567, "B"`` becomes ``1.23 MB``: three significant digits, decimal prefixes.

    Exact integers of any size are scaled without passing through a float first.
    """
    scale = 0
    scaled = abs(Fraction(value))
    while scaled >= Fraction("999.5") and scale < len(_PREFIXES) - 1:
        scaled /= 1000
        scale += 1
    sign = "-" if value < 0 else ""
    if scale == 0 and scaled == int(scaled):
        return f"{sign}{int(scaled)} {unit}".rstrip()
    digits = 2 if scaled < Fraction("9.995") else 1 if scaled < Fraction("99.95") else 0
    return f"{sign}{float(scaled):.{digits}f} {_PREFIXES[scale]}{unit}".rstrip()


def format_bytes(value: int | float) -> str:
    """Bytes with a decimal prefix, for example ``6.67 GB``."""
    return format_quantity(value, "B")


def format_flops(value: int | float) -> str:
    """Floating-point operations with a decimal prefix, for example ``2.50 TFLOP``."""
    return format_quantity(value, "FLOP")


def format_count(value: int | float) -> str:
    """A plain count with a decimal prefix, for example ``3.34 G``."""
    return format_quantity(value, "")


def format_share(part: int | float, whole: int | float) -> str:
    """A share in per cent; ``-`` where the whole is zero."""
    return f"{100 * part / whole:.1f}%" if whole else "-"


def format_seconds(seconds: float) -> str:
    """Seconds with three significant digits, for example ``8.73 ms``."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= scale * 0.9995:
            scaled = seconds / scale
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f} {unit}"
    return f"{seconds * 1e9:.0f} ns" if seconds else "0 s"

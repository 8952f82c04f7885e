"""Whether a device's figures can be right: above all, whether a sparse peak stands where a dense one belongs.

Data sheets mix peaks with and without structured sparsity, in the same type size. The two differ by a
factor of two, and so does the ratio of a wrong figure to the other figures of its device: to the peaks
of the other dtypes, which the hardware fixes as powers of two, and to the vector peak, which differs
between architectures but hardly within one.

Unusual hardware exists, so these are findings to look at, not reasons to refuse a file.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelmeter.schema.device import Device

_SPARSE_FACTOR = 2.0
"""2:4 sparsity skips half of the products."""

_LADDER = {"tf32": 0.5, "float8_e4m3fn": 2.0, "float8_e5m2": 2.0, "int8": 2.0}
"""A GPU's dense peak over its 16-bit one, both accumulating in 32 bits."""

_INT8_FACTORS = {"GeForce": 4.0, "CDNA 2": 1.0}
"""By a word in the name or architecture. GeForce halves only what accumulates in float32; CDNA 2 has no faster int8."""

_MATRIX_OVER_VECTOR = {
    "GV100": 8.0,
    "TU104": 8.0,
    "GA100": 16.0,
    "GA102": 4.0,
    "AD102": 4.0,
    "AD104": 4.0,
    "GH100": 14.8,
    "GB100": 28.0,
    "GB202": 4.0,
    "CDNA 2": 8.0,
    "CDNA 3": 8.0,
}
"""A GPU's dense 16-bit peak over its float32 vector peak, by a word in the architecture.

Per multiprocessor and clock it is a power of two (Hopper: 16, with a lower clock for its matrix units).
"""

_GEFORCE_CHIPS = ("GA102", "AD102", "AD104", "GB202")
"""Chips whose GeForce cards run 16-bit products that accumulate in float32 at half rate."""

_BANDS = {
    "vector_flops_per_s": (1e11, 1e15),
    "memory_bytes": (1e9, 1e13),
    "memory_bytes_per_s": (1e10, 1e14),
    "power_w": (5.0, 5e3),
    "launch_overhead_s": (2e-7, 2e-4),
    "interconnect_bytes_per_s": (1e9, 1e13),
    "link_latency_s": (1e-8, 1e-4),
    "hourly_price_usd": (1e-3, 1e3),
}
"""Outside of these a prefix is missing: 80 for 80 GB, or 8 for 8 microseconds."""

_GPU_FLOPS_PER_BYTE = (40.0, 700.0)
"""A GPU's dense 16-bit operations per byte of memory traffic; those of the catalogue have 76 to 419."""


def check_device(device: Device) -> list[str]:
    """What is implausible about a device's figures, one sentence each; empty if nothing is."""
    problems = [*_sparse(device), *_magnitudes(device)]
    if device.kind == "gpu":
        problems += [*_siblings(device), *_float32(device), *_balance(device)]
    return problems


def _sparse(device: Device) -> Iterator[str]:
    dense = device.dense_flops_per_s
    for dtype, sparse in device.sparse_flops_per_s.items():
        yield from _ratio(f"sparse over dense {dtype}", sparse / dense[dtype], _SPARSE_FACTOR, 0.03)


def _siblings(device: Device) -> Iterator[str]:
    dense = device.dense_flops_per_s
    half = _half(device)
    if half is None:
        return
    name, peak = half
    if name == "bfloat16" and "float16" in dense:
        yield from _ratio("dense float16 over bfloat16", dense["float16"] / peak, 1.0, 0.03)
    for dtype, factor in _LADDER.items():
        if dtype not in dense:
            continue
        if dtype == "int8":
            text = f"{device.name} {device.architecture}"
            factor = next((own for word, own in _INT8_FACTORS.items() if word in text), factor)
        yield from _ratio(f"dense {dtype} over {name}", dense[dtype] / peak, factor, 0.05)


def _float32(device: Device) -> Iterator[str]:
    peak = device.dense_flops_per_s.get("float32")
    if peak is not None and not 0.9 <= peak / device.vector_flops_per_s <= 2.1:
        yield (
            f"dense float32 is {peak / device.vector_flops_per_s:.2f} times the vector peak, expected 1 or 2: "
            "it may be the tf32 figure"
        )


def _balance(device: Device) -> Iterator[str]:
    half = _half(device)
    if half is None:
        return
    name, peak = half
    expected = _matrix_over_vector(device)
    if expected is not None:
        yield from _ratio(f"dense {name} over the vector peak", peak / device.vector_flops_per_s, expected, 0.2)
    low, high = _GPU_FLOPS_PER_BYTE
    balance = peak / device.memory_bytes_per_s
    if not low <= balance <= high:
        yield f"{name} has {balance:.3g} operations per byte of memory traffic, GPUs have {low:g} to {high:g}"


def _matrix_over_vector(device: Device) -> float | None:
    for word, ratio in _MATRIX_OVER_VECTOR.items():
        if word in device.architecture:
            halved = "GeForce" in device.name and word in _GEFORCE_CHIPS
            return ratio / 2 if halved else ratio
    return None


def _half(device: Device) -> tuple[str, float] | None:
    dense = device.dense_flops_per_s
    return next(((dtype, dense[dtype]) for dtype in ("bfloat16", "float16") if dtype in dense), None)


def _magnitudes(device: Device) -> Iterator[str]:
    for name, figure in device.figures.named():
        low, high = _BANDS.get(name, (1e10, 1e17))
        if not low <= figure.value <= high:
            yield f"{name} is {figure.value:g}, expected {low:g} to {high:g}: look at its unit"


def _ratio(what: str, found: float, expected: float, tolerance: float) -> Iterator[str]:
    if abs(found / expected - 1) > tolerance:
        yield f"{what} is {found:.3g}, expected {expected:g}: one of them may be a peak with sparsity"

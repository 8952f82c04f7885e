"""The catalogue's figures: each has a source, and no sparse peak stands where a dense one belongs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelmeter.cost import device_data
from modelmeter.cost.catalogue import load_catalogue
from modelmeter.cost.device_check import check_device
from modelmeter.schema.device import GIBIBYTE, Device

CATALOGUE = load_catalogue()
GPUS = [device for device in CATALOGUE.values() if device.kind == "gpu"]
SPARSE = [(device.id, dtype) for device in GPUS for dtype in device.sparse_flops_per_s]


def changed(device: Device, dense: dict[str, float], *, keep_sparse: bool = False) -> Device:
    """The device with other dense peaks."""
    data = device.to_data()
    for dtype, value in dense.items():
        data["figures"]["dense_flops_per_s"][dtype]["value"] = value
    if not keep_sparse:
        data["figures"]["sparse_flops_per_s"] = {}
    return Device.from_data(data, "changed")


def with_figure(device: Device, name: str, value: float) -> Device:
    data: dict[str, Any] = device.to_data()
    data["figures"][name]["value"] = value
    return Device.from_data(data, "changed")


def test_what_the_catalogue_holds() -> None:
    kinds = [device.kind for device in CATALOGUE.values()]
    assert kinds.count("cpu") >= 2
    assert len(kinds) - kinds.count("cpu") >= 18
    assert {"h100-sxm", "h200", "a100-40g", "rtx-5090"} <= set(CATALOGUE)


def test_a_file_is_named_by_its_id() -> None:
    files = Path(device_data.__file__).parent.glob("*.json")
    assert {path.stem: json.loads(path.read_text(encoding="utf-8"))["id"] for path in files} == {
        device_id: device_id for device_id in CATALOGUE
    }


@pytest.mark.parametrize("device", CATALOGUE.values(), ids=list(CATALOGUE))
def test_figures_and_sources(device: Device) -> None:
    named = dict(device.figures.named())
    assert {figure.source for figure in named.values()} == set(device.sources)
    for name, figure in named.items():
        url = device.sources[figure.source].url
        if url is None:
            assert figure.note and not figure.verified, f"{name}: an assumption is explained, and never verified"
        else:
            assert url.startswith(("https://", "http://"))
    price = device.figures.hourly_price_usd
    assert price is None or "2026" in (price.note or ""), "a price has a date"
    if device.figures.interconnect_bytes_per_s is not None:
        assert device.interconnect
    assert device.memory_bytes % GIBIBYTE == 0


@pytest.mark.parametrize("device", CATALOGUE.values(), ids=list(CATALOGUE))
def test_the_catalogue_is_plausible(device: Device) -> None:
    assert check_device(device) == []


@pytest.mark.parametrize(("device_id", "dtype"), SPARSE)
def test_a_sparse_figure_in_a_dense_field_is_caught(device_id: str, dtype: str) -> None:
    device = CATALOGUE[device_id]
    problems = check_device(changed(device, {dtype: device.sparse_flops_per_s[dtype]}))
    assert any("with sparsity" in problem for problem in problems), problems


@pytest.mark.parametrize("device_id", sorted({device_id for device_id, _ in SPARSE}))
def test_a_whole_sparse_column_is_caught(device_id: str) -> None:
    """Then the dtypes agree among themselves; the vector peak tells."""
    device = CATALOGUE[device_id]
    problems = check_device(changed(device, device.sparse_flops_per_s))
    assert any("over the vector peak" in problem for problem in problems), problems


@pytest.mark.parametrize("device", GPUS, ids=[device.id for device in GPUS])
def test_any_matrix_peak_off_by_two_is_caught(device: Device) -> None:
    for dtype in {"tf32", "bfloat16", "float16", "int8", "float8_e4m3fn"} & set(device.dense_flops_per_s):
        for factor in (0.5, 2.0):
            assert check_device(changed(device, {dtype: device.dense_flops_per_s[dtype] * factor})), (dtype, factor)


def test_findings_name_the_figures() -> None:
    h100 = CATALOGUE["h100-sxm"]
    assert check_device(changed(h100, {"bfloat16": 1978.9e12})) == [
        "dense float16 over bfloat16 is 0.5, expected 1: one of them may be a peak with sparsity",
        "dense tf32 over bfloat16 is 0.25, expected 0.5: one of them may be a peak with sparsity",
        "dense float8_e4m3fn over bfloat16 is 1, expected 2: one of them may be a peak with sparsity",
        "dense float8_e5m2 over bfloat16 is 1, expected 2: one of them may be a peak with sparsity",
        "dense int8 over bfloat16 is 1, expected 2: one of them may be a peak with sparsity",
        "dense bfloat16 over the vector peak is 29.6, expected 14.8: one of them may be a peak with sparsity",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [("launch_overhead_s", 8.0), ("memory_bytes", 80.0), ("memory_bytes_per_s", 3.35), ("hourly_price_usd", 25_000.0)],
)
def test_a_missing_prefix_is_caught(name: str, value: float) -> None:
    problems = check_device(with_figure(CATALOGUE["h100-sxm"], name, value))
    assert any(problem.startswith(f"{name} is") and "unit" in problem for problem in problems)


def test_tf32_is_no_float32() -> None:
    problems = check_device(changed(CATALOGUE["h100-sxm"], {"float32": 494.7e12}))
    assert problems == ["dense float32 is 7.39 times the vector peak, expected 1 or 2: it may be the tf32 figure"]


def test_unusual_hardware_is_no_finding_without_a_reason() -> None:
    """Neither an unknown architecture nor one without fast 8-bit products."""
    data = changed(CATALOGUE["h100-sxm"], {}).to_data()
    data["architecture"] = "Unheard-of"
    assert check_device(Device.from_data(data, "here")) == []


@pytest.mark.parametrize(
    ("device_id", "dtype", "peak"),
    [
        ("h100-sxm", "bfloat16", 989.4e12),
        ("h100-sxm", "float8_e4m3fn", 1978.9e12),
        ("a100-40g", "bfloat16", 312e12),
        ("rtx-4090", "bfloat16", 165.2e12),
        ("rtx-5090", "bfloat16", 209.5e12),
        ("mi300x", "float16", 1307.4e12),
        ("xeon-8480+", "bfloat16", 56 * 2.0e9 * 1024),
        ("epyc-9654", "float32", 96 * 2.4e9 * 32),
    ],
)
def test_well_known_peaks(device_id: str, dtype: str, peak: float) -> None:
    assert CATALOGUE[device_id].peak_flops_per_s(dtype) == pytest.approx(peak)

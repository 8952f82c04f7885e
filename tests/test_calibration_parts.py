"""Parts of a calibration by themselves: the fit on times made up for it, the guess of the device, the split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from attrs import evolve

from modelmeter.cost.catalogue import load_catalogue, read_device
from modelmeter.cost.efficiency import DEFAULT
from modelmeter.errors import UsageError
from modelmeter.planning.calibration import calibrated_device, read_measurements
from modelmeter.planning.calibration.costed import CostedMeasurement, costed
from modelmeter.planning.calibration.devices import matching
from modelmeter.planning.calibration.fitting import FEWEST, fit
from modelmeter.planning.calibration.hold_out import HoldOut, choose
from modelmeter.planning.calibration.observing import observe
from modelmeter.planning.calibration.prediction import shares_of
from modelmeter.schema.measurement import MeasuredDevice

EXAMPLES = Path(__file__).parent.parent / "examples" / "measurements"
DEVICE_FILE = EXAMPLES / "cpu-core.yaml"
NOTHING = HoldOut(frozenset(), frozenset(), "")


@pytest.fixture(scope="module")
def measured() -> list[CostedMeasurement]:
    files = sorted((EXAMPLES / "cpu-small").glob("*.json"))[:5]
    return [costed(named) for named in read_measurements(files)[0]]


# -- the fit, on synthetic times: these say whether it finds what is there, not whether it is right ----


@pytest.mark.parametrize("seed", range(3))
def test_synthetic_times_give_back_the_numbers_that_made_them(measured: list[CostedMeasurement], seed: int) -> None:
    seen = observe(measured, read_device(DEVICE_FILE), DEFAULT, NOTHING)
    default = shares_of(DEFAULT)
    random = np.random.default_rng(seed)
    true = default * random.uniform(0.5, 2.0, len(default))
    true[-1] = random.uniform(3, 8)
    made_up_s = seen.predictor.times(true)
    found = fit(seen.predictor, made_up_s, seen.weights, default)
    assert np.median(np.abs(seen.predictor.times(found.shares) / made_up_s - 1)) < 0.01
    plenty = found.observations >= 20
    assert plenty.sum() >= 4
    assert found.shares[plenty] == pytest.approx(true[plenty], rel=0.1)


def test_synthetic_noise_and_disturbed_times_hardly_move_the_fit(measured: list[CostedMeasurement]) -> None:
    seen = observe(measured, read_device(DEVICE_FILE), DEFAULT, NOTHING)
    default = shares_of(DEFAULT)
    true = default.copy()
    true[-1] = 5
    random = np.random.default_rng(0)
    noisy_s = seen.predictor.times(true) * random.lognormal(0, 0.1, len(seen.weights))
    noisy_s[random.choice(len(noisy_s), len(noisy_s) // 20, replace=False)] *= 10
    found = fit(seen.predictor, noisy_s, seen.weights, default)
    plenty = found.observations >= 20
    assert found.shares[plenty] == pytest.approx(true[plenty], rel=0.25)


def test_numbers_that_no_time_depends_on_stay_where_they_were(measured: list[CostedMeasurement]) -> None:
    seen = observe(measured, read_device(DEVICE_FILE), DEFAULT, NOTHING)
    default = shares_of(DEFAULT)
    found = fit(seen.predictor, seen.measured_s, seen.weights, default)
    for place, fitted in enumerate(found.fitted):
        if fitted:
            assert found.observations[place] >= FEWEST
        else:
            assert found.shares[place] == default[place]
    assert any(found.fitted) and not all(found.fitted)


# -- the device ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gigabytes", "expected"),
    [
        ("NVIDIA H200", 150.1, ["h200"]),
        ("NVIDIA H100 80GB HBM3", 85.0, ["h100-pcie", "h100-sxm"]),
        ("NVIDIA H100 PCIe", 85.0, ["h100-pcie"]),
        ("NVIDIA H100 NVL", 100.5, ["h100-nvl"]),
        ("NVIDIA A100-SXM4-40GB", 42.4, ["a100-40g"]),
        ("NVIDIA A100-SXM4-80GB", 85.2, ["a100-80g"]),
        ("NVIDIA A100 80GB PCIe", 85.2, ["a100-80g-pcie"]),
        ("NVIDIA GeForce RTX 5090", 33.7, ["rtx-5090"]),
        ("NVIDIA GeForce RTX 5090 Laptop GPU", 25.4, []),
        ("NVIDIA GeForce RTX 3090 Ti", 25.4, []),
        ("NVIDIA RTX 6000 Ada Generation", 51.0, ["rtx-6000-ada"]),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 102.0, ["rtx-pro-6000"]),
        ("NVIDIA L4", 23.7, ["l4"]),
        ("NVIDIA L40S", 47.7, ["l40s"]),
        ("Tesla T4", 15.8, ["t4"]),
        ("Tesla V100-SXM2-32GB", 34.0, ["v100-sxm-32g"]),
        ("AMD Instinct MI300X", 205.0, ["mi300x"]),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 10.0, []),
    ],
)
def test_names_that_drivers_give(name: str, gigabytes: float, expected: list[str]) -> None:
    device = MeasuredDevice(name, "gpu", int(gigabytes * 1e9), 8)
    assert [found.id for found in matching(device, load_catalogue())] == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("AMD EPYC 9654 96-Core Processor", ["epyc-9654"]),
        ("Intel(R) Xeon(R) Platinum 8480+", ["xeon-8480+"]),
        ("AMD EPYC", []),
        ("AMD EPYC 9554 64-Core Processor", []),
        ("NVIDIA H200", []),
        ("", []),
    ],
)
def test_names_of_processors(name: str, expected: list[str]) -> None:
    assert [found.id for found in matching(MeasuredDevice(name, "cpu"), load_catalogue())] == expected


def test_the_device_is_asked_for_or_known() -> None:
    known = MeasuredDevice("NVIDIA H200", "gpu", 150_000_000_000)
    assert calibrated_device(known, None, ()).id == "h200"
    assert calibrated_device(known, "h100-sxm", ()).id == "h100-sxm"
    core = MeasuredDevice("AMD EPYC", "cpu", threads=1)
    assert calibrated_device(core, None, [DEVICE_FILE]).id == "epyc-7003-core"
    with pytest.raises(UsageError, match="may be h100-pcie, h100-sxm; say which with --device ID"):
        calibrated_device(MeasuredDevice("NVIDIA H100 80GB HBM3", "gpu", 85_000_000_000), None, ())
    with pytest.raises(UsageError, match="no device of the catalogue is called 'AMD EPYC'"):
        calibrated_device(core, None, ())
    with pytest.raises(UsageError, match="epyc-7003-core is a cpu"):
        calibrated_device(known, None, [DEVICE_FILE])


# -- the split -----------------------------------------------------------------------------------------


def test_at_least_one_is_held_out_and_one_is_not(measured: list[CostedMeasurement]) -> None:
    def held(number: int, every: int | None = None) -> list[int]:
        split = choose(measured[:number], frozenset(), every)
        return [place for place, one in enumerate(measured[:number]) if one.name in split.measurements]

    assert (held(2), held(3), held(4), held(5)) == ([1], [2], [3], [3])
    assert (held(4, 2), held(5, 3)) == ([1, 3], [2])
    named = choose(measured, frozenset({measured[0].name}), None)
    assert named.measurements == {measured[0].name}


def test_one_measurement_is_split_by_modules(measured: list[CostedMeasurement]) -> None:
    only = measured[0]
    split = choose([only], frozenset(), None)
    assert len(split.modules) == len(only.modules) // 4 and not split.measurements
    seen = observe([only], read_device(DEVICE_FILE), DEFAULT, split)
    for one, weight in zip(seen.observed, seen.weights, strict=True):
        assert one.held_out == ((one.stage, one.module) in split.modules)
        assert (weight > 0) == bool(one.module and not one.held_out)
    with pytest.raises(UsageError, match="too few to hold some out"):
        choose([evolve(only, modules={})], frozenset(), None)

"""The scenario: what is derived, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from modelmeter.errors import ScenarioError, UnknownNameError
from modelmeter.schema import Page, Scenario
from modelmeter.schema.scenario import is_size, parse_size


def test_modes_and_overrides() -> None:
    sizes = {mode: Scenario(mode=mode).resolve() for mode in ("tiny", "small", "base", "large", "gundam")}
    assert {m: (s.base_size, s.image_size, s.crop_mode) for m, s in sizes.items()} == {
        "tiny": (512, 512, False),
        "small": (640, 640, False),
        "base": (1024, 1024, False),
        "large": (1280, 1280, False),
        "gundam": (1024, 640, True),
    }
    one = Scenario(mode="large", crop_mode=True, image_size=512).resolve()
    assert (one.base_size, one.image_size, one.crop_mode) == (1280, 512, True)


def test_derived_dtypes_and_attention() -> None:
    plain = Scenario(dtype="float16", attention="eager").resolve()
    assert (plain.activation_dtype, plain.kv_dtype) == ("float16", "float16")
    assert (plain.vision_attention, plain.decoder_attention) == ("eager", "eager")
    mixed = Scenario(kv_dtype="float8_e4m3fn", decoder_attention="eager").resolve()
    assert (mixed.activation_dtype, mixed.kv_dtype) == ("bfloat16", "float8_e4m3fn")
    assert (mixed.vision_attention, mixed.decoder_attention) == ("sdpa", "eager")


@pytest.mark.parametrize(
    "key", ["batch", "devices", "tensor_parallel", "expert_parallel", "decode_steps", "base_size", "seq_len"]
)
@pytest.mark.parametrize("value", ["8", 2.5, True, -1, [1]])
def test_numbers_must_be_numbers(key: str, value: object) -> None:
    with pytest.raises(ScenarioError, match=f"--{key.replace('_', '-')} is .*whole number"):
        Scenario(**{key: value})


@pytest.mark.parametrize("key", ["batch", "devices", "tensor_parallel", "decode_steps", "crop_mode", "device"])
def test_what_has_no_derived_value_is_never_none(key: str) -> None:
    if key == "crop_mode":
        assert Scenario(crop_mode=None).resolve().crop_mode is True
        return
    with pytest.raises(ScenarioError):
        Scenario(**{key: None})


@pytest.mark.parametrize(
    ("key", "value"), [("crop_mode", 1), ("crop_mode", "yes"), ("device", 3), ("device", ""), ("routing", ["balanced"])]
)
def test_other_types(key: str, value: object) -> None:
    with pytest.raises(ScenarioError, match=f"--{key.replace('_', '-')} is"):
        Scenario(**{key: value})


@pytest.mark.parametrize(
    ("key", "value", "near"),
    [
        ("mode", "gundan", "gundam"),
        ("dtype", "bfloat", "bfloat16"),
        ("kv_dtype", "float61", "float64"),
        ("attention", "sdp", "sdpa"),
        ("vision_attention", "eagre", "eager"),
        ("head", "lst", "last"),
        ("execution", "grph", "graph"),
        ("routing", "balance", "balanced"),
    ],
)
def test_names_get_the_nearest(key: str, value: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown .*{value}.*did you mean '{near}'"):
        Scenario(**{key: value})


@pytest.mark.parametrize("key", ["mode", "dtype", "attention", "head", "execution"])
@pytest.mark.parametrize("value", [3, None, ["a"], {}])
def test_names_must_be_names(key: str, value: object) -> None:
    with pytest.raises(UnknownNameError, match="valid:"):
        Scenario(**{key: value})


def test_splits_must_divide() -> None:
    assert Scenario(devices=8, tensor_parallel=2, expert_parallel=4).devices == 8
    with pytest.raises(ScenarioError, match="--tensor-parallel 4 does not divide --devices 6"):
        Scenario(devices=6, tensor_parallel=4)
    with pytest.raises(ScenarioError, match="--expert-parallel 2 does not divide --devices 1"):
        Scenario(expert_parallel=2, devices=1)


def test_as_many_devices_as_share_layers_where_none_are_given() -> None:
    assert Scenario().devices == Scenario().replicas == 1
    assert Scenario(expert_parallel=2).devices == 2
    assert Scenario(tensor_parallel=5).devices == 5
    spread = Scenario(tensor_parallel=2, expert_parallel=2, devices=8)
    assert (spread.devices, spread.replicas) == (8, 4)


def test_what_a_forward_cannot_run_in() -> None:
    Scenario(activation_dtype="bfloat16", kv_dtype="float8_e5m2").check_traceable()
    with pytest.raises(ScenarioError, match="activation-dtype float32 with --dtype bfloat16"):
        Scenario(activation_dtype="float32").check_traceable()
    with pytest.raises(ScenarioError, match="cannot run a model in --dtype float8_e4m3fn"):
        Scenario(dtype="float8_e4m3fn").check_traceable()


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"width": 5},
        {"width": 5, "height": 5, "grid": (1, 1)},
        {"width": 0, "height": 5},
        {"width": "5", "height": 5},
        {"grid": (0, 1)},
        {"grid": (1, 2, 3)},
        {"grid": [1, 2]},
        {"grid": (1.0, 2)},
    ],
)
def test_pages_that_are_none(keys: dict[str, Any]) -> None:
    with pytest.raises(ScenarioError):
        Page(**keys)


@pytest.mark.parametrize("pages", [None, [Page(5, 5)], ("a",), Page(5, 5)])
def test_pages_must_be_pages(pages: object) -> None:
    with pytest.raises(ScenarioError, match="give a tuple of Page objects"):
        Scenario(pages=pages)  # type: ignore[arg-type]


def test_sizes() -> None:
    assert parse_size("3x2", "--grid") == (3, 2)
    assert parse_size(" 1240 X 1754 ", "--page") == (1240, 1754)
    assert parse_size("3×2", "--grid") == (3, 2)
    assert is_size("3x2") and not is_size("a.png")


@pytest.mark.parametrize("text", ["", "x", "3", "3x", "x3", "-1x2", "3x2x1", "1.5x2", "²x2", "٣x2", "1" * 5000 + "x1"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ScenarioError, match=r"--grid .* is no size; write two numbers"):
        parse_size(text, "--grid")

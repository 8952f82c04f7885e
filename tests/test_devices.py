"""Device files: what is right is read whole, what is wrong is refused with its place."""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmeter.cost.catalogue import VARIABLE, find_device, load_catalogue, read_device
from modelmeter.errors import DocumentError, ScenarioError, UnknownNameError
from modelmeter.schema.device import DTYPES, KINDS, Device, Figure, Figures, Source


def figure(value: Any, **keys: Any) -> dict[str, Any]:
    return {"value": value, "source": "sheet", **keys}


def card(device_id: str = "my-card", **changes: Any) -> dict[str, Any]:
    """A small device file that is right."""
    figures = {
        "dense_flops_per_s": {"bfloat16": figure(200e12), "float32": figure(50e12)},
        "vector_flops_per_s": figure(50e12),
        "memory_bytes": figure(2**34),
        "memory_bytes_per_s": figure(1e12),
        "power_w": figure(300),
        "launch_overhead_s": figure(8e-6),
    }
    return {
        "id": device_id,
        "name": "My card",
        "vendor": "Me",
        "kind": "gpu",
        "architecture": "Mine",
        "figures": {**figures, **changes},
        "sources": {"sheet": {"title": "My sheet"}},
    }


def write(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def refusal(data: Any, folder: Path) -> str:
    with pytest.raises(DocumentError) as caught:
        read_device(write(folder / "card.json", data))
    message = str(caught.value)
    assert message.startswith(str(folder / "card.json")) and "\n" not in message
    return message


# -- reading -------------------------------------------------------------------------------------------


def test_plain_numbers() -> None:
    device = Device.from_data(card(hourly_price_usd=figure(1.5), interconnect_bytes_per_s=figure(32e9)), "here")
    assert (device.memory_bytes, device.memory_bytes_per_s, device.vector_flops_per_s) == (2**34, 1e12, 50e12)
    assert (device.power_w, device.launch_overhead_s) == (300.0, 8e-6)
    assert (device.hourly_price_usd, device.interconnect_bytes_per_s) == (1.5, 32e9)
    assert type(device.memory_bytes) is int
    assert device.dense_flops_per_s == {"bfloat16": 200e12, "float32": 50e12}
    assert device.sparse_flops_per_s == {}
    assert device.figures.power_w == Figure(300.0, "sheet", verified=False)


def test_what_is_not_known_is_none() -> None:
    device = Device.from_data(card(), "here")
    assert device.hourly_price_usd is None
    assert device.interconnect_bytes_per_s is None


def test_peaks() -> None:
    device = Device.from_data(card(), "here")
    assert device.peak_flops_per_s("bfloat16") == device.peak_flops_per_s("torch.bfloat16") == 200e12
    assert device.peak_flops_per_s("float32") == 50e12
    with pytest.raises(ScenarioError) as caught:
        device.peak_flops_per_s("float8_e4m3fn")
    assert str(caught.value) == (
        "device my-card (My card) has no peak for float8_e4m3fn; it has float32, bfloat16; choose one of these dtypes "
        "or another device, or give the figure in a file with --device-file"
    )


def test_float32_is_not_tf32() -> None:
    device = find_device("h100-sxm")
    assert device.peak_flops_per_s("float32") == 66.9e12
    assert device.peak_flops_per_s("tf32") == 494.7e12


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    text = """\
id: my-card
name: My card
vendor: Me
kind: gpu
architecture: Mine
figures:
  dense_flops_per_s:
    bfloat16: {value: 200e12, source: sheet}
    float32: {value: 50.0e+12, source: sheet}
  vector_flops_per_s: {value: 50000000000000, source: sheet}
  memory_bytes: {value: 17179869184, source: sheet}
  memory_bytes_per_s: {value: 1.0e+12, source: sheet}
  power_w: {value: 300, source: sheet}
  launch_overhead_s: {value: 8.0e-6, source: sheet}
sources:
  sheet: {title: My sheet}
"""
    (tmp_path / "card.yaml").write_text(text, encoding="utf-8")
    assert read_device(tmp_path / "card.yaml") == read_device(write(tmp_path / "card.json", card()))


finite = st.floats(min_value=1e-300, max_value=1e300)
line = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=20)
figures = st.builds(Figure, value=finite, source=st.just("sheet"), verified=st.booleans(), note=st.none() | line)


@st.composite
def drawn_devices(draw: st.DrawFn) -> Device:
    dense = draw(st.dictionaries(st.sampled_from(DTYPES), figures, min_size=1))
    sparse = {name: Figure(found.value * 2, "sheet") for name, found in dense.items() if draw(st.booleans())}
    return Device(
        id=draw(st.from_regex(r"[a-z0-9][a-z0-9+._-]{0,20}", fullmatch=True)),
        name=draw(line),
        vendor=draw(line),
        kind=draw(st.sampled_from(KINDS)),
        architecture=draw(line),
        interconnect=draw(st.none() | line),
        figures=Figures(
            dense_flops_per_s=dense,
            sparse_flops_per_s=sparse,
            vector_flops_per_s=draw(figures),
            memory_bytes=Figure(float(draw(st.integers(1, 2**50))), "sheet"),
            memory_bytes_per_s=draw(figures),
            power_w=draw(figures),
            launch_overhead_s=draw(figures),
            interconnect_bytes_per_s=draw(st.none() | figures),
            hourly_price_usd=draw(st.none() | figures),
        ),
        sources={"sheet": Source("A sheet", draw(st.none() | line))},
    )


@given(drawn_devices())
def test_a_device_survives_plain_data_and_json(device: Device) -> None:
    assert Device.from_data(json.loads(json.dumps(device.to_data())), "here") == device


# -- refusing ------------------------------------------------------------------------------------------

NO_NUMBERS = st.one_of(
    st.text(max_size=8),
    st.booleans(),
    st.none(),
    st.lists(st.integers(), max_size=2),
    st.floats(max_value=0, allow_infinity=False),
    st.integers(max_value=0),
    st.sampled_from([math.nan, math.inf, -math.inf, 10**400]),
)


def values_of(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Every place of a figure in a device file."""
    found = data["figures"]
    single = [entry for entry in found.values() if "value" in entry]
    return single + [entry for entry in found.values() if "value" not in entry for entry in entry.values()]


@given(wrong=NO_NUMBERS, data=st.data())
def test_a_value_must_be_a_finite_number_above_zero(wrong: Any, data: st.DataObject) -> None:
    document = copy.deepcopy(card(hourly_price_usd=figure(2)))
    data.draw(st.sampled_from(values_of(document)))["value"] = wrong
    with pytest.raises(DocumentError, match=r"figures\."):
        Device.from_data(document, "here")


@given(st.data())
def test_a_key_more_or_a_key_less_is_refused(data: st.DataObject) -> None:
    """Anywhere but in the objects whose keys are names."""
    document = copy.deepcopy(card())
    places = [document, document["figures"], document["sources"]["sheet"], *values_of(document)]
    place = data.draw(st.sampled_from(places))
    if data.draw(st.booleans()):
        place[data.draw(st.text(min_size=1, max_size=6).filter(lambda key: key not in place))] = 1
    else:
        optional = {"verified", "note", "url", "interconnect"}
        del place[data.draw(st.sampled_from(sorted(set(place) - optional)))]
    with pytest.raises(DocumentError):
        Device.from_data(document, "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"power_w": figure("300")}, "expected a finite number, got str '300' @ $.figures.power_w.value"),
        ({"power_w": figure(-1)}, "value is -1.0, expected a finite number above zero @ $.figures.power_w"),
        ({"power_w": figure(0)}, "value is 0.0"),
        ({"power_w": 300}, "@ $.figures.power_w"),
        ({"power_w": figure(300, verified="yes")}, "$.figures.power_w.verified"),
        ({"power_w": {"value": 300}}, "required field missing @ $.figures.power_w.source"),
        ({"power_w": figure(300, source="elsewhere")}, "power_w names the source 'elsewhere', but sources has sheet"),
        ({"watts": figure(300)}, "extra fields found (watts) @ $.figures"),
        ({"memory_bytes": figure(1.5)}, "memory_bytes is 1.5, expected a whole number of bytes"),
        ({"dense_flops_per_s": {}}, "dense_flops_per_s is empty"),
        (
            {"dense_flops_per_s": {"bf16": figure(1e12)}},
            "dense_flops_per_s has the dtype 'bf16', expected one of float64",
        ),
        ({"sparse_flops_per_s": {"int8": figure(1e12)}}, "sparse_flops_per_s has int8, which dense_flops_per_s lacks"),
        (
            {"sparse_flops_per_s": {"bfloat16": figure(200e12)}},
            "bfloat16 has 2e+14 with sparsity and 2e+14 without, expected more with it",
        ),
    ],
)
def test_what_is_wrong_with_a_figure_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    assert message in refusal(card(**change), tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("id", "My Card", "id is 'My Card', expected small letters"),
        ("id", "../h100", "id is '../h100'"),
        ("id", "", "id is ''"),
        ("kind", "dsp", "kind is 'dsp', expected one of gpu, cpu, npu, tpu"),
        ("name", "a\x1b[31mred", "name is 'a\\x1b[31mred', expected one line of text"),
        ("vendor", " ", "vendor is ' '"),
        ("sources", {"sheet": {"title": "a\nb"}}, "title is 'a\\nb'"),
        ("colour", "red", "extra fields found (colour)"),
    ],
)
def test_what_is_wrong_with_a_key_is_named(tmp_path: Path, key: str, value: Any, message: str) -> None:
    assert message in refusal({**card(), key: value}, tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("card.json", "{", "is no complete JSON document"),
        ("card.json", "[]", "holds a list, not an object"),
        ("card.json", json.dumps(card()).replace("300", "NaN"), "NaN is no JSON number"),
        ("card.json", json.dumps(card()).replace("300", "1e999"), "got float inf @ $.figures.power_w.value"),
        ("card.json", json.dumps(card()).replace('"kind"', '"id"'), "key 'id' stands twice"),
        ("card.json", "[" * 100_000, "is no complete JSON document"),
        ("card.yaml", "id: [", "is no YAML document"),
        ("card.yaml", "id: a\nid: b", "is no YAML document"),
        ("card.yaml", json.dumps(card()).replace("300", ".nan"), "got float nan @ $.figures.power_w.value"),
        ("card.yaml", json.dumps(card()).replace("300", '"300"'), "got str '300'"),
    ],
)
def test_what_is_no_device_file(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DocumentError) as caught:
        read_device(path)
    assert str(path) in str(caught.value) and message in str(caught.value)
    assert caught.value.remedy


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="No such file"):
        read_device(tmp_path / "missing.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DocumentError, match="is no text file"):
        read_device(tmp_path / "bytes.json")


# -- finding -------------------------------------------------------------------------------------------


def test_an_unknown_id_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        find_device("h100-smx")
    assert str(caught.value) == "unknown device 'h100-smx'; did you mean 'h100-sxm'?"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("device_id", ["../device_data/h100-sxm", "/etc/passwd", "", "h100-sxm.json", "\0", "x" * 5000])
def test_an_id_is_no_path(device_id: str) -> None:
    with pytest.raises(UnknownNameError):
        find_device(device_id)


def test_own_files_add_and_replace(tmp_path: Path) -> None:
    dear = find_device("h100-sxm").to_data()
    dear["figures"]["hourly_price_usd"]["value"] = 99.0
    own = [write(tmp_path / "a.json", card()), write(tmp_path / "b.json", dear)]
    catalogue = load_catalogue(own)
    assert set(catalogue) == {*load_catalogue(), "my-card"}
    assert list(catalogue) == sorted(catalogue)
    assert catalogue["h100-sxm"].hourly_price_usd == find_device("h100-sxm", own).hourly_price_usd == 99.0
    assert find_device("h100-sxm").hourly_price_usd != 99.0
    with pytest.raises(UnknownNameError, match="did you mean 'my-card'"):
        find_device("my-cart", own)


def test_folders_and_the_environment_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "devices"
    folder.mkdir()
    write(folder / "a.json", card("a"))
    write(folder / "b.yml", card("b"))
    (folder / "notes.txt").write_text("no device")
    other = write(tmp_path / "c.json", card("a", power_w=figure(1000)))
    monkeypatch.setenv(VARIABLE, os.pathsep.join([str(folder), ""]))
    assert {"a", "b"} <= set(load_catalogue())
    assert find_device("a").power_w == 300
    # An argument wins over the variable, a later place over an earlier one.
    assert find_device("a", [other]).power_w == 1000
    assert find_device("a", [other, folder]).power_w == 300
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(DocumentError, match=r"nowhere: No such file.*MODELMETER_DEVICES"):
        find_device("h100-sxm")


def test_folders_that_say_nothing_or_two_things(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"holds no \.json, \.yaml or \.yml file"):
        load_catalogue([tmp_path])
    write(tmp_path / "a.json", card("a"))
    write(tmp_path / "b.json", card("a"))
    with pytest.raises(DocumentError, match=r"b\.json and .*a\.json both hold the device 'a'"):
        load_catalogue([tmp_path])


def test_one_device_is_one_file() -> None:
    """Found in well under a millisecond; the bound leaves room for a busy machine."""
    find_device("h100-sxm")
    best = math.inf
    for _ in range(20):
        begin = time.perf_counter()
        find_device("h100-sxm")
        best = min(best, time.perf_counter() - begin)
    assert best < 5e-3


def test_finding_a_device_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom modelmeter.cost.catalogue import find_device\nfind_device('h100-sxm')\n"
        "print([name for name in ('torch', 'ruamel.yaml', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"

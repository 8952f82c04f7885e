"""Calibration on real measurements: what it finds, how well it predicts what it has not seen, what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from command import OUTPUT, SCENARIO, USAGE, command, document, refused, write_json
from modelmeter.cost.catalogue import read_device
from modelmeter.cost.efficiency import CASES, DEFAULT
from modelmeter.errors import DocumentError
from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.planning.calibration import calibrate, load_efficiency, read_measurements
from modelmeter.planning.calibration.costed import costed
from modelmeter.planning.calibration.prediction import predictor, shares_of
from modelmeter.schema.calibration import FIT, HELD_OUT, TABLES, Calibration
from modelmeter.schema.measurement import Measurement

EXAMPLES = Path(__file__).parent.parent / "examples" / "measurements"
FILES = sorted((EXAMPLES / "cpu-small").glob("*.json"), key=lambda path: path.stem)
DEVICE_FILE = EXAMPLES / "cpu-core.yaml"
DEVICE = read_device(DEVICE_FILE)
DOCUMENT = 6


@pytest.fixture(scope="module")
def found() -> Calibration:
    return calibrate(read_measurements(FILES)[0], DEVICE)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with four measurements and the device."""
    for file in FILES[:4]:
        shutil.copy(file, tmp_path)
    shutil.copy(DEVICE_FILE, tmp_path / "core.yaml")
    return tmp_path


# -- the reference data --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_reference_measurements_are_real_and_say_nothing_of_a_machine(path: Path) -> None:
    measured = Measurement.load(path)
    assert path.stat().st_size < 200_000
    assert measured.weights == "random" and measured.conditions.repeats >= 5
    assert len(set(measured.run.samples_s)) == measured.conditions.repeats
    text = path.read_text()
    assert not re.search(r"(?<![\w.)/])/[a-z]", text), "a path of some machine"
    assert "localhost" not in text


# -- what is predicted ---------------------------------------------------------------------------------


def test_times_are_those_of_the_roofline() -> None:
    """The arrays of the fit and the closed form's own times agree, operator for operator."""
    (named,), _ = read_measurements([FILES[0]])
    one = costed(named)
    made, places = predictor([one], DEVICE, DEFAULT)
    timed = FAMILY.costs(FAMILY.small_configuration(), one.scenario).timed(DEVICE)
    for case in CASES:
        times = made.times(shares_of(DEFAULT, case), case)
        for place, (_, stage, module) in enumerate(places):
            expected = (
                sum(getattr(time.seconds, case) for time in timed.operators[module] if time.costs.stage == stage)
                if module
                else getattr(timed.stages[stage].seconds, case)
            )
            assert times[place] == pytest.approx(expected, rel=1e-9), (case, stage, module)


def test_every_module_that_works_is_observed() -> None:
    (named,), _ = read_measurements([FILES[0]])
    one = costed(named)
    for stage, whole_s in one.stages.items():
        parts = [time_s for (of, _), time_s in one.modules.items() if of == stage]
        assert sum(parts) == pytest.approx(whole_s)
    working = {(operator.costs.stage, operator.node) for operator in one.operators}
    # What takes less than a timer sees has no time; everything else that the closed form runs has one.
    assert len(working - set(one.modules)) <= 2


# -- what comes out ------------------------------------------------------------------------------------


def test_what_was_held_out_is_predicted_better_than_with_the_defaults(found: Calibration) -> None:
    held = found.held_out
    assert held.measurements == len(FILES) // 4
    for errors in (held.totals, held.stages, held.modules):
        assert errors is not None
        assert errors.median < errors.default_median
        assert errors.worst < errors.default_worst
    assert held.stages is not None and held.stages.median < held.stages.default_median / 2
    assert not any("do not rely" in note for note in found.notes)


def test_errors_are_those_of_the_times(found: Calibration) -> None:
    held = [prediction for prediction in found.predictions if prediction.role == HELD_OUT]
    stages = [stage for prediction in held for stage in prediction.stages.values()]
    errors = sorted(abs(stage.estimate_s / stage.measured_s - 1) for stage in stages)
    summary = found.held_out.stages
    assert summary is not None and summary.count == len(stages) == 4 * len(held)
    assert summary.worst == pytest.approx(errors[-1], rel=1e-3)
    assert summary.median == pytest.approx((errors[len(errors) // 2] + errors[(len(errors) - 1) // 2]) / 2, rel=1e-3)
    assert summary.within == sum(stage.low_s <= stage.measured_s <= stage.high_s for stage in stages)
    for prediction in found.predictions:
        assert prediction.total is not None
        assert prediction.total.measured_s == pytest.approx(
            sum(stage.measured_s for stage in prediction.stages.values()), rel=1e-4
        )


def test_measured_times_are_those_of_the_files(found: Calibration) -> None:
    assert [prediction.name for prediction in found.predictions] == [path.stem for path in FILES]
    for path, prediction in zip(FILES, found.predictions, strict=True):
        for stage, times in Measurement.load(path).stages.items():
            assert prediction.stages[stage].measured_s == pytest.approx(times.time_s, rel=1e-5)


def test_each_fourth_by_name_is_held_out(found: Calibration) -> None:
    held = [place for place, prediction in enumerate(found.predictions) if prediction.role == HELD_OUT]
    assert held == list(range(3, len(FILES), 4))
    assert found.hold_out == "every 4th measurement by name"


def test_held_out_measurements_do_not_move_the_fit() -> None:
    named = read_measurements(FILES[:4])[0]
    before = calibrate(named, DEVICE)
    times = named[3].measurement.stages
    slower = {stage: evolve(time, time_s=time.time_s * 50, max_s=time.max_s * 50) for stage, time in times.items()}
    named[3] = evolve(named[3], measurement=evolve(named[3].measurement, stages=slower))
    again = calibrate(named, DEVICE)
    assert list(again.steps()) == list(before.steps())
    assert again.held_out != before.held_out


def test_intervals_hold_their_estimate_and_most_of_what_was_measured(found: Calibration) -> None:
    for table, step in found.steps():
        ordered = (step.low, step.estimate, step.high) if table == "launch" else (step.high, step.estimate, step.low)
        assert list(ordered) == sorted(ordered)
    for summary in found.summaries.values():
        assert summary.stages is not None and summary.stages.within >= 0.7 * summary.stages.count


def test_what_the_measurements_do_not_tell_stays_a_default_and_is_named(found: Calibration) -> None:
    left = [(table, step) for table, step in found.steps() if step.origin == "default"]
    assert left and len(left) < len(list(found.steps()))
    for table, step in left:
        default = (
            DEFAULT.launch if table == "launch" else next(s for s in getattr(DEFAULT, table) if s.size == step.size)
        )
        assert (step.low, step.estimate, step.high) == (default.low, default.estimate, default.high)
        assert step.observations < 3
    (note,) = (note for note in found.notes if note.startswith("left at the defaults"))
    assert "matrix from 100 GFLOP" in note
    assert found.launch.origin == "fitted"
    assert found.launch_overhead_s == pytest.approx(found.launch.estimate * DEVICE.launch_overhead_s, rel=1e-5)


def test_the_file_gives_the_efficiency_that_plans_take(found: Calibration, tmp_path: Path) -> None:
    path = found.save(tmp_path / "calibration.json")
    assert Calibration.load(path).to_json() == found.to_json()
    efficiency = load_efficiency(path)
    assert efficiency.origin == found.origin and "AMD EPYC" in efficiency.origin
    for table in TABLES:
        assert [step.estimate for step in getattr(efficiency, table)] == [s.estimate for s in getattr(found, table)]
    (named,), _ = read_measurements([FILES[0]])
    one = costed(named)
    timed = FAMILY.costs(FAMILY.small_configuration(), one.scenario).timed(DEVICE, "eager", efficiency)
    prediction = found.predictions[0]
    for stage, compared in prediction.stages.items():
        seconds = timed.stages[stage].seconds
        assert compared.estimate_s == pytest.approx(seconds.estimate, rel=1e-5)
        assert (compared.low_s, compared.high_s) == pytest.approx((seconds.low, seconds.high), rel=1e-5)


def test_same_measurements_same_bytes(found: Calibration) -> None:
    assert calibrate(read_measurements(list(reversed(FILES)))[0], DEVICE).to_json() == found.to_json()


# -- the command ---------------------------------------------------------------------------------------


def test_command_prints_what_it_found(here: Path) -> None:
    outcome = command("calibrate", here, "--device-file", "core.yaml", "--out", "out", cwd=here)
    assert (outcome.code, outcome.err) == (0, "")
    assert max(map(len, outcome.out.splitlines())) <= 100 and "\x1b" not in outcome.out
    for part in ("epyc-7003-core", "launch overhead", "held out, stages", FILES[3].stem, "Wrote out/calibration.json"):
        assert part in outcome.out
    assert Calibration.load(here / "out" / "calibration.json").device.id == "epyc-7003-core"


def test_command_prints_the_document(here: Path) -> None:
    arguments = ("calibrate", here, "--device-file", "core.yaml")
    printed = document(*arguments, cwd=here)
    assert printed["kind"] == "calibration" and printed["summaries"][HELD_OUT]["measurements"] == 1
    quiet = command(*arguments, "--quiet", "--out", "c.json", cwd=here)
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    assert json.loads((here / "c.json").read_text()) == printed
    assert str(here) not in (here / "c.json").read_text()
    (here / "kept").mkdir()
    shutil.move(here / "c.json", here / "kept" / "c.json")
    line = refused(OUTPUT, *arguments, "--out", "kept/c.json", cwd=here)
    assert "--force" in line
    assert command(*arguments, "--out", "kept/c.json", "--force", "--quiet", cwd=here).code == 0


def test_measurements_to_hold_out_are_named(here: Path) -> None:
    first = FILES[0].name
    printed = document("calibrate", here, "--device-file", "core.yaml", "--hold-out", first, cwd=here)
    roles = {prediction["name"]: prediction["role"] for prediction in printed["predictions"]}
    assert [name for name, role in roles.items() if role == HELD_OUT] == [FILES[0].stem]
    every = document("calibrate", here, "--device-file", "core.yaml", "--hold-out-every", "2", cwd=here)
    assert [prediction["role"] for prediction in every["predictions"]] == [FIT, HELD_OUT, FIT, HELD_OUT]


def test_one_measurement_holds_out_modules(here: Path) -> None:
    printed = document("calibrate", FILES[0].name, "--device-file", "core.yaml", cwd=here)
    seen, held = printed["predictions"]
    assert (seen["role"], held["role"]) == (FIT, HELD_OUT)
    assert "total" in seen and "total" not in held and not held["stages"]
    assert held["modules"] and not set(held["modules"]) & set(seen["modules"])
    assert "module family of the only measurement" in printed["hold_out"]
    modules = printed["summaries"][HELD_OUT]["modules"]
    assert modules["median"] < modules["default_median"]


def test_copies_in_folders_are_told_apart(here: Path) -> None:
    for number, file in enumerate(FILES[:2]):
        (here / f"run{number}").mkdir()
        shutil.copy(file, here / f"run{number}" / "measurement.json")
    files = ("run0/measurement.json", "run1/measurement.json")
    printed = document("calibrate", *files, "--device-file", "core.yaml", cwd=here)
    assert [prediction["name"] for prediction in printed["predictions"]] == ["run0/measurement", "run1/measurement"]


def test_bad_input_is_one_line(here: Path) -> None:
    def line(code: int, *arguments: str) -> str:
        return refused(code, "calibrate", *arguments, cwd=here)

    with_device = ("--device-file", "core.yaml")
    first, second, *_ = (file.name for file in FILES)
    assert "there is no measurement" in line(USAGE)
    assert "cannot read missing.json" in line(DOCUMENT, "missing.json")
    (here / "empty").mkdir()
    assert "holds no .json file" in line(DOCUMENT, "empty")
    write_json(here / "graph.json", {"schema_version": 1, "kind": "call graph", "edges": {}})
    assert "is no Measurement document" in line(DOCUMENT, "graph.json", *with_device)
    shutil.copy(here / first, here / "copy.json")
    assert "are the same measurement" in line(USAGE, first, "copy.json", *with_device)
    assert "--device-file" in line(USAGE, first, second)
    assert "modelmeter devices epyc-9654 --json" in line(USAGE, first, second)
    assert "epyc-9645" in line(USAGE, first, second, "--device", "epyc-9645")
    assert "h200 is a gpu" in line(USAGE, first, second, "--device", "h200")
    assert "all measurements are held out" in line(USAGE, first, "--hold-out", first, *with_device)
    assert "--hold-out-every is 1" in line(USAGE, first, second, "--hold-out-every", "1", *with_device)
    contradiction = ("--hold-out-every", "3", "--hold-out", second)
    assert "contradict" in line(USAGE, first, second, *contradiction, *with_device)


def _changed(path: Path, **changes: Any) -> Path:
    """A file with some keys of one level below the top replaced."""
    content = json.loads(FILES[1].read_text())
    for key, values in changes.items():
        content[key] = {**content[key], **values} if isinstance(content[key], dict) and values else values
    return write_json(path, content)


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"model": {"family": "llama"}}, DOCUMENT, "is of the model family 'llama', which has no closed form"),
        ({"model": {"config": {"sam": {}}}}, DOCUMENT, ": the configuration is not one of DeepSeek-OCR"),
        ({"stages": {}}, DOCUMENT, "has no time of any stage"),
        ({"stages": {"reading": {"time_s": 1, "min_s": 1, "max_s": 1}}}, DOCUMENT, "its stage 'reading' has no closed"),
        ({"scenario": {"surprise": 1}}, DOCUMENT, "the scenario has the key 'surprise'"),
        ({"scenario": {"pages": "a"}}, DOCUMENT, "the scenario's pages are 'a'"),
        ({"model": {"config": None}}, DOCUMENT, "model.config is None, expected an object"),
        ({"scenario": {"pages": [1]}}, DOCUMENT, "a page of the scenario is 1, expected an object"),
        ({"scenario": {"batch": 0}}, DOCUMENT, "--batch is 0"),
        ({"scenario": {"dtype": "float16"}}, SCENARIO, "has no peak for float16"),
        ({"device": {"name": "Another"}}, USAGE, "differ in their device: 'AMD EPYC' and 'Another'"),
        ({"device": {"threads": 7}}, USAGE, "differ in their number of threads: 1 and 7"),
    ],
)
def test_measurements_that_do_not_go_together(here: Path, changes: Any, code: int, message: str) -> None:
    if "dtype" in changes.get("scenario", ()):
        changes = {"scenario": {**changes["scenario"], "activation_dtype": None, "kv_dtype": None}}
    _changed(here / FILES[1].name, **changes)
    arguments = ("calibrate", FILES[0].name, FILES[1].name, "--device-file", "core.yaml")
    assert message in refused(code, *arguments, cwd=here)


def test_too_few_times_cannot_be_split(here: Path) -> None:
    _changed(here / "bare.json", modules={}, stage_modules={})
    line = refused(USAGE, "calibrate", "bare.json", "--device-file", "core.yaml", cwd=here)
    assert "has times of 0 kinds of modules, too few to hold some out" in line


def test_stages_alone_tell_less(tmp_path: Path) -> None:
    """Without module times some numbers can still be told, from stages."""
    for number in range(5):
        content = json.loads(FILES[number].read_text())
        content["modules"], content["stage_modules"] = {}, {}
        write_json(tmp_path / f"{number}.json", content)
    found = calibrate(read_measurements([tmp_path])[0], DEVICE)
    fitted = [step for _, step in found.steps() if step.origin == "fitted"]
    assert 0 < len(fitted) < len(list(found.steps()))
    assert found.held_out.modules is None and found.held_out.stages is not None


# -- the document --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "measurement"}, "kind is 'measurement', not 'calibration'"),
        ({"schema_version": 2}, "has schema version 2, this ModelMeter reads version 1"),
        ({"surprise": 1}, "surprise"),
        ({"vector": []}, "vector has steps from []"),
        ({"launch_overhead_s": 0}, "launch_overhead_s is 0"),
        ({"origin": "a\nb"}, "origin is no line of text"),
        ({"summaries": {}}, "summaries has nothing"),
        (
            {"launch": {"size": 0, "low": 3, "estimate": 2, "high": 1, "origin": "fitted", "observations": 9}},
            "launch from",
        ),
        ({"launch": {"size": 0, "low": 1, "estimate": 2, "high": 3, "origin": "guess", "observations": 9}}, "guess"),
    ],
)
def test_documents_that_are_none(found: Calibration, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write_json(tmp_path / "c.json", {**json.loads(found.to_json()), **change})
    with pytest.raises(DocumentError) as error:
        load_efficiency(path)
    assert message in str(error.value)


def test_a_plan_is_told_of_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="Calibration"):
        load_efficiency(FILES[0])
    with pytest.raises(DocumentError, match="cannot read"):
        load_efficiency(tmp_path / "missing.json")


def test_a_plan_takes_a_calibration(found: Calibration, tmp_path: Path) -> None:
    path = found.save(tmp_path / "calibration.json")
    efficiency = load_efficiency(path)
    scenario = costed(read_measurements([FILES[0]])[0][0]).scenario
    costs = FAMILY.costs(FAMILY.small_configuration(), scenario)
    assert costs.timed(DEVICE, "eager", efficiency).efficiency == found.origin


def test_captured_steps_are_compared_as_a_whole() -> None:
    """Modules beside a captured step are those of eager steps; its launches cost nothing."""
    (named,), _ = read_measurements([FILES[0]])
    how = evolve(named.measurement.conditions, execution="graph")
    one = costed(evolve(named, measurement=evolve(named.measurement, conditions=how)))
    assert not any(stage == "decode" for stage, _ in one.modules)
    assert {operator.costs.stage for operator in one.operators if not operator.eager} == {"decode"}
    assert one.stages["decode"] > 0

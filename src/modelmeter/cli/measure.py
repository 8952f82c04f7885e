"""``modelmeter measure``: run a model for real on the device that is there, and write down how long it took."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attrs import frozen

from modelmeter.cli.arguments import Flag, Json, Whole
from modelmeter.cli.console import printing, progress, write_text
from modelmeter.cli.scenario_options import ScenarioOptions
from modelmeter.cli.subject import FamilySubject, find_subject
from modelmeter.errors import ConfigurationError, UsageError, require_extra
from modelmeter.families.protocol import Family
from modelmeter.schema.files import check_writable, write_file
from modelmeter.schema.scenario import Scenario

if TYPE_CHECKING:
    from modelmeter.families.bench import Reader
    from modelmeter.schema.measurement import Measurement

MEASUREMENT_FILE = "measurement.json"

DEFAULT_DECODE_STEPS = 8
"""Decode steps with random weights, unless options say otherwise: enough for a median."""

DEFAULT_NEW_TOKENS = 256
"""Tokens that a checkpoint may write, unless options say otherwise."""

_PLACED = ("routing", "device", "devices", "tensor_parallel", "expert_parallel")
_DECIDED_BY_PAGES = ("page", "grid", "text_tokens", "seq_len")

_DEFAULT_SCENARIO = ScenarioOptions()


@frozen
class _Wanted:
    """What to measure: a configuration, a scenario, and the checkpoint to read with."""

    family: Family
    config: Any
    scenario: Scenario
    device: str
    reader: Reader | None = None


def measure(
    subject: str,
    /,
    *pages: Path,
    scenario: ScenarioOptions = _DEFAULT_SCENARIO,
    size: Literal["small", "full"] | None = None,
    weights: Path | None = None,
    prompt: str | None = None,
    warmup: Whole = 1,
    repeats: Whole = 3,
    run_on: Literal["cpu", "cuda"] | None = None,
    threads: Whole | None = None,
    out: Path | None = None,
    as_json: Json = False,
    force: Flag = False,
    quiet: Flag = False,
) -> None:
    """Run a model on the CPU or GPU that is there, and measure stages, forwards and modules.

    Examples:

        modelmeter measure deepseek-ocr --grid 2x1 --out runs/here

        modelmeter measure deepseek-ocr --size full --dtype bfloat16 --decode-steps 32 --execution graph

        modelmeter measure deepseek-ocr page.png --weights path/to/DeepSeek-OCR --max-new-tokens 1024

    Parameters
    ----------
    subject
        A family (deepseek-ocr), or a config.json of one.
    pages
        Page images of one request. With random weights only their sizes count.
    size
        The family's small configuration or its published one; small on a CPU, full on a GPU.
    weights
        Folder with a published checkpoint: config.json, safetensors, tokenizer. It reads the pages.
    prompt
        What to ask of the checkpoint, with `<image>` where the pages go; they come first if nowhere.
        "Free OCR." if not given.
    warmup
        Runs before the measured ones, which are not kept.
    repeats
        Measured runs, of which medians are taken.
    run_on
        cpu, or cuda, which is taken where there is one. On a CPU the dtype is float32 if not given.
    threads
        CPU threads that torch may use; torch decides if not given.
    out
        File (.json) or folder for measurement.json.
    as_json
        Print the measurement to stdout.
    force
        Overwrite a file that exists.
    quiet
        No progress, and no table when --out is given.
    """
    target = _target(out)
    wanted = _wanted(subject, pages, scenario, size, weights, prompt, run_on)
    if target is not None:
        check_writable(target.parent, [target.name], force=force)
    from modelmeter.measuring import measure as measured

    with progress(f"Measuring {subject}", quiet=quiet) as step:
        found = measured(
            wanted.family,
            wanted.config,
            wanted.scenario,
            warmup=warmup,
            repeats=repeats,
            device=wanted.device,
            threads=threads,
            reader=wanted.reader,
            pages=pages,
            progress=step,
        )
    if target is not None:
        write_file(target, found.to_json(), force=force)
    with printing():
        _print(found, target, as_json, quiet)


def _target(out: Path | None) -> Path | None:
    if out is None or (out.suffix.lower() == ".json" and not out.is_dir()):
        return out
    return out / MEASUREMENT_FILE


def _wanted(
    subject: str,
    pages: tuple[Path, ...],
    options: ScenarioOptions,
    size: str | None,
    weights: Path | None,
    prompt: str | None,
    run_on: str | None,
) -> _Wanted:
    """Refuse what contradicts itself, what would do nothing, and a device that is not there."""
    family, config = _family(subject, size, weights)
    _check_options(options, pages, weights, prompt)
    given = options.values(pages)
    Scenario(**given)
    try:
        from modelmeter.measuring import default_device
    except ImportError:
        raise require_extra("trace", "torch") from None
    from modelmeter.measuring.api import bench_of
    from modelmeter.tracing.backends.base import check_device

    device = check_device(run_on or default_device())
    bench = bench_of(family)
    reader = None
    if weights is not None:
        config = _published(weights, family)
        reader = bench.open_reader(config, weights, prompt)
    elif config is None:
        small = size == "small" or (size is None and device == "cpu")
        config = bench.small_configuration() if small else family.default_configuration()
    if device == "cpu":
        given.setdefault("dtype", "float32")  # most CPUs only imitate bfloat16, and take several times as long
    if "decode_steps" not in given:
        given["decode_steps"] = DEFAULT_DECODE_STEPS if reader is None else DEFAULT_NEW_TOKENS - 1
    return _Wanted(family, config, Scenario(**given), device, reader)


def _family(subject: str, size: str | None, weights: Path | None) -> tuple[Family, Any]:
    """The family, and its configuration if the subject is one."""
    found = find_subject(subject)
    if not isinstance(found, FamilySubject):
        raise UsageError(
            f"{subject!r:.80} is no family's configuration, and only families are measured",
            remedy=f"use: modelmeter trace {subject} --backend profiler",
        )
    if subject.lower() == found.family.name:
        if size is not None and weights is not None:
            raise UsageError(f"--size {size} and --weights contradict each other", remedy="leave out --size")
        return found.family, None
    for option, value in (("--size", size), ("--weights", weights)):
        if value is not None:
            raise UsageError(
                f"{option} and the configuration {subject} contradict each other",
                remedy=f"give the family: modelmeter measure {found.family.name} {option} {value}",
            )
    return found.family, found.config


def _check_options(options: ScenarioOptions, pages: tuple[Path, ...], weights: Path | None, prompt: str | None) -> None:
    _refuse(options, _PLACED[:1], "the gate routes by its weights")
    _refuse(options, _PLACED[1:], "a measurement runs on the one device that is there, which --run-on chooses")
    if weights is None:
        if prompt is not None:
            raise UsageError("--prompt is for a checkpoint", remedy="give its folder with --weights")
        return
    _refuse(options, _DECIDED_BY_PAGES, "the page files and the prompt decide it")
    if not pages:
        raise UsageError("--weights reads page files, and there is none", remedy="give page files")


def _refuse(options: ScenarioOptions, keys: tuple[str, ...], reason: str) -> None:
    for key in keys:
        if getattr(options, key) not in (None, ()):
            raise UsageError(f"measure takes no --{key.replace('_', '-')} here: {reason}", remedy="leave it out")


def _published(folder: Path, family: Family) -> Any:
    """The configuration in a checkpoint's folder, which must be of the same family."""
    if not folder.is_dir():
        raise ConfigurationError(f"there is no folder {folder}", remedy="give the folder that holds the checkpoint")
    found = find_subject(str(folder / "config.json"))
    if not isinstance(found, FamilySubject) or found.family is not family:
        raise ConfigurationError(
            f"{folder / 'config.json'} is no configuration of {family.name}", remedy="give a checkpoint of this family"
        )
    return found.config


def _print(found: Measurement, target: Path | None, as_json: bool, quiet: bool) -> None:
    if as_json:
        write_text(found.to_json())
        return
    if not quiet or target is None:
        from modelmeter.render.measurement import measurement_view
        from modelmeter.render.terminal import console

        console().print(measurement_view(found))
        if found.text is not None:
            write_text(f"\n{found.text}\n")
    if target is not None and not quiet:
        print(f"Wrote {target}")

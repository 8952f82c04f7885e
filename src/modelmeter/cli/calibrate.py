"""``modelmeter calibrate``: efficiencies fitted to measurements, and how well they predict others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from modelmeter.cli.arguments import Flag, Json, Whole
from modelmeter.cli.console import printing, progress, write_text
from modelmeter.cli.devices import DeviceFiles
from modelmeter.schema.files import check_writable, write_file

CALIBRATION_FILE = "calibration.json"

HeldOut = Annotated[tuple[Path, ...], Parameter(negative_iterable=())]
"""Measurements to keep out of the fit, one for each time that the option is given."""


def calibrate(
    *measurements: Path,
    device: str | None = None,
    device_file: DeviceFiles = (),
    hold_out: HeldOut = (),
    hold_out_every: Whole | None = None,
    out: Path | None = None,
    as_json: Json = False,
    force: Flag = False,
    quiet: Flag = False,
) -> None:
    """Fit efficiencies and launch overhead to measurements of a device; some are held out to check the fit.

    Examples:

        modelmeter calibrate runs/a.json runs/b.json runs/c.json --device h200 --out calibration.json

        modelmeter calibrate runs/measurements --device-file my-card.yaml --hold-out runs/measurements/large.json

    Parameters
    ----------
    measurements
        Files that "modelmeter measure" wrote, or folders of them, all of one device.
    device
        Id of the device whose peaks the efficiencies are of; known by the measured device's name if not given.
    device_file
        Your own device file, JSON or YAML, or a folder of them; repeatable. A single one is the device.
    hold_out
        A measurement to keep out of the fit and to predict; repeatable.
    hold_out_every
        Keep every so many-th measurement by name out of the fit; 4 if nothing is said.
    out
        File (.json) or folder for calibration.json.
    as_json
        Print the calibration to stdout.
    force
        Overwrite a file that exists.
    quiet
        No progress, and no table when --out is given.
    """
    from modelmeter.planning.calibration import calibrate as fitted
    from modelmeter.planning.calibration import calibrated_device, read_measurements

    target = _target(out)
    named, held_out = read_measurements(measurements, hold_out)
    if target is not None:
        check_writable(target.parent, [target.name], force=force)
    chosen = calibrated_device(named[0].measurement.device, device, device_file)
    with progress("Calibrating", quiet=quiet) as step:
        step(f"{len(named)} measurements")
        found = fitted(named, chosen, held_out=sorted(held_out), every=hold_out_every)
    if target is not None:
        write_file(target, found.to_json(), force=force)
    with printing():
        if as_json:
            write_text(found.to_json())
            return
        if not quiet or target is None:
            from modelmeter.render.calibration import calibration_view
            from modelmeter.render.terminal import console

            console().print(calibration_view(found))
        if target is not None and not quiet:
            print(f"Wrote {target}")


def _target(out: Path | None) -> Path | None:
    if out is None or (out.suffix.lower() == ".json" and not out.is_dir()):
        return out
    return out / CALIBRATION_FILE

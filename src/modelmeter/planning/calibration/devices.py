"""Which device of the catalogue the measurements are of: asked for, the user's only one, or known by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from modelmeter.cost.catalogue import device_files, find_device, load_catalogue, read_device
from modelmeter.errors import UsageError
from modelmeter.schema.device import Device
from modelmeter.schema.measurement import MeasuredDevice

MEMORY_TOLERANCE = 0.1
"""Drivers and error correction keep up to a few per cent of what is sold; cards of a name differ by more."""

_WORDS = re.compile(r"[a-z0-9+]+")
_SIZES = re.compile(r"\b\d+ ?gb\b|\b\d+-core\b|\(.*?\)")
_GENERATION = re.compile(r"\bsxm[0-9]\b")

# Words that a driver's name has more than the catalogue's, and that make no other device of it.
_MORE = {"nvidia", "amd", "intel", "tesla", "geforce", "instinct", "graphics", "processor", "cpu", "sxm", "pcie"}
_MORE |= {"hbm2", "hbm2e", "hbm3", "hbm3e", "server", "edition"}


def calibrated_device(measured: MeasuredDevice, device_id: str | None, extra: Sequence[Path]) -> Device:
    """The device whose peaks the shares are of.

    ``device_id`` wins; else it is the only device of the user's files, or the only one that the measured
    name fits. Raises UsageError where none or several are left, UnknownNameError for an unknown id.
    """
    if device_id is not None:
        found = find_device(device_id, extra)
        if found.kind != measured.kind:
            raise UsageError(
                f"{device_id} is a {found.kind}, and the measurements are of the {measured.kind} {measured.name!r:.80}",
                remedy=_remedy(measured),
            )
        return found
    own = [read_device(path) for path in device_files(extra)]
    if len(own) == 1:
        return calibrated_device(measured, own[0].id, extra)
    fitting = matching(measured, load_catalogue(extra))
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(device.id for device in fitting)
        raise UsageError(
            f"the measured device {measured.name!r:.80} may be {names}", remedy="say which with --device ID"
        )
    raise UsageError(
        f"no device of the catalogue is called {measured.name!r:.80} ({measured.kind})", remedy=_remedy(measured)
    )


def matching(measured: MeasuredDevice, catalogue: Mapping[str, Device]) -> list[Device]:
    """Devices that a driver's name can stand for: every word that matters is in both, and the memory fits."""
    words = _words(measured.name)
    numbered = {word for word in words if any(letter.isdecimal() for letter in word)}
    best: list[Device] = []
    most = 0
    for device in catalogue.values():
        names = _words(device.name)
        if (
            device.kind != measured.kind
            or not numbered & names
            or (words ^ names) - _MORE
            or not _fits(measured, device)
        ):
            continue
        common = len(names & words)
        if common >= most:
            best = [*(best if common == most else []), device]
            most = common
    return best


def _fits(measured: MeasuredDevice, device: Device) -> bool:
    """Whether a card has the memory that the driver shows; a processor has what was put beside it."""
    if measured.kind != "gpu" or measured.memory_bytes is None:
        return True
    return abs(measured.memory_bytes / device.memory_bytes - 1) <= MEMORY_TOLERANCE


def _words(name: str) -> set[str]:
    plain = _SIZES.sub(" ", name.lower().replace("(r)", " ").replace("(tm)", " "))
    return set(_WORDS.findall(_GENERATION.sub("sxm", plain.replace("-sxm", " sxm"))))


def _remedy(measured: MeasuredDevice) -> str:
    like, figures = "h100-sxm", "the figures of its data sheet"
    if measured.kind == "cpu":
        like = "epyc-9654"
        figures = (
            f"the figures of what ran the {measured.threads} thread{'s' if measured.threads != 1 else ''} "
            "(cores x clock x width of the multiply-add units; bandwidth)"
        )
    return (
        f"print one like it with 'modelmeter devices {like} --json', put in {figures}, and give the file with "
        "--device-file; or name another with --device ID"
    )

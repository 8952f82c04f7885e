"""``modelmeter devices``: the device catalogue, and where its figures come from."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from modelmeter.cli.arguments import Json
from modelmeter.cli.console import printing, write_text

DeviceFiles = Annotated[tuple[Path, ...], Parameter(negative_iterable=())]
"""Device files and folders of the user, one for each time that the option is given."""


def devices(device: str | None = None, /, *, device_file: DeviceFiles = (), as_json: Json = False) -> None:
    """List the devices that plans can be made for, or show one with the source of every figure.

    Examples:

        modelmeter devices

        modelmeter devices h100-sxm

        modelmeter devices my-card --device-file my-card.yaml

    Parameters
    ----------
    device
        Id of a device to show; all are listed without one.
    device_file
        Your own device file, JSON or YAML, or a folder of them; repeatable. They add devices or replace those of
        the same id. MODELMETER_DEVICES names such files as well.
    as_json
        Print the devices as JSON; that of one device is a device file.
    """
    from modelmeter.cost.catalogue import find_device, load_catalogue
    from modelmeter.cost.device_check import check_device

    one = find_device(device, device_file) if device is not None else None
    shown = list(load_catalogue(device_file).values()) if one is None else [one]
    with printing():
        if as_json:
            answer = {"devices": [found.to_data() for found in shown]} if one is None else one.to_data()
            write_text(json.dumps(answer, indent=1, ensure_ascii=False) + "\n")
        else:
            from modelmeter.render.devices import catalogue_view, device_view
            from modelmeter.render.terminal import console

            view = catalogue_view(shown) if one is None else device_view(one)
            console().print(view, crop=False)
    for found in shown:
        for problem in check_device(found):
            print(f"modelmeter: warning: {found.id}: {problem}", file=sys.stderr)

"""TorchLens' module passes as entries and exits of a call log, with the shapes of its operations."""

from __future__ import annotations

import re
from typing import Any

import torch

from modelmeter.tracing.backends.calls import CallLog
from modelmeter.tracing.modules import ModuleIds
from modelmeter.tracing.signatures import CACHE_ARGUMENTS, SignatureKey, TensorKey, argument_names

UNNAMED = ""
"""The argument of a tensor within a list or mapping: TorchLens does not say which."""

_DTYPES = {str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}


def log_passes(stream: Any, log: CallLog, ids: ModuleIds) -> None:
    """Replay the module passes of a TorchLens event stream, in order, within the root's call."""
    operations = stream.op_event_by_label_raw
    entries = [(event.seq, event, True) for event in stream.module_enter_events]
    exits = [(event.seq, event, False) for event in stream.module_exit_events]
    left = {event.call_label for _, event, _ in exits}
    for _, event, entering in sorted([*entries, *exits], key=lambda item: item[0]):
        if event.call_label not in left:
            continue  # left by an exception that the model caught: TorchLens keeps no end of it
        name = ids.by_name[event.address]
        if entering:
            log.enter(name, _inputs(event, operations, argument_names(ids.modules[name].forward)))
        else:
            log.exit(name, _outputs(event, operations))


def _inputs(event: Any, operations: Any, names: tuple[str, ...]) -> SignatureKey:
    keys: list[TensorKey] = []
    named = set()
    for label, place in event.layer_argnames:
        named.add(label)
        argument = names[place] if isinstance(place, int) and place < len(names) else str(place)
        keys += _tensor(label, argument, operations)
    for label in event.input_labels:
        if label not in named:
            keys += _tensor(label, UNNAMED, operations)
    return tuple(keys), ()


def _outputs(event: Any, operations: Any) -> SignatureKey:
    keys: list[TensorKey] = []
    paths = event.output_paths or ((),) * len(event.output_tensor_labels_raw)
    for label, path in zip(event.output_tensor_labels_raw, paths, strict=True):
        steps = [_step(step) for step in path]
        if not any(step.removeprefix(".") in CACHE_ARGUMENTS for step in steps):  # no part of a signature
            keys += _tensor(label, "output" + "".join(steps), operations)
    return tuple(keys), ()


def _tensor(label: str, argument: str, operations: Any) -> list[TensorKey]:
    seen = operations[label].output.tensor
    return [(argument, tuple(seen.shape), _DTYPES[str(seen.dtype)])]


def _step(step: Any) -> str:
    """One step into a container, as signatures write it: ``[0]`` or ``.key``."""
    for attribute in ("index", "key", "name"):
        if hasattr(step, attribute):
            value = getattr(step, attribute)
            return f"[{value}]" if isinstance(value, int) else f".{value}"
    return f".{re.sub(r'[^A-Za-z0-9_]', '', str(step))}"

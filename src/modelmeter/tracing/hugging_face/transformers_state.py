"""What a snapshot's code may register with transformers, put back afterwards.

A second trace in the same process would otherwise meet the first one's names, which transformers refuses.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

_AUTO = (
    "transformers.models.auto.configuration_auto",
    "transformers.models.auto.modeling_auto",
)

_TABLES = (
    ("transformers.pytorch_utils", "ALL_LAYERNORM_LAYERS"),
    ("transformers.modeling_rope_utils", "ROPE_INIT_FUNCTIONS"),
    ("transformers.activations", "ACT2FN"),
    ("transformers.modeling_utils", "ALL_ATTENTION_FUNCTIONS"),
    ("transformers.masking_utils", "ALL_MASK_ATTENTION_FUNCTIONS"),
)
"""Lists, dictionaries and registries that vendors' code adds to; some releases lack some of them."""


@contextmanager
def transformers_as_it_was() -> Iterator[None]:
    """For the time of a block transformers takes registrations; afterwards it has those from before."""
    for module in (*_AUTO, *(module for module, _ in _TABLES)):
        with suppress(ImportError):  # of another release
            import_module(module)
    kept = [(table, _content(table)) for table in _tables()]
    try:
        yield
    finally:
        for table, before in kept:
            _restore(table, before)


def _content(table: Any) -> Any:
    """A plain copy: some tables make an object of each entry that is read."""
    if isinstance(table, list):
        return list(table)
    return {key: dict.__getitem__(table, key) for key in table}


def _restore(table: Any, before: Any) -> None:
    if isinstance(table, list):
        table[:] = before
        return
    for key in [key for key in table if key not in before]:
        del table[key]
    for key, value in before.items():
        if key not in table or dict.__getitem__(table, key) is not value:
            table[key] = value


def _tables() -> list[Any]:
    """The mutable tables themselves, each once."""
    found: dict[int, Any] = {}
    for module in _AUTO:
        for value in list(vars(sys.modules[module]).values()):
            added = getattr(value, "_extra_content", None)
            if isinstance(added, dict):
                found[id(added)] = added
    for module, name in _TABLES:
        value = getattr(sys.modules.get(module), name, None)
        for table in (value, getattr(type(value), "_global_mapping", None), getattr(value, "_local_mapping", None)):
            if isinstance(table, (list, dict)):
                found[id(table)] = table
    return list(found.values())

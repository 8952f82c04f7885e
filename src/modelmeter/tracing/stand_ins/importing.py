"""An ``import`` that finds the stand-ins' packages: for the code that is given it, and for no other.

``sys.modules`` is not touched: a library that is imported meanwhile asks for the same packages, finds what is
really there, and keeps nothing of a trace.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Import = Callable[..., Any]
"""What ``builtins.__import__`` is."""


@contextmanager
def standing_in() -> Iterator[Import]:
    """The ``__import__`` for a module's builtins; after the block it finds no stand-ins any more."""
    modules = _modules()
    packages = {name.partition(".")[0] for name in modules}
    plain = builtins.__import__

    def find(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        top = name.partition(".")[0]
        if level or top not in packages or not modules:
            return plain(name, globals, locals, fromlist or (), level)
        found = modules.get(name)
        if found is None:
            raise ModuleNotFoundError(f"no stand-in for the module {name!r}", name=name)
        return found if fromlist else modules[top]

    try:
        yield find
    finally:
        modules.clear()


def _modules() -> dict[str, ModuleType]:
    """All stand-in modules by name, each also an attribute of its parent."""
    from modelmeter.tracing.stand_ins import flash_attn, mamba, xformers

    found: dict[str, ModuleType] = {}
    for contents in (flash_attn.MODULES, xformers.MODULES, mamba.MODULES):
        for name, content in contents.items():
            module = found[name] = ModuleType(name, "A stand-in by ModelMeter.")
            module.__spec__ = ModuleSpec(name, None)
            module.__path__ = []
            vars(module).update(content)
            parent, _, last = name.rpartition(".")
            if parent:
                setattr(found[parent], last, module)
    return found

"""A snapshot's folder as a Python package, for the time of a block.

The files are imported from where they lie by Python's own import system: nothing is copied into a cache and no
bytecode is written. (transformers' own loader copies them into a folder that is fixed for the process, and its
older releases cannot import from folders with a dot in their name.) The package is called as transformers
calls it, ``transformers_modules.FOLDER``.
"""

from __future__ import annotations

import builtins
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from modelmeter.tracing.stand_ins import Import

PARENT = "transformers_modules"
"""The package that all snapshots' packages are in."""


class _Loader(SourceFileLoader):
    """Runs a file of the snapshot with an ``import`` of its own, and writes no bytecode beside it."""

    importer: Any = None

    def set_data(self, path: Any, data: Any, *, _mode: int = 0o666) -> None:
        """Keep the snapshot's folder as it is."""

    def exec_module(self, module: ModuleType) -> None:
        # Only these files see the stand-ins for kernels: a library that is imported meanwhile must not.
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": self.importer}
        super().exec_module(module)


class _Finder:
    """Finds the modules of one package in its own folder, without the caches of ``sys.path``'s finders."""

    def __init__(self, package: str, loader: type[_Loader]) -> None:
        self._inside = f"{package}."
        self._loader = loader

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        if not name.startswith(self._inside):
            return None
        for entry in path or ():
            spec = FileFinder(entry, (self._loader, [".py"])).find_spec(name)
            if spec is not None:
                return spec
        return None


@contextmanager
def snapshot_package(folder: Path, importer: Import) -> Iterator[str]:
    """The folder as a package, whose name the block gets; ``sys.modules`` is afterwards as it was.

    ``importer`` is what ``import`` does in its files.
    """
    name = f"{PARENT}.{re.sub(r'[^0-9A-Za-z_]', '_', folder.resolve().name)}"
    before = {key: module for key, module in sys.modules.items() if _is_below(key, PARENT)}
    path_before = list(sys.path)
    for key in before:
        del sys.modules[key]
    finder = _Finder(name, type("_SnapshotLoader", (_Loader,), {"importer": staticmethod(importer)}))
    try:
        for key in (PARENT, name):
            module = ModuleType(key)
            module.__path__ = [str(folder.resolve())] if key == name else []
            sys.modules[key] = module
        sys.meta_path.insert(0, finder)
        yield name
    finally:
        sys.meta_path[:] = [other for other in sys.meta_path if other is not finder]
        sys.path[:] = path_before
        for left in [module for module in sys.modules if _is_below(module, PARENT)]:
            del sys.modules[left]
        sys.modules.update(before)


@contextmanager
def parts_of(package: str) -> Iterator[None]:
    """transformers looks for the classes of a model's parts (``AutoModel.from_config(part)``) in the same files."""

    def find(reference: str, *_: Any, **__: Any) -> Any:
        module, class_name = reference.rpartition("--")[2].rsplit(".", 1)
        return getattr(import_module(f"{package}.{module}"), class_name)

    with ExitStack() as stack:
        for name in ("auto_factory", "configuration_auto"):
            library = import_module(f"transformers.models.auto.{name}")
            stack.enter_context(mock.patch.object(library, "get_class_from_dynamic_module", find))
        yield


def _is_below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")

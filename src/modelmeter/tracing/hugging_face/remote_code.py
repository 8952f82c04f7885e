"""Code that a snapshot brings with it: refused until it is trusted, then imported for the time of one trace.

Afterwards its modules are gone, and so is what the code registered with transformers.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attrs import frozen

from modelmeter.errors import (
    ConfigurationError,
    MissingDependencyError,
    TracingError,
    UsageError,
    require_extra,
)
from modelmeter.tracing.devices import pretend_gpu
from modelmeter.tracing.hugging_face.flash_parts import flash_becomes_sdpa
from modelmeter.tracing.hugging_face.snapshot_package import PARENT, parts_of, snapshot_package
from modelmeter.tracing.hugging_face.transformers_state import transformers_as_it_was
from modelmeter.tracing.stand_ins import standing_in

_PREFERRED = (
    "AutoModelForCausalLM",
    "AutoModelForConditionalGeneration",
    "AutoModelForImageTextToText",
    "AutoModelForVision2Seq",
    "AutoModelForSeq2SeqLM",
    "AutoModel",
)
"""Which of several models is traced, where the configuration does not name its architecture."""


_OF_RELEASES = (ImportError, AttributeError, TypeError, LookupError, AssertionError)
"""What code raises that meets another release of a library than it was written for."""


@frozen
class SnapshotCode:
    """A folder's own classes: what ``auto_map`` calls them (``AutoModel``) to ``file.Class``."""

    name: str
    folder: Path
    classes: Mapping[str, str]
    written_for: str = ""
    """The release of transformers that wrote the configuration; empty if it does not say."""

    def files(self) -> list[str]:
        """The files that would run, those of the classes first, then what they import from the folder."""
        waiting = sorted({place.rpartition(".")[0].replace(".", "/") + ".py" for place in self.classes.values()})
        found: list[str] = []
        while waiting:
            file = waiting.pop(0)
            if file not in found:
                found.append(file)
                waiting += _siblings(self.folder, file)
        return found

    def refusal(self) -> UsageError:
        """Says which files and classes would run, and where they are."""
        classes = sorted({place.rpartition(".")[2] for place in self.classes.values()})
        return UsageError(
            f"{self.name} is made by code of its own, {', '.join(classes)} in {', '.join(self.files())} "
            f"of {self.folder}, which would run here with your rights",
            remedy="read it, then add --trust-remote-code",
        )


@frozen
class SnapshotClasses:
    """The imported classes of a snapshot; None where it has none of its own."""

    config: Any
    models: Mapping[str, Any]

    def model(self, architectures: Sequence[str] | None) -> Any:
        """The class that the configuration names first, or the preferred one of those that are there."""
        named = {model.__name__: model for model in self.models.values()}
        for name in (architectures or [])[:1]:
            if name in named:
                return named[name]
            for model in named.values():  # beside a class of the map, without being in it
                beside = getattr(sys.modules[model.__module__], name, None)
                if isinstance(beside, type):
                    return beside
        for kind in (*_PREFERRED, *sorted(self.models)):
            if kind in self.models:
                return self.models[kind]
        return None


def snapshot_code(source: Mapping[str, Any], name: str, folder: Path | None) -> SnapshotCode | None:
    """What a configuration says of code of its own; None if nothing.

    Raises ConfigurationError for a map that is none, code in another repository, or files that are missing.
    """
    written = source.get("auto_map")
    if not written:
        return None
    if not isinstance(written, Mapping):
        raise ConfigurationError(f"{name}: auto_map is {written!r:.80}", remedy="give class names to file.Class")
    classes = {kind: place for kind, place in written.items() if _is_traced(kind)}
    if not classes:
        return None
    for kind, place in classes.items():
        if not isinstance(place, str) or not re.fullmatch(r"([\w./-]+--)?\w+(\.\w+)+", place):
            raise ConfigurationError(f"{name}: auto_map has {kind} as {place!r:.80}", remedy="give file.Class")
    if folder is None:
        raise ConfigurationError(
            f"{name} is made by code of its own, which is not here", remedy="trace it anew from the snapshot's folder"
        )
    # A place may say whose code it was before it was copied: repository--file.Class.
    classes = {kind: place.rpartition("--")[2] for kind, place in classes.items()}
    code = SnapshotCode(name, folder, classes, str(source.get("transformers_version") or ""))
    for file in code.files():
        if not (folder / file).is_file():
            raise ConfigurationError(
                f"{name} is made by code of its own, and {file} is not in {folder}",
                remedy="put all files of the snapshot there; weights are not needed",
            )
    return code


def _is_traced(kind: Any) -> bool:
    """Tokenizers and processors do not run in a trace."""
    return kind == "AutoConfig" or (isinstance(kind, str) and kind.startswith("AutoModel"))


def _siblings(folder: Path, file: str) -> list[str]:
    """Files of the folder that a file imports, from the top level and inside functions; one that has to exist."""
    try:
        tree = ast.parse((folder / file).read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return []  # reported when it is imported
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = Path(file).parents[node.level - 1] if node.level <= len(Path(file).parents) else Path()
            if node.module:
                base /= node.module.replace(".", "/")
            if node.module and not (folder / base).is_dir():
                found.add(f"{base.as_posix()}.py")
            else:
                files = [(base / name).as_posix() for name in ("__init__.py", *(f"{a.name}.py" for a in node.names))]
                found |= {name for name in files if (folder / name).is_file()}
    return sorted(found)


def is_own_code(module: object) -> bool:
    """Whether an object's class is a snapshot's own."""
    return type(module).__module__.startswith(f"{PARENT}.")


@contextmanager
def snapshot_classes(
    source: Mapping[str, Any], name: str, folder: Path | None, *, trusted: bool, weightless: bool = True
) -> Iterator[SnapshotClasses | None]:
    """The classes that a snapshot brings, importable for the time of a block; None if the library's own do.

    Code that is not trusted is not run: where transformers has the architecture itself, that is taken, as
    transformers does; elsewhere UsageError says what would run. With ``weightless`` guards that ask for a GPU
    while the code is imported find one. Raises MissingDependencyError for packages that the code imports and
    that are not installed, and TracingError for what else it raises.
    """
    code = None if not trusted and _known_to_library(source) else snapshot_code(source, name, folder)
    if code is None:
        if trusted:
            raise UsageError(f"{name} brings no code of its own", remedy="leave out --trust-remote-code")
        yield None
        return
    if not trusted:
        raise code.refusal()
    with ExitStack() as stack:
        stack.enter_context(transformers_as_it_was())
        stack.enter_context(flash_becomes_sdpa())
        importer = stack.enter_context(standing_in())
        package = stack.enter_context(snapshot_package(code.folder, importer))
        stack.enter_context(parts_of(package))
        try:
            with pretend_gpu() if weightless else nullcontext():
                classes = _imported(code, package)
            yield classes
        except (TracingError, ConfigurationError) as error:
            error.remedy = _other_release(code, error.__cause__) or error.remedy
            raise


def _known_to_library(source: Mapping[str, Any]) -> bool:
    """Whether transformers has the configuration's type, and the architecture if it names one."""
    try:
        import transformers
    except ImportError:
        raise require_extra("trace", "transformers") from None
    kind, names = source.get("model_type"), source.get("architectures")
    first = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else None
    known = isinstance(kind, str) and kind in transformers.CONFIG_MAPPING
    return known and (first is None or hasattr(transformers, first))


def _imported(code: SnapshotCode, package: str) -> SnapshotClasses:
    found: dict[str, Any] = {}
    for kind, place in sorted(code.classes.items()):
        module_name, _, class_name = place.rpartition(".")
        try:
            module = import_module(f"{package}.{module_name}")
        except ImportError as error:
            top = (error.name or "").partition(".")[0]
            if not top or top in (PARENT, "transformers") or find_spec(top) is not None:
                raise _failed(code, module_name, error) from error
            raise MissingDependencyError(
                f"{module_name}.py of {code.name} needs the package {top!r}, which is not installed: {error}",
                remedy=f"install it with: pip install {top.replace('_', '-')}",
            ) from error
        except (Exception, SystemExit) as error:
            raise _failed(code, module_name, error) from error
        try:
            found[kind] = getattr(module, class_name)
        except AttributeError:
            raise ConfigurationError(
                f"{code.name}: auto_map has {kind} as {place}, and {module_name}.py has no {class_name}",
                remedy="correct auto_map",
            ) from None
    config = found.pop("AutoConfig", None)
    return SnapshotClasses(config, found)


def _failed(code: SnapshotCode, module_name: str, error: BaseException) -> TracingError:
    text = " ".join(str(error).split()) or "no message"
    return TracingError(
        f"importing {module_name}.py of {code.name} raised {type(error).__name__}: {text}",
        remedy=_other_release(code, error) or "check the snapshot's code",
    )


def _other_release(code: SnapshotCode, error: BaseException | None) -> str:
    """What to do where another release of transformers may be the cause; empty where it is not."""
    import transformers

    here = transformers.__version__
    if not isinstance(error, _OF_RELEASES):
        return ""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] != "transformers":
        return ""
    if not code.written_for or code.written_for.split(".")[:2] == here.split(".")[:2]:
        return ""
    return f"its code was written for transformers {code.written_for}, and this is {here}: try it with that release"

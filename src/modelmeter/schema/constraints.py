"""What a field's type alone does not say: ``Annotated[int, AtLeast(0)]``, ``Annotated[str, OneOf(...)]``.

To a type checker such a field has its plain type; the codec refuses what the constraint refuses, with the
place of the value, and the published JSON Schemas show the constraint.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from attrs import fields_dict, frozen, resolve_types
from cattrs import Converter
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    IterableValidationError,
    IterableValidationNote,
)

from modelmeter.errors import UnknownNameError


class Key(str):
    """A key of an object whose keys are no fields."""

    __slots__ = ()


Step = str | int
"""One step into a document: a field's name, a ``Key``, or an index."""

MOST_LEVELS = 200
"""Objects and lists in one another that plain data may have: deeper ones would end the reader's stack."""


class WrongValueError(ValueError):
    """A value that its field cannot have."""


class WrongTypeError(WrongValueError):
    """A value of another type than its field's."""

    def __init__(self, expected: str, value: Any) -> None:
        super().__init__(f"expected {expected}, got {type(value).__name__} {value!r:.40}")


@frozen
class OneOf:
    """One of some names."""

    names: tuple[str, ...]

    def check(self, value: Any, made: Converter) -> Any:
        """The value, if it is one of them."""
        if value not in self.names:
            raise WrongValueError(f"expected one of {', '.join(self.names)}, got {value!r:.40}")
        return value


@frozen
class AtLeast:
    """A number that is not smaller."""

    minimum: int

    def check(self, value: Any, made: Converter) -> Any:
        """The value, if it is large enough."""
        if value < self.minimum:
            raise WrongValueError(f"expected a number of at least {self.minimum}, got {value!r:.40}")
        return value


@frozen
class Written:
    """Text in a certain form; the expression is one that Python and JSON Schema read alike."""

    pattern: str
    expected: str

    def check(self, value: Any, made: Converter) -> Any:
        """The value, if it has the form."""
        if not re.fullmatch(self.pattern, value):
            raise WrongValueError(f"expected {self.expected}, got {value!r:.60}")
        return value


@frozen
class PlainData:
    """Data that JSON can hold: no tuples, no numbers that are not finite, no keys but text."""

    def check(self, value: Any, made: Converter) -> Any:
        """The value, if all in it is plain."""
        _check_plain(value, MOST_LEVELS)
        return value


@frozen
class KeysOf:
    """Some of a class's fields, each as the class would take it. Which were given is known, unlike with the class."""

    cls: type

    def check(self, value: Any, made: Converter) -> Any:
        """The value, if every key is a field's and every value fits it."""
        known: Any = fields_dict(resolve_types(self.cls))
        errors: list[Exception] = []
        for key, given in value.items():
            try:
                if key not in known:
                    raise WrongValueError(str(UnknownNameError("key", str(key)[:60], known)))
                taken = made.get_structure_hook(known[key].type)(given, known[key].type)
                if known[key].validator is not None:
                    known[key].validator(None, known[key], taken)
            except Exception as error:
                errors.append(_noted(error, str(key)))
        if errors:
            raise ClassValidationError(f"keys of {self.cls.__name__}", errors, self.cls)
        return value


CONSTRAINTS = (OneOf, AtLeast, Written, PlainData, KeysOf)


def misplaced(problems: list[tuple[tuple[Step, ...], str]], cls: type) -> ClassValidationError:
    """One error for several places in a document, as the codec's own are; every path begins with a field."""
    errors = []
    for path, message in problems:
        error: Exception = WrongValueError(message)
        for step in reversed(path[1:]):
            inner = [_noted(error, step)]
            by_name = isinstance(step, str) and not isinstance(step, Key)
            error = ClassValidationError("", inner, cls) if by_name else IterableValidationError("", inner, cls)
        errors.append(_noted(error, path[0]))
    return ClassValidationError(f"checks of {cls.__name__}", errors, cls)


def _noted(error: Exception, step: Step) -> Exception:
    if isinstance(step, str) and not isinstance(step, Key):
        error.add_note(AttributeValidationNote(f"at {step}", step, object))
    else:
        index = str(step) if isinstance(step, str) else step
        error.add_note(IterableValidationNote(f"at {step!r}", index, object))
    return error


def _check_plain(value: Any, levels: int) -> None:
    kind = type(value)
    if value is None or kind in (bool, int, str):
        if kind is str and not value.isascii():
            _check_text(value)
        return
    if kind is float:
        if value != value or value in (float("inf"), float("-inf")):
            raise WrongTypeError("a finite number", value)
        return
    if kind not in (list, dict):
        raise WrongTypeError("plain data (null, true, numbers, text, lists, objects)", value)
    if not levels:
        raise WrongValueError(f"expected at most {MOST_LEVELS} lists and objects in one another")
    errors: list[Exception] = []
    pairs: Any = value.items() if kind is dict else enumerate(value)
    for key, item in pairs:
        try:
            if kind is dict and type(key) is not str:
                raise WrongTypeError("text as a key", key)
            _check_plain(item, levels - 1)
        except (ValueError, IterableValidationError) as error:
            errors.append(_noted(error, Key(key) if isinstance(key, str) else key))
    if errors:
        raise IterableValidationError("plain data", errors, kind)


def _check_text(value: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise WrongValueError(f"expected text, got half of a surrogate pair in {value!r:.40}") from None


def constrained(base: Callable[[Any, Any], Any], of: Any, constraints: list[Any], made: Converter) -> Any:
    """A structure hook: the base type's own, then every constraint."""

    def structure(value: Any, _: Any) -> Any:
        taken = base(value, of)
        for constraint in constraints:
            taken = constraint.check(taken, made)
        return taken

    return structure

"""Closed forms worked out in a process of its own in which torch cannot be imported."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from attrs import frozen

from modelmeter.errors import InternalError, ModelMeterError
from modelmeter.schema.cost import CostTree
from modelmeter.schema.scenario import Scenario

FORBIDDEN = ("torch", "transformers")
"""What a closed form must not need."""


@frozen
class Question:
    """A configuration of a family and the scenarios to work out."""

    family: str
    config: Any
    scenarios: tuple[Scenario, ...]


class ClosedSide:
    """Works out a question beside this process; ``answer`` waits for it."""

    def __init__(self, question: Question) -> None:
        program = "from modelmeter.families.without_torch import answer_stdin; answer_stdin()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._process.stdin is not None
        self._process.stdin.write(pickle.dumps(question))
        self._process.stdin.close()
        self._process.stdin = None

    def answer(self) -> list[CostTree]:
        """The cost tree of every scenario, in their order."""
        out, errors = self._process.communicate()
        if self._process.returncode:
            lines = errors.decode(errors="replace").strip().splitlines() or ["no message"]
            raise InternalError(f"the closed forms failed: {lines[-1]}", remedy="please report this")
        result = pickle.loads(out)
        if isinstance(result, ModelMeterError):
            raise result
        trees: list[CostTree] = result
        return trees

    def stop(self) -> None:
        """Give up: nobody will ask for the answer."""
        self._process.kill()
        self._process.communicate()


def answer(question: Question) -> list[CostTree]:
    """The cost trees of a question, in this process."""
    from modelmeter.families.registry import get_family

    family = get_family(question.family)
    return [family.costs(question.config, scenario).tree() for scenario in question.scenarios]


class _Refusal:
    """An import hook that knows none of the forbidden packages."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        if name.partition(".")[0] in FORBIDDEN:
            raise ImportError(f"{name} must not be needed by a closed form")


def answer_stdin() -> None:
    """Read a question from stdin and write its answer to stdout, without torch."""
    sys.meta_path.insert(0, _Refusal())
    question = pickle.loads(sys.stdin.buffer.read())
    result: object
    try:
        result = answer(question)
    except ModelMeterError as error:
        result = error
    assert not set(FORBIDDEN) & set(sys.modules)
    sys.stdout.buffer.write(pickle.dumps(result))

"""The options of a Hugging Face configuration: what is changed in it, and what goes in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from attrs import evolve, frozen
from cyclopts import Parameter

from modelmeter.cli.arguments import Flag
from modelmeter.cli.subject import HuggingFaceSubject, Subject
from modelmeter.errors import UsageError

Pairs = Annotated[tuple[str, ...], Parameter(name="--set", negative_iterable=())]
"""KEY=VALUE, one for each time that the option is given."""


@Parameter(name="*")
@frozen(kw_only=True)
class HuggingFaceOptions:
    """Hugging Face: changes of a configuration, and its inputs."""

    overrides: Pairs = ()
    "Key of the configuration with its new value, KEY=VALUE; dots reach into its parts; repeatable."
    inputs: Path | None = None
    "YAML file of your own inputs: argument names with shape and dtype."
    experts: Literal["eager", "grouped_mm", "batched_mm"] | None = None
    "How routed experts run: one by one, or all in one operator; the library's choice if not given."
    trust_remote_code: Flag = False
    "Run the code that a snapshot's folder brings with it, where auto_map names some."

    def applied(self, found: Subject) -> Subject:
        """The subject with these options; UsageError for a subject that they mean nothing for."""
        given = [
            name
            for name, value in (
                ("--set", self.overrides),
                ("--inputs", self.inputs),
                ("--experts", self.experts),
                ("--trust-remote-code", self.trust_remote_code),
            )
            if value
        ]
        if not given:
            return found
        if not isinstance(found, HuggingFaceSubject):
            words = "is" if len(given) == 1 else "are"
            raise UsageError(f"{' and '.join(given)} {words} for Hugging Face configurations", remedy="leave it out")
        own = None
        if self.inputs is not None:
            from modelmeter.tracing.hugging_face.own_inputs import read_own_inputs

            own = read_own_inputs(self.inputs)
        return evolve(
            found,
            overrides=_overrides(self.overrides),
            own=own,
            experts=self.experts,
            trust_remote_code=self.trust_remote_code,
        )


def _overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """Values as JSON where they are JSON, else as text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip("."):
            raise UsageError(f"--set {pair!r} sets nothing", remedy="give KEY=VALUE, as in num_hidden_layers=8")
        if key in found:
            raise UsageError(f"--set gives {key} twice", remedy="give it once")
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found

"""Which back end traces, and what it may be told; refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attrs import field, frozen

from modelmeter.errors import UsageError

if TYPE_CHECKING:
    from modelmeter.tracing.backends import Backend

BackendName = Literal["native", "hooks", "torchlens", "profiler"]

_SETTINGS = {
    "native": ("tensor_details", "forward_operators", "training", "no_replay"),
    "hooks": ("run_on",),
    "torchlens": ("run_on", "drawings"),
    "profiler": ("run_on", "repeats"),
}
"""A back end to the options that it honours."""

_FILES = {"profiler": ("chrome-trace.json", "operators.csv", "operators.md")}


@frozen
class BackendChoice:
    """A back end and the options given for it."""

    name: str
    settings: Mapping[str, Any] = field(factory=dict)

    @property
    def file_names(self) -> tuple[str, ...]:
        """Files that it always writes beside the document."""
        return _FILES.get(self.name, ())

    def check(self, out: Path | None) -> None:
        """Refuse options that this back end cannot honour."""
        for key in self.settings:
            if key not in _SETTINGS[self.name]:
                owners = [name for name, known in _SETTINGS.items() if key in known]
                raise UsageError(
                    f"--backend {self.name} takes no --{key.replace('_', '-')}",
                    remedy=f"leave it out, or use --backend {' or '.join(owners)}",
                )
        if "drawings" in self.settings and out is None:
            raise UsageError("--drawings needs a folder to draw into", remedy="add --out FOLDER")

    def check_scenario(self, given: Mapping[str, Any]) -> None:
        """Refuse what only shape-only weights can have."""
        if self.name != "native" and "routing" in given:
            raise UsageError(
                f"--backend {self.name} takes no --routing: the gate routes by its weights",
                remedy="leave it out, or use --backend native",
            )

    def make(self) -> Backend | None:
        """The back end; None for the native one."""
        if self.name == "native":
            return None
        from modelmeter.tracing.backends import make_backend

        return make_backend(self.name, **self.settings)

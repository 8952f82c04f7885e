"""The network of a transformers configuration, with the weights that a back end needs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from modelmeter.errors import ConfigurationError, ModelMeterError
from modelmeter.schema.scenario import Scenario
from modelmeter.tracing.backends import Backend
from modelmeter.tracing.backends.weights import build_for, build_for_real
from modelmeter.tracing.hugging_face.configuration import one_line
from modelmeter.tracing.hugging_face.releases import building_options
from modelmeter.tracing.hugging_face.remote_code import SnapshotClasses

_NO_SDPA = "does not support an attention implementation through torch.nn.functional.scaled_dot_product_attention"


def build_hugging_face(
    config: Any,
    scenario: Scenario,
    backend: Backend | None = None,
    experts: str | None = None,
    code: SnapshotClasses | None = None,
    *,
    weightless: bool = True,
) -> nn.Module:
    """The configuration's own architecture, or the bare model; ``experts`` says how its routed experts run.

    ``code`` are the classes of a snapshot's own code, where it runs.
    Without weights for the native back end (None), unless ``weightless`` is False. Raises
    ConfigurationError for a configuration whose network cannot be made, and
    MissingDependencyError's parent for what a back end refuses.
    """
    import transformers

    architecture = (code.model(config.architectures) if code is not None else None) or _architecture(config)

    def build() -> nn.Module:
        given = building_options(getattr(torch, scenario.dtype), scenario.attention, experts)
        make = transformers.AutoModel.from_config if architecture is None else architecture._from_config
        try:
            made: nn.Module = make(config, **given)
        except (KeyError, ValueError) as error:
            # Vendors' code looks its attention up in a table of its own.
            if _NO_SDPA not in str(error) and error.args != ("sdpa",):
                raise
            # The network has one attention only, and it writes its scores to memory.
            made = make(config, **{**given, "attn_implementation": "eager"})
        return made.eval()

    try:
        return build_for(backend, build) if weightless or backend is not None else build_for_real(build)
    except ModelMeterError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"{config.model_type} could not be built: {type(error).__name__}: {one_line(error)}",
            remedy="check the configuration",
        ) from error


def _architecture(config: Any) -> Any:
    """The class that the configuration names first; None if it names none."""
    import transformers

    names = getattr(config, "architectures", None) or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigurationError(f"architectures is {names!r:.80}", remedy="give a list of class names")
    if not names:
        return None
    found = getattr(transformers, names[0], None)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise ConfigurationError(
            f"transformers has no model {names[0]!r}",
            remedy="correct architectures, or leave it out to trace the bare model",
        )
    return found

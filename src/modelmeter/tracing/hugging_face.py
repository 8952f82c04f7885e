"""Any Hugging Face configuration as a model to trace: built without weights, fed token ids.

No closed form belongs to such a model; the trace alone says what it runs.
"""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from modelmeter.errors import ConfigurationError, ModelMeterError, ScenarioError, require_extra
from modelmeter.families.protocol import ForwardCall, Forwards
from modelmeter.routing import parse_routing
from modelmeter.schema.callgraph import CallGraph
from modelmeter.schema.scenario import HUGGING_FACE_KEYS, Scenario
from modelmeter.tracing.backends import Backend
from modelmeter.tracing.backends.weights import build_for
from modelmeter.tracing.runner import Progress, TraceOptions, trace_forwards


def trace_hugging_face(
    source: Mapping[str, Any],
    scenario: Scenario,
    *,
    batch: int,
    positions: int,
    name: str,
    options: TraceOptions | None = None,
    progress: Progress = lambda _: None,
) -> CallGraph:
    """Trace a configuration on ``batch`` prompts of ``positions`` token ids, then decode steps.

    Raises ConfigurationError for a configuration that transformers does not know or cannot build, and
    ScenarioError for a prompt that the model cannot have.
    """
    if batch < 1 or positions < 1:
        raise ScenarioError(f"{batch}x{positions} token ids are no prompt", remedy="give at least 1x1")
    scenario.check_traceable()
    progress("building")
    options = options or TraceOptions(routing=parse_routing(scenario.routing))
    with _quiet_library():
        config = read_hugging_face(source, name)
        _check_positions(config, positions, scenario.decode_steps)
        module = build_hugging_face(config, scenario, options.backend)
        return trace_forwards(
            module,
            _prompts(module, batch, positions, scenario.decode_steps),
            options=options,
            core=getattr(module, "base_model_prefix", ""),
            model={"name": name, "model_type": config.model_type, "config": json.loads(config.to_json_string())},
            scenario={
                **{key: getattr(scenario, key) for key in HUGGING_FACE_KEYS},
                "batch": batch,
                "seq_len": positions,
                "input_ids": [batch, positions],
            },
            progress=progress,
        )


@contextmanager
def _quiet_library() -> Iterator[None]:
    """Advice on weights, tokenizers and kernels has no place in a trace."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def read_hugging_face(source: Mapping[str, Any], name: str) -> Any:
    """A transformers configuration object from its JSON form."""
    try:
        from transformers import AutoConfig
    except ImportError:
        raise require_extra("trace", "transformers") from None
    model_type = source.get("model_type")
    if not isinstance(model_type, str):
        raise ConfigurationError(f"{name} names no model_type", remedy="give a Hugging Face config.json")
    try:
        return AutoConfig.for_model(model_type, **{key: value for key, value in source.items() if key != "model_type"})
    except Exception as error:
        if "Unrecognized model identifier" in str(error):
            raise _unknown_type(model_type, name) from None
        raise ConfigurationError(
            f"{name}: transformers refuses it: {_line(error)}", remedy="check the configuration, or update transformers"
        ) from None


def _unknown_type(model_type: str, name: str) -> ConfigurationError:
    from transformers import CONFIG_MAPPING

    near = difflib.get_close_matches(model_type, CONFIG_MAPPING.keys(), n=1)
    remedy = f"did you mean {near[0]!r}?" if near else "check the configuration, or update transformers"
    return ConfigurationError(f"{name}: transformers does not know model_type {model_type!r}", remedy=remedy)


def build_hugging_face(config: Any, scenario: Scenario, backend: Backend | None = None) -> nn.Module:
    """The configuration's own architecture, or the bare model, with the weights that a back end needs."""
    import transformers

    architecture = _architecture(config)
    given = {"attn_implementation": scenario.attention, "dtype": getattr(torch, scenario.dtype)}

    def build() -> nn.Module:
        if architecture is None:
            made: nn.Module = transformers.AutoModel.from_config(config, **given)
        else:
            made = architecture._from_config(config, **given)
        return made.eval()

    try:
        return build_for(backend, build)
    except ModelMeterError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"{config.model_type} could not be built: {type(error).__name__}: {_line(error)}",
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


def _line(error: Exception) -> str:
    """An exception's text in one line; validation errors of transformers have several."""
    return " ".join(str(error).split())[:200] or "no message"


def _check_positions(config: Any, positions: int, decode_steps: int) -> None:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    limit = getattr(text, "max_position_embeddings", None)
    if isinstance(limit, int) and 0 < limit < positions + decode_steps:
        raise ScenarioError(
            f"{positions} positions and {decode_steps} decode steps exceed the model's {limit}",
            remedy="use fewer positions (--input-ids) or decode steps",
        )


def _prompts(module: nn.Module, batch: int, positions: int, decode_steps: int) -> Forwards:
    ids = torch.ones(batch, positions, dtype=torch.int64)
    output = yield ForwardCall("prefill", (), {"input_ids": ids})
    for step in range(1, decode_steps + 1):
        cache = getattr(output, "past_key_values", None)
        if cache is None:
            raise ScenarioError(
                f"{type(module).__name__} returns no key-value cache", remedy="trace it with --decode-steps 0"
            )
        output = None  # the logits of the step before are not live during this one
        ids = torch.ones(batch, 1, dtype=torch.int64)
        output = yield ForwardCall(f"decode {step}", (), {"input_ids": ids, "past_key_values": cache})

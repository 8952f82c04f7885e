"""Any Hugging Face configuration as a model to trace: built without weights, fed token ids.

No closed form belongs to such a model; the trace alone says what it runs.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modelmeter.errors import ConfigurationError, ScenarioError, require_extra
from modelmeter.families.protocol import ForwardCall, Forwards
from modelmeter.routing import parse_routing
from modelmeter.schema.callgraph import CallGraph
from modelmeter.schema.scenario import Scenario
from modelmeter.tracing.build import build_weightless
from modelmeter.tracing.runner import Progress, TraceOptions, trace_forwards


def trace_hugging_face(
    source: dict[str, Any],
    scenario: Scenario,
    *,
    batch: int,
    positions: int,
    name: str,
    options: TraceOptions | None = None,
    progress: Progress = lambda _: None,
) -> CallGraph:
    """Trace a configuration on ``batch`` prompts of ``positions`` token ids, then decode steps.

    Raises ConfigurationError for a configuration that transformers does not know or cannot build.
    """
    scenario = scenario.resolve()
    progress("building")
    config = read_hugging_face(source, name)
    module = build_hugging_face(config, scenario)
    return trace_forwards(
        module,
        _prompts(module, config, batch, positions, scenario.decode_steps),
        options=options or TraceOptions(routing=parse_routing(scenario.routing)),
        core=getattr(module, "base_model_prefix", ""),
        model={"name": name, "model_type": config.model_type, "config": json.loads(config.to_json_string())},
        scenario={
            "input_ids": [batch, positions],
            "decode_steps": scenario.decode_steps,
            "dtype": scenario.dtype,
            "attention": scenario.attention,
            "routing": scenario.routing,
        },
        progress=progress,
    )


def read_hugging_face(source: dict[str, Any], name: str) -> Any:
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
    except ValueError as error:
        known = "Unrecognized model identifier" in str(error)
        detail = f"transformers does not know model_type {model_type!r}" if known else str(error).splitlines()[0]
        raise ConfigurationError(
            f"{name}: {detail}", remedy="check the configuration, or update transformers"
        ) from None
    except Exception as error:
        raise ConfigurationError(
            f"{name}: transformers refuses it: {str(error).splitlines()[0]}", remedy="check the configuration"
        ) from None


def build_hugging_face(config: Any, scenario: Scenario) -> nn.Module:
    """The configuration's own architecture, or the bare model, with shape-only weights."""
    import transformers

    names = getattr(config, "architectures", None) or []
    architecture = next((getattr(transformers, n) for n in names if hasattr(transformers, n)), None)
    attention = scenario.attention
    dtype = getattr(torch, scenario.dtype)

    def build() -> nn.Module:
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            if architecture is not None:
                config._attn_implementation = attention
                module: nn.Module = architecture(config)
            else:
                module = transformers.AutoModel.from_config(config, attn_implementation=attention)
        finally:
            torch.set_default_dtype(before)
        return module.eval()

    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        return build_weightless(build)
    except Exception as error:
        raise ConfigurationError(
            f"{config.model_type} could not be built: {type(error).__name__}: {str(error).splitlines()[0]}",
            remedy="check the configuration",
        ) from error


def read_config_file(path: Path) -> dict[str, Any]:
    """A JSON configuration, from a file or the ``config.json`` of a folder."""
    path = path / "config.json" if path.is_dir() else path
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", remedy="give a config.json") from None
    except ValueError as error:
        raise ConfigurationError(f"{path} is no complete JSON document: {error}", remedy="give a config.json") from None
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path} holds no JSON object", remedy="give a config.json")
    return data


def _prompts(module: nn.Module, config: Any, batch: int, positions: int, decode_steps: int) -> Forwards:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    limit = getattr(text, "max_position_embeddings", None)
    if isinstance(limit, int) and 0 < limit < positions + decode_steps:
        raise ScenarioError(
            f"{positions} positions and {decode_steps} decode steps exceed the model's {limit}",
            remedy="use fewer positions or decode steps",
        )
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

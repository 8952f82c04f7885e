"""Tracing a configuration: the prefill on inputs made for it, then decode steps with the model's own cache."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modelmeter.errors import ScenarioError
from modelmeter.families.protocol import ForwardCall, Forwards
from modelmeter.routing import parse_routing
from modelmeter.schema.callgraph import CallGraph
from modelmeter.schema.scenario import HUGGING_FACE_KEYS, Scenario
from modelmeter.tracing.hugging_face.attempts import Attempt, first_that_runs
from modelmeter.tracing.hugging_face.building import build_hugging_face
from modelmeter.tracing.hugging_face.configuration import (
    check_positions,
    position_limit,
    quiet_library,
    read_hugging_face,
)
from modelmeter.tracing.hugging_face.example import codebooks
from modelmeter.tracing.hugging_face.generating import first_cache, mask
from modelmeter.tracing.hugging_face.inputs import make_inputs
from modelmeter.tracing.hugging_face.layouts import one_id
from modelmeter.tracing.hugging_face.own_inputs import OwnInput
from modelmeter.tracing.hugging_face.remote_code import snapshot_classes
from modelmeter.tracing.runner import Progress, TraceOptions, trace_forwards

_CACHES = ("past_key_values", "cache_params", "past_buckets_states", "state", "mems")
"""Under which name an output holds what the next step needs, and its forward takes it."""


def trace_hugging_face(
    source: Mapping[str, Any],
    scenario: Scenario,
    *,
    batch: int,
    positions: int,
    name: str,
    options: TraceOptions | None = None,
    progress: Progress = lambda _: None,
    fixed_length: bool = True,
    overrides: Mapping[str, Any] | None = None,
    processors: Mapping[str, Mapping[str, Any]] | None = None,
    own: Mapping[str, OwnInput] | None = None,
    experts: str | None = None,
    built: Callable[[nn.Module], None] = lambda _: None,
    folder: Path | None = None,
    trust_remote_code: bool = False,
) -> CallGraph:
    """Trace a configuration on inputs that its forward takes, then decode steps.

    ``batch`` prompts of ``positions`` token ids, or as many images, sounds or series; without
    ``fixed_length`` the prompt is as long as the model's limit lets it be and as its media need.
    ``overrides`` change the configuration by dotted names, ``processors`` are the settings of a snapshot's
    ``image_processor`` and ``feature_extractor``, ``own`` the user's inputs, and ``experts`` says how
    routed experts run (``eager``, ``grouped_mm`` or ``batched_mm``; the library's choice if None).
    ``folder`` is where the configuration lies, whose own code runs with ``trust_remote_code``; ``built``
    is told the network before it runs. Raises
    ConfigurationError for a configuration that transformers does not know or cannot build, UsageError for
    one that needs code which is not trusted, and ScenarioError for inputs that the model cannot have.
    """
    if batch < 1 or positions < 1:
        raise ScenarioError(f"{batch}x{positions} token ids are no prompt", remedy="give at least 1x1")
    scenario.check_traceable()
    progress("building")
    options = options or TraceOptions(routing=parse_routing(scenario.routing))
    weightless = options.weightless and options.backend is None
    own_code = snapshot_classes(source, name, folder, trusted=trust_remote_code, weightless=weightless)
    with quiet_library(), own_code as code:
        config = read_hugging_face(source, name, overrides, code)
        if not fixed_length:
            limit = position_limit(config)
            positions = min(positions, max(limit - scenario.decode_steps, 1)) if limit else positions
        check_positions(config, positions, scenario.decode_steps)
        module = build_hugging_face(config, scenario, options.backend, experts, code, weightless=options.weightless)
        built(module)

        finished: list[str] = []

        def traced(attempt: Attempt) -> CallGraph:
            inputs = make_inputs(
                module,
                config,
                batch=batch,
                positions=positions,
                dtype=getattr(torch, scenario.dtype),
                fixed_length=fixed_length,
                processors=processors,
                own=own,
                also=attempt.also,
                layouts=attempt.layouts,
            )
            return trace_forwards(
                module,
                _forwards(module, inputs.arguments, scenario.decode_steps, finished),
                options=options,
                core=getattr(module, "base_model_prefix", ""),
                model={"name": name, "model_type": config.model_type, "config": json.loads(config.to_json_string())},
                scenario={
                    **{key: getattr(scenario, key) for key in HUGGING_FACE_KEYS},
                    "batch": batch,
                    **_described(inputs.arguments, inputs.positions, batch),
                    **_chosen(processors, own, experts),
                },
                progress=progress,
            )

        return first_that_runs(
            module, traced, given=own or {}, codebooks=codebooks(config), prefilled=lambda: bool(finished)
        )


def _described(arguments: Mapping[str, Any], positions: int, batch: int) -> dict[str, Any]:
    """The inputs as the document says them: a plain prompt by its size, all others by shapes too."""
    prompt = {"seq_len": positions, "input_ids": [batch, positions]} if positions else {}
    if set(arguments) == {"input_ids"}:
        return prompt
    shapes = {
        name: {"dtype": str(value.dtype), "shape": list(value.shape)}
        for name, value in sorted(arguments.items())
        if isinstance(value, Tensor)
    }
    return {**prompt, "inputs": shapes}


def _chosen(
    processors: Mapping[str, Mapping[str, Any]] | None, own: Mapping[str, OwnInput] | None, experts: str | None
) -> dict[str, Any]:
    """What the user chose besides the scenario's keys; nothing for what was not given."""
    given = {
        "processors": {kind: dict(settings) for kind, settings in (processors or {}).items()},
        "own_inputs": {name: value.data() for name, value in (own or {}).items()},
        "experts": experts,
    }
    return {key: value for key, value in given.items() if value}


def _forwards(module: nn.Module, arguments: dict[str, Any], decode_steps: int, finished: list[str]) -> Forwards:
    """The prefill and the decode steps; ``finished`` says when the prefill is done."""
    # Copies, made here: inputs live from the first forward on, and a model may write into them.
    given = {name: value.clone() if isinstance(value, Tensor) else value for name, value in arguments.items()}
    output = yield ForwardCall("prefill", (), {**given, **mask(module, given, 0), **first_cache(module)})
    finished.append("prefill")
    del given
    encoded: dict[str, Any] = {}
    prompt = "decoder_input_ids" if "decoder_input_ids" in arguments else "input_ids"
    rows, _, *more = arguments[prompt].shape if prompt in arguments else (0, 0)
    for step in range(1, decode_steps + 1):
        cache = next((name for name in _CACHES if getattr(output, name, None) is not None), None)
        if cache is None or prompt not in arguments:
            raise ScenarioError(
                f"{type(module).__name__} returns no key-value cache", remedy="trace it with --decode-steps 0"
            )
        held = {cache: getattr(output, cache)}
        if step == 1 and prompt == "decoder_input_ids":
            encoded = _encoded(output, arguments)
        output = None  # the logits of the step before are not live during this one
        ids = one_id(rows, 1, *more)
        also = {**held, **encoded, **mask(module, arguments, step)}
        output = yield ForwardCall(f"decode {step}", (), {prompt: ids, **also})


def _encoded(output: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What the encoder gave in the first forward, so that no step runs it again."""
    from transformers.modeling_outputs import BaseModelOutput

    state = getattr(output, "encoder_last_hidden_state", None)
    return {} if state is None else {"encoder_outputs": BaseModelOutput(last_hidden_state=state)}

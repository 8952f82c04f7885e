"""One architecture of the zoo: traced, and described in a row; or the reason why not."""

from __future__ import annotations

import time
from typing import Any

from attrs import evolve, field, frozen

from modelmeter.errors import ModelMeterError
from modelmeter.schema.callgraph import CallGraph
from modelmeter.schema.scenario import Scenario
from modelmeter.tracing.hugging_face import trace_hugging_face
from modelmeter.tracing.hugging_face.own_inputs import own_inputs_of
from modelmeter.tracing.zoo.excuses import MISSING_PACKAGE, excuse_for, missing_package, one_line
from modelmeter.tracing.zoo.settings import Setting, settings
from modelmeter.tracing.zoo.uncalled import Readings

POSITIONS = 128
"""Token ids of a prompt, besides what images and sounds take of it."""

DTYPES = ("bfloat16", "float32")
"""Every name is tried in the first; one whose code makes tensors of other dtypes needs the second."""


@frozen
class Entry:
    """What a trace of one name found, or ``failure`` in one line.

    ``matrix_flops`` of the prefill, a multiply-add as 2; ``parameters`` with tied ones once; ``owners``
    modules have parameters of their own, of which ``uncalled`` (id to the reason) were not called; ``seconds``
    of building, making inputs and tracing. ``settings`` is what was changed in the default configuration,
    ``setting_reason`` why. ``excuse`` says why a failure is not ours.
    """

    name: str
    class_name: str = ""
    parameters: int = 0
    matrix_flops: int = 0
    operations: int = 0
    seconds: float = 0.0
    dtype: str = ""
    inputs: str = ""
    owners: int = 0
    uncalled: dict[str, str] = field(factory=dict)
    unknown_operators: tuple[str, ...] = ()
    settings: dict[str, Any] = field(factory=dict)
    setting_reason: str = ""
    failure: str = ""
    excuse: str = ""


def zoo_names() -> list[str]:
    """Every name of transformers' ``MODEL_MAPPING_NAMES``, in order of the alphabet."""
    from transformers.models.auto import modeling_auto

    return sorted(vars(modeling_auto)["MODEL_MAPPING_NAMES"])


def class_of(name: str) -> str:
    """The class that a name is mapped to; the first of several."""
    from transformers.models.auto import modeling_auto

    mapped: Any = vars(modeling_auto)["MODEL_MAPPING_NAMES"][name]
    return mapped if isinstance(mapped, str) else str(mapped[0])


def trace_entry(name: str) -> Entry:
    """Trace a name at its default configuration, or with its setting; never raises."""
    setting = settings().get(name, Setting())
    entry = Entry(name, class_of(name), settings={**setting.set, **setting.inputs}, setting_reason=setting.reason)
    begun = time.perf_counter()
    errors: dict[str, Exception] = {}
    for dtype in DTYPES:
        try:
            readings = Readings()
            with readings.watching():
                graph = trace_named(name, dtype, setting, readings)
        except Exception as error:
            errors[dtype] = error
            if not _is_about_dtypes(error):
                break
        else:
            return _filled(entry, graph, readings, dtype, time.perf_counter() - begun)
    dtype, failure = next(iter(errors.items()))
    seconds = time.perf_counter() - begun
    missing = missing_package(failure)
    excuse = f"{MISSING_PACKAGE} {missing}" if missing else ""
    return evolve(entry, dtype=dtype, failure=reason(failure), excuse=excuse, seconds=round(seconds, 2))


def excuse_of(name: str) -> str:
    """Why the failure of a name is excused, from a run for real; empty if it is not."""
    return excuse_for(name, DTYPES[0], settings().get(name, Setting()))


def trace_named(name: str, dtype: str, setting: Setting, readings: Readings) -> CallGraph:
    """The call graph of one forward of an architecture by name."""
    return trace_hugging_face(
        {"model_type": name},
        Scenario(pages=(), dtype=dtype),
        batch=1,
        positions=POSITIONS,
        name=name,
        fixed_length=False,
        overrides=setting.set,
        own=own_inputs_of(setting.inputs, name),
        built=readings.watch,
        progress=readings.forget,
    )


def _is_about_dtypes(error: Exception) -> bool:
    return any(word in reason(error) for word in ("dtype", "BFloat16", "bfloat16", "scalar type", "Float"))


def _filled(entry: Entry, graph: CallGraph, readings: Readings, dtype: str, seconds: float) -> Entry:
    root = next(iter(graph.module_types))
    return evolve(
        entry,
        class_name=graph.module_types[root],
        parameters=sum(info.count for info in graph.parameters.values()),
        matrix_flops=graph.costs[root].total.matrix_flops,
        operations=sum(graph.op_call_counts.values()),
        seconds=round(seconds, 2),
        dtype=dtype,
        inputs=_inputs(graph),
        owners=sum(info.count > 0 for info in graph.parameters.values()),
        uncalled=readings.uncalled(graph),
        unknown_operators=tuple(sorted(graph.unknown_operators)),
    )


def _inputs(graph: CallGraph) -> str:
    described = graph.scenario.get("inputs")
    if described is None:
        return f"input_ids {_shape(graph.scenario['input_ids'])}"
    return ", ".join(f"{name} {_shape(value['shape'])}" for name, value in described.items())


def _shape(shape: list[int]) -> str:
    return "×".join(map(str, shape))


def reason(error: Exception) -> str:
    """What happened, in one line of at most 300 letters."""
    what = error.problem if isinstance(error, ModelMeterError) else f"{type(error).__name__}: {error}"
    return one_line(what, 300)

"""What replay saves: traces of models of 8, 32 and 128 equal layers, and of large models, with and without it.

    python benchmarks/replay.py            # models of growing depth, ratios
    python benchmarks/replay.py --large    # DeepSeek-V3 with experts one by one, Mamba, RWKV, DeepSeek-OCR, with replay
    python benchmarks/replay.py --check    # the same large models without replay too (minutes), documents compared

Times are processor seconds, as machines are shared: the ratios are the result.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import transformers

from modelmeter import Page, Scenario, TraceOptions
from modelmeter.families.deepseek_ocr import FAMILY, published_config
from modelmeter.families.protocol import ForwardCall, Forwards
from modelmeter.schema.callgraph import CallGraph
from modelmeter.tracing import build_weightless, trace_family
from modelmeter.tracing.runner import trace_forwards

DEPTHS = (8, 32, 128)
BY_DEPTH: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 1024, "intermediate_size": 2816, "num_attention_heads": 16, "vocab_size": 32000},
    "mixtral": {"hidden_size": 1024, "intermediate_size": 2816, "num_attention_heads": 16, "num_local_experts": 32},
}
"""Model type to its configuration; Mixtral's experts run one by one."""

LARGE: dict[str, tuple[str, int]] = {
    "deepseek_v3": ("DeepseekV3ForCausalLM", 256),
    "mamba": ("MambaForCausalLM", 1024),
    "rwkv": ("RwkvForCausalLM", 1024),
}
"""Model type, traced at its default configuration, to its class and positions."""

Trace = Callable[[bool], CallGraph]


def language_model(kind: str, architecture: str, positions: int, settings: Mapping[str, Any]) -> Trace:
    """A model of transformers, built; gives what traces its prefill with replay or without."""
    config = transformers.AutoConfig.for_model(kind, **settings)
    given: dict[str, Any] = {"dtype": torch.bfloat16}
    if kind in ("deepseek_v3", "mixtral"):
        given["experts_implementation"] = "eager"
    module = build_weightless(lambda: getattr(transformers, architecture)._from_config(config, **given).eval())

    def forwards() -> Forwards:
        yield ForwardCall("prefill", (), {"input_ids": torch.ones(1, positions, dtype=torch.int64)})

    return lambda replay: trace_forwards(module, forwards(), options=TraceOptions(replay=replay))


def deepseek_ocr() -> Trace:
    """DeepSeek-OCR at grid 3x2, built; gives what traces its prefill."""
    scenario = Scenario(pages=(Page(grid=(3, 2)),), text_tokens=10)
    module = build_weightless(lambda: FAMILY.build(published_config(), scenario))
    return lambda replay: trace_family(
        FAMILY, scenario, published_config(), module=module, options=TraceOptions(replay=replay)
    )


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of one call, and what it gave."""
    start = time.process_time()
    made = work()
    return time.process_time() - start, made


def by_depth() -> None:
    """One table: growing depth, replay beside no replay."""
    print(f"{'model':10}{'layers':>8}{'operations':>12}{'replayed s':>12}{'run s':>8}{'ratio':>8}{'same':>6}")
    for kind, settings in BY_DEPTH.items():
        architecture = f"{kind.capitalize()}ForCausalLM"
        language_model(kind, architecture, 64, {**settings, "num_hidden_layers": 1})(True)  # imports, fills caches
        for depth in DEPTHS:
            trace = language_model(kind, architecture, 256, {**settings, "num_hidden_layers": depth})
            replayed_s, replayed = seconds(lambda trace=trace: trace(True))
            run_s, run = seconds(lambda trace=trace: trace(False))
            operations = sum(run.op_call_counts.values())
            same = "yes" if replayed.to_json() == run.to_json() else "NO"
            print(f"{kind:10}{depth:8}{operations:12}{replayed_s:12.2f}{run_s:8.2f}{run_s / replayed_s:8.1f}{same:>6}")


def large(name: str, check: bool) -> None:
    """One line for a large model."""
    built_s, trace = seconds(
        deepseek_ocr if name == "deepseek_ocr" else lambda: language_model(name, *LARGE[name], settings={})
    )
    traced_s, graph = seconds(lambda: trace(True))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    billions = graph.model["parameter_count"] / 1e9
    line = f"{name:14}{billions:10.1f}{sum(graph.op_call_counts.values()):12}{built_s:9.1f}{traced_s:9.1f}{memory:8.2f}"
    if check:
        run_s, run = seconds(lambda: trace(False))
        line += f"{run_s:9.1f}{run_s / traced_s:8.1f}{'yes' if run.to_json() == graph.to_json() else 'NO':>6}"
    print(line, flush=True)


def main() -> None:
    """Print one table; every large model has a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="large models in place of growing depth")
    parser.add_argument("--check", action="store_true", help="large models, without replay too")
    parser.add_argument("--only", choices=(*LARGE, "deepseek_ocr"), help="the line of one large model")
    options = parser.parse_args()
    if options.only:
        large(options.only, options.check)
    elif options.large or options.check:
        print(f"{'model':14}{'10^9 par.':>10}{'operations':>12}{'build s':>9}{'trace s':>9}{'GB':>8}", end="")
        print(f"{'run s':>9}{'ratio':>8}{'same':>6}" if options.check else "", flush=True)
        for name in (*LARGE, "deepseek_ocr"):
            command = [sys.executable, __file__, "--only", name, *(["--check"] if options.check else [])]
            subprocess.run(command, check=True)
    else:
        by_depth()


if __name__ == "__main__":
    main()

"""Llama-2-7B by another analytic cost model, timed: ``python benchmarks/cost_model_peers.py genz``.

Run by ``closed_form.py`` with the Python of the folder that the peers are installed in; prints JSON. A
prompt of 2,048 tokens at batch 1 in 16 bits on an H100, then one decode step, through each peer's own
public functions as their examples call them.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

POSITIONS = 2048


def genz() -> tuple[Callable[[], Any], Callable[[Any], dict[str, float]]]:
    """GenZ: operators in a table, times by roofline; a call each for prefill and decode step."""
    from GenZ import decode_moddeling, prefill_moddeling

    workload: dict[str, Any] = {
        "model": "meta-llama/Llama-2-7B",
        "batch_size": 1,
        "input_tokens": POSITIONS,
        "system_name": "H100_GPU",
        "bits": "bf16",
    }

    def evaluate() -> Any:
        return prefill_moddeling(**workload), decode_moddeling(**workload, Bb=1)

    def flops(found: Any) -> dict[str, float]:
        # The column is named MACs and holds twice as many, in millions.
        prefill, decode = (part["summary_table"]["MACs (MFLOP)"].values[0] * 1e6 for part in found)
        embeddings = 2.0 * POSITIONS * 32000 * 4096
        return {"prefill": prefill, "prefill without embeddings": prefill - embeddings, "decode": decode}

    return evaluate, flops


def llm_analysis() -> tuple[Callable[[], Any], Callable[[Any], dict[str, float]]]:
    """llm-analysis: some totals of a layer times the layers."""
    from llm_analysis.analysis import LLMAnalysis, ParallelismConfig
    from llm_analysis.config import get_dtype_config_by_name, get_gpu_config_by_name, get_model_config_by_name
    from llm_analysis.logger import logger

    logger.setLevel(logging.ERROR)
    analysis = LLMAnalysis(
        get_model_config_by_name("NousResearch_Llama-2-7b-hf"),
        get_gpu_config_by_name("h100-sxm-80gb"),
        get_dtype_config_by_name("w16a16e16"),
        ParallelismConfig(),
        flops_efficiency=0.7,
        hbm_memory_efficiency=0.85,
    )

    def evaluate() -> Any:
        return analysis.inference(batch_size_per_gpu=1, seq_len=POSITIONS, num_tokens_to_generate=1)

    def flops(found: Any) -> dict[str, float]:
        return {"prefill": found["prefill_num_flops_fwd_total"], "decode": found["decode_num_flops_fwd_total"]}

    return evaluate, flops


def main() -> None:
    """Print seconds of the import, of the first evaluation and of the median one, and FLOPs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=["genz", "llm-analysis"])
    parser.add_argument("--seconds", type=float, default=3.0, help="how long evaluations are repeated")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    start = time.perf_counter()
    evaluate, flops = {"genz": genz, "llm-analysis": llm_analysis}[options.peer]()
    found: dict[str, Any] = {"import_s": time.perf_counter() - start}
    times: list[float] = []
    end = time.perf_counter() + options.seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        result = evaluate()
        times.append(time.perf_counter() - start)
    print(json.dumps({**found, "first_s": times[0], "median_s": median(times[1:]), "flops": flops(result)}))


if __name__ == "__main__":
    main()

"""How fast closed forms are, alone and beside other analytic cost models.

    python benchmarks/closed_form.py              # installs the peers into benchmarks/.peers, once (1 GB)
    python benchmarks/closed_form.py --no-peers

Three parts: DeepSeek-OCR's tree with all costs and times, first and again; a sweep over a million
scenarios; and Llama-2-7B (2,048 tokens, one decode step) beside GenZ and llm-analysis, which know it.
Machines differ and are noisy: the ratios are the result, the seconds only say what they were taken from.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from modelmeter.cost.catalogue import find_device
from modelmeter.cost.closed_form import ClosedForm, Costs
from modelmeter.cost.expression import key
from modelmeter.cost.layers.grouped_query import GroupedQueryShape
from modelmeter.cost.layers.language_model import kv_cache_bytes, write_language_model
from modelmeter.cost.layers.language_shape import LanguageModel, LanguageWorkload
from modelmeter.families.registry import get_family
from modelmeter.planning.sweep import sweep
from modelmeter.schema.scenario import Page, Scenario
from modelmeter.schema.timing import TimedTree

PEERS = {"genz": "genz-llm==0.0.16", "llm-analysis": "llm-analysis==0.2.2"}
FOLDER = Path(__file__).parent / ".peers"

POSITIONS = 2048

LLAMA_2_7B = LanguageModel(
    prefix="Llama",
    vocabulary=32000,
    hidden_size=4096,
    layers=32,
    attention=GroupedQueryShape(hidden_size=4096, heads=32, kv_heads=32, head_dim=128),
    intermediate_size=11008,
)

GRIDS = [(1, 1), (2, 1), (1, 2), (3, 1), (1, 3), (2, 2), (3, 2), (2, 3), (4, 2), (3, 3)]
DEVICES = ["a100-40g", "a100-80g", "h100-pcie", "h100-sxm", "h200", "l4", "l40s", "mi300x", "rtx-4090", "rtx-5090"]

FIRST_EVALUATION = """
import json, time
start = time.perf_counter()
from modelmeter.cost.catalogue import find_device
from modelmeter.families.registry import get_family
from modelmeter.schema.scenario import Page, Scenario
imported = time.perf_counter()
family = get_family("deepseek-ocr")
scenario = Scenario(pages=(Page(grid=(2, 1)),), decode_steps=255)
family.costs(family.default_configuration(), scenario).timed(find_device("h100-sxm"))
print(json.dumps([imported - start, time.perf_counter() - imported]))
"""


def repeated(work: Callable[[], Any], seconds: float = 3.0) -> float:
    """The median duration of a call, in seconds."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return median(times)


def deepseek_ocr() -> None:
    """One evaluation, and a million."""
    done = subprocess.run([sys.executable, "-c", FIRST_EVALUATION], capture_output=True, text=True, check=True)
    import_s, first_s = json.loads(done.stdout)
    family = get_family("deepseek-ocr")
    config, device = family.default_configuration(), find_device("h100-sxm")
    scenario = Scenario(pages=(Page(grid=(2, 1)),), decode_steps=255)
    again_s = repeated(lambda: family.costs(config, scenario).timed(device).total)
    axes = {"grid": GRIDS, "text_tokens": range(10, 1010, 10), "batch": range(1, 101), "device": DEVICES}
    start = time.perf_counter()
    found = sweep(family, config, scenario, axes)
    sweep_s = time.perf_counter() - start
    each_s = sweep_s / found.size
    print("DeepSeek-OCR in closed form: the folded tree with all costs and times")
    print(f"{'':44}{'milliseconds':>14}{'ratio to one evaluation':>26}")
    rows = [
        ("import", import_s),
        ("first evaluation, which writes the form", first_s),
        ("one evaluation (median)", again_s),
        ("a scenario of a sweep, totals and times", each_s),
    ]
    for name, took in rows:
        print(f"{name:44}{took * 1e3:14.4g}{took / again_s:26.3g}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"sweep: {' x '.join(map(str, found.shape))} = {found.size:,} in {sweep_s:.2f} s, {peak:.2f} GB resident\n")


def llama() -> Callable[[], TimedTree]:
    """One evaluation of Llama-2-7B, as a family makes one."""
    work = LanguageWorkload(key("batch"), key("positions"), key("decode_steps"))
    form = ClosedForm("llama", write_language_model(LLAMA_2_7B, work), kv_cache_bytes(LLAMA_2_7B, work))
    values = {"batch": 1, "positions": POSITIONS, "decode_steps": 1}
    device = find_device("h100-sxm")
    return lambda: Costs(form, values).timed(device)


def install_peers() -> str:
    """The Python that has the peers, or nothing where they cannot be installed."""
    python = FOLDER / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    installed = FOLDER / "installed.txt"
    wanted = "\n".join(PEERS.values())
    if installed.exists() and installed.read_text(encoding="utf-8") == wanted:
        return str(python)
    print(f"installing {', '.join(PEERS.values())} into {FOLDER.name}", file=sys.stderr)
    try:
        venv.create(FOLDER, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"the peers are left out, their environment cannot be made: {error}")
        return ""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS.values()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"the peers are left out, pip cannot install them: {reason}")
        return ""
    installed.write_text(wanted, encoding="utf-8")
    return str(python)


def beside_peers() -> None:
    """The same model and workload by all, one after the other."""
    python = install_peers()
    if not python:
        return
    start = time.perf_counter()
    evaluate = llama()
    evaluate()
    first_s = time.perf_counter() - start
    ours = [repeated(evaluate)]
    found: dict[str, dict[str, Any]] = {}
    for peer in PEERS:
        command = [python, str(Path(__file__).parent / "cost_model_peers.py"), peer]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{peer} is left out, it failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
            continue
        found[peer] = json.loads(done.stdout.splitlines()[-1])
        ours.append(repeated(evaluate))  # in turn, so that noise falls on all
    our_s = median(ours)
    stages = evaluate().tree.stages
    flops = {stage: float(stages[stage].matrix_flops) for stage in ("prefill", "decode")}
    print(f"Llama-2-7B, batch 1, {POSITIONS} tokens and one decode step on an H100")
    print(f"{'':16}{'first ms':>12}{'again ms':>12}{'ratio':>10}  matrix GFLOPs")
    for name, first, again, counted in [
        ("ModelMeter", first_s, our_s, flops),
        *((peer, own["first_s"], own["median_s"], own["flops"]) for peer, own in found.items()),
    ]:
        shown = ", ".join(f"{what} {number / 1e9:,.2f}" for what, number in counted.items())
        print(f"{name:16}{first * 1e3:12.4g}{again * 1e3:12.4g}{again / our_s:10.3g}  {shown}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-peers", action="store_true", help="leave out the other cost models")
    options = parser.parse_args()
    deepseek_ocr()
    if not options.no_peers:
        beside_peers()


if __name__ == "__main__":
    main()

"""How folding grows with the size of a call graph: ``python benchmarks/folding.py``.

Synthetic transformers of 1,000, 10,000 and 100,000 module calls. The times per module should stay alike.
"""

from __future__ import annotations

import argparse
import time

from modelmeter.callgraph.folding import fold
from modelmeter.schema.callgraph import CallGraph

LAYER = {"norm1": "Norm", "attn": "Attention", "norm2": "Norm", "mlp": "Mlp"}
INNER = {"attn": ("q", "k", "v", "o"), "mlp": ("up", "down")}
MODULES_PER_LAYER = 1 + len(LAYER) + sum(map(len, INNER.values()))


def transformer(modules: int) -> CallGraph:
    """A stack of layers with about this many modules."""
    graph = CallGraph(module_types={"Model": "Model"}, call_counts={"Model": 1}, module_children={"Model": []})
    layers = max(1, modules // MODULES_PER_LAYER)
    for number in range(layers):
        layer = f"layers.{number}"
        _add(graph, "Model", layer, "Layer")
        if number:
            graph.data_edges[f"layers.{number - 1}->{layer}"] = 1
        for name, kind in LAYER.items():
            _add(graph, layer, f"{layer}.{name}", kind)
            for leaf in INNER.get(name, ()):
                _add(graph, f"{layer}.{name}", f"{layer}.{name}.{leaf}", "Linear")
        for before, after in (("norm1", "attn"), ("attn", "norm2"), ("norm2", "mlp")):
            graph.data_edges[f"{layer}.{before}->{layer}.{after}"] = 1
        for leaf in ("q", "k", "v"):
            graph.data_edges[f"{layer}.attn.{leaf}->{layer}.attn.o"] = 1
        graph.data_edges[f"{layer}.mlp.up->{layer}.mlp.down"] = 1
    return graph


def _add(graph: CallGraph, caller: str, name: str, kind: str) -> None:
    graph.module_types[name] = kind
    graph.module_children.setdefault(caller, []).append(name)
    graph.call_counts[name] = 1
    graph.op_call_counts[name] = 1
    graph.edges[f"{caller}->{name}"] = 1


def seconds_per_module(modules: int, repeats: int = 3) -> tuple[int, float, int]:
    """Modules of the graph, the best time per module, and the families that they fold to."""
    graph = transformer(modules)
    best = float("inf")
    families = 0
    for _ in range(repeats):
        start = time.perf_counter()
        families = len(fold(graph).families)
        best = min(best, time.perf_counter() - start)
    return len(graph.call_counts), best / len(graph.call_counts), families


def main() -> None:
    """Print one line a size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    options = parser.parse_args()
    print(f"{'modules':>9}{'families':>10}{'seconds':>9}{'µs a module':>13}{'ratio':>7}")
    first = None
    for size in options.sizes:
        modules, each, families = seconds_per_module(size)
        first = first or each
        print(f"{modules:9,}{families:10}{modules * each:9.2f}{each * 1e6:13.1f}{each / first:7.2f}")


if __name__ == "__main__":
    main()

"""One model through ModelMeter or one of its peers, timed: what ``peers.py`` starts, each in its own process.

    python benchmarks/peer_runs.py fvcore cnn

Prints JSON: seconds to build the model and to count it (the median of up to three runs), the process's peak
memory, the matrix FLOPs that were found (one multiply-add is 2), and what the peer says it left out. Peers
are called as their own documentation calls them. FLOPs of vectors, which some count and others do not, are
left aside.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import sys
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from attrs import asdict, frozen
from torch import Tensor, nn

from modelmeter import build_weightless, trace
from modelmeter.tracing.signatures import read_output
from peer_models import MODELS, Subject

REPEATED_S = 5.0
"""What takes longer is run once."""


@frozen
class Found:
    """What a peer counted: matrix FLOPs, the operators that it says it left out, and those with a formula."""

    matrix_flops: int
    left_out: tuple[str, ...] = ()
    formulas: tuple[str, ...] = ()


def modelmeter(subject: Subject) -> Found:
    """ModelMeter, which runs the model without its weights."""
    graph = trace(subject.module, *subject.args, **subject.kwargs)
    products = {name for used in graph.operators.values() for name, cost in used.items() if cost.matrix_flops}
    return Found(graph.total.matrix_flops, tuple(graph.unknown_operators), tuple(sorted(products)))


def flop_counter(subject: Subject) -> Found:
    """torch's FlopCounterMode around a real forward."""
    from torch.utils.flop_counter import FlopCounterMode, flop_registry

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        subject.module(*subject.args, **subject.kwargs)
    return Found(counter.get_total_flops(), formulas=tuple(sorted(map(str, flop_registry))))


def fvcore(subject: Subject) -> Found:
    """fvcore, which counts along torch.jit.trace; a multiply-add is 1 of its flops."""
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(_Positional(subject), tuple(_tensors(subject)))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with torch.no_grad():
        products = {name: flops for name, flops in analysis.by_operator().items() if name in FVCORE_PRODUCTS}
    return Found(2 * int(sum(products.values())), tuple(sorted(analysis.unsupported_ops())))


FVCORE_PRODUCTS = ("addmm", "baddbmm", "bmm", "conv", "einsum", "linear", "matmul", "mm")


def torchinfo(subject: Subject) -> Found:
    """torchinfo, which multiplies parameters by the size of what their module puts out."""
    from torchinfo import summary

    given = {"input_data": list(subject.args), **subject.kwargs} if subject.args else {"input_data": {**subject.kwargs}}
    result = summary(subject.module, verbose=0, **given)
    return Found(2 * int(result.total_mult_adds))


def torchlens(subject: Subject) -> Found:
    """TorchLens, which records every tensor of a real forward."""
    import torchlens as lens

    capture = lens.options.CaptureOptions(layers_to_save="none", inference_only=True, random_seed=0)
    seen = lens.trace(subject.module, subject.args, dict(subject.kwargs), capture=capture)
    return Found(2 * int(seen.total_macs_forward), tuple(sorted(group.func_name for group in seen.unknown_flop_ops)))


PEERS: dict[str, Callable[[Subject], Found]] = {
    "modelmeter": modelmeter,
    "flop-counter": flop_counter,
    "torchlens": torchlens,
    "fvcore": fvcore,
    "torchinfo": torchinfo,
}


class _Positional(nn.Module):
    """A module that takes tensors by position and gives tensors, as torch.jit.trace wants it."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.module = subject.module
        self.args, self.kwargs = subject.args, subject.kwargs

    def forward(self, *tensors: Tensor) -> Any:
        given = iter(tensors)
        args = [next(given) if isinstance(value, Tensor) else value for value in self.args]
        kwargs = {name: next(given) if isinstance(value, Tensor) else value for name, value in self.kwargs.items()}
        return tuple(read_output(self.module(*args, **kwargs))[1])


def _tensors(subject: Subject) -> list[Tensor]:
    return [value for value in (*subject.args, *subject.kwargs.values()) if isinstance(value, Tensor)]


def build(peer: str, model: str) -> Subject:
    """The model with the weights that its classes give it, or without any for ModelMeter."""
    if peer == "modelmeter":
        return build_weightless(MODELS[model])
    return MODELS[model]()


def main() -> None:
    """Print one result, or the reason why there is none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("model", choices=MODELS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    start = time.perf_counter()
    subject = build(options.peer, options.model)
    result: dict[str, Any] = {"build_s": time.perf_counter() - start}
    times: list[float] = []
    try:
        while len(times) < 3 and sum(times) < REPEATED_S:
            start = time.perf_counter()
            found = PEERS[options.peer](subject)
            times.append(time.perf_counter() - start)
        result |= {"seconds": median(times), **asdict(found)}
    except ImportError as error:
        result["error"] = f"{error.name} is not installed: pip install -c constraints.txt -e '.[bench]'"
    except Exception as error:
        first: BaseException = error
        while first.__cause__ is not None:
            first = first.__cause__  # what the tool met, not what it says of it
        result["error"] = f"{type(first).__name__}: {' '.join(str(first).split())}"
    unit = 1 if sys.platform == "darwin" else 1024
    result["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    print(json.dumps(result))


if __name__ == "__main__":
    main()

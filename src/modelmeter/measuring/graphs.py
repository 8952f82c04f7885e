"""One decode step captured as a CUDA graph: its kernels are issued once and replayed without the host."""

from __future__ import annotations

from typing import Any

import torch

from modelmeter.families.bench import StaticDecode
from modelmeter.families.protocol import ForwardCall

_WARM_STEPS = 3
"""Libraries choose kernels and allocate workspaces in the first calls, which a capture cannot hold."""


class CapturedDecode:
    """Decode steps as replays of a captured one; without a GPU the step is run as it is."""

    def __init__(self, decode: StaticDecode, device: str) -> None:
        self._decode = decode
        self._device = device
        self._graph: Any = None

    @property
    def ids(self) -> torch.Tensor:
        """The token that the next step reads [B, 1]."""
        return self._decode.ids

    @property
    def logits(self) -> torch.Tensor:
        """What the last step wrote [B, vocabulary]."""
        return self._decode.logits

    def begin(self, prefill: ForwardCall, output: Any) -> None:
        """Take over from a prefill; the first time, capture."""
        if self._graph is None and self._device == "cuda":
            self._capture(prefill, output)
        self._decode.begin(prefill, output)

    def step(self) -> None:
        """One decode step."""
        if self._graph is None:
            self._decode.step()
        else:
            self._graph.replay()

    def _capture(self, prefill: ForwardCall, output: Any) -> None:
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_STEPS):
                # From the beginning each time: a step further would leave the cache behind.
                self._decode.begin(prefill, output)
                self._decode.step()
        torch.cuda.current_stream().wait_stream(aside)
        self._decode.begin(prefill, output)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._decode.step()
        self._graph = graph

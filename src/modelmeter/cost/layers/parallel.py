"""How devices share the layers, and what each of them then holds.

Axes: T devices of tensor parallelism, E of expert parallelism. T devices share every head, inner width and vocabulary
(Shoeybi et al., Megatron-LM, 2019): projections into them are cut by columns, those out of them by rows, so that
what is between needs no other device and the results add up to the layer's. E devices hold E-ths of the routed
experts (Lepikhin et al., GShard, 2020; Rajbhandari et al., DeepSpeed-MoE, 2022).
"""

from __future__ import annotations

from attrs import frozen

from modelmeter.cost.arithmetic import Number, ceil_div
from modelmeter.cost.operators import all_reduce
from modelmeter.cost.precision import Precision
from modelmeter.cost.tape import Tape, Tensor


@frozen
class Parallel:
    """Devices that run one batch together. E is 1, or T, or T is 1."""

    tensor: int = 1
    experts: int = 1

    @property
    def shares(self) -> bool:
        """Whether layers are cut up."""
        return self.tensor > 1

    @property
    def spreads(self) -> bool:
        """Whether routed experts lie on different devices."""
        return self.experts > 1

    @property
    def data(self) -> int:
        """Parts that the batch is cut into: only where no layer but the routed experts is shared."""
        return max(self.tensor, self.experts) // self.tensor

    @property
    def expert_parts(self) -> int:
        """Parts that each routed expert is cut into: where whole experts are spread, it is not."""
        return self.tensor if self.experts == 1 else 1

    @property
    def exchanges(self) -> bool:
        """Whether tokens travel to their experts: every device has tokens of its own."""
        return self.spreads and self.data > 1

    @property
    def selects(self) -> bool:
        """Whether a device takes its own experts' tokens out of all: every device has all tokens."""
        return self.spreads and self.data == 1

    def requests_here(self, requests: Number) -> Number:
        """Requests of the device that has the most of a batch."""
        return ceil_div(requests, self.data) if self.data > 1 else requests


ALONE = Parallel()
"""One device."""


def add_up(tape: Tape, partial: Tensor, precision: Precision, parallel: Parallel) -> None:
    """Make the sum over T devices of what each has of a layer's result, in place; nothing on one device."""
    if parallel.shares:
        all_reduce(tape, partial, precision.activation_bytes, parallel.tensor)

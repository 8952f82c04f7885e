"""Small modules of many kinds, each [4, 8] to [4, 8], for comparing a trace with replay and one without.

What ran for real is counted outside of the modules, where replay cannot see it: ``RUNS`` by class name.
"""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelmeter import TraceOptions, trace

RUNS: Counter[str] = Counter()
WIDTH = 8


def documents(module: nn.Module, *args: Any, **options: Any) -> tuple[str, str]:
    """The document with replay and the one without, each of a copy: some modules keep state."""
    made = []
    for replay in (True, False):
        torch.manual_seed(0)
        random.seed(0)
        graph = trace(
            copy.deepcopy(module), *args, options=TraceOptions(replay=replay, **{"max_events": 10_000, **options})
        )
        made.append(graph.to_json())
    return made[0], made[1]


class Counted(nn.Module):
    """A module whose forwards are counted."""

    def count(self) -> None:
        RUNS[type(self).__name__] += 1


class Mlp(Counted):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, 16)
        self.down = nn.Linear(16, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        self.count()
        return x + self.down(F.gelu(self.up(x)))


class Attention(Counted):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        self.count()
        q, k, v = self.qkv(self.norm(x)).view(1, 4, 3, 2, 4).permute(2, 0, 3, 1, 4)
        if mask is None:
            mask = torch.ones(4, 4, dtype=torch.bool).tril()
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return x + out.transpose(1, 2).reshape(4, WIDTH)


class Chunks(Counted):
    """Returns views of one new storage."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Linear(WIDTH, 2 * WIDTH)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.count()
        return self.both(x).chunk(2, dim=-1)


class Gated(Counted):
    def __init__(self) -> None:
        super().__init__()
        self.chunks = Chunks()

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.chunks(x)
        return F.silu(gate) * up


class InPlace(Counted):
    """Changes its own intermediate result, and hands the argument of a callee back."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        self.count()
        hidden = self.linear(x)
        return self.relu(hidden).mul_(2)


class Views(Counted):
    """Returns a view of its argument, and the argument itself."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.count()
        return {"flat": x.view(-1), "same": x}


class Viewing(Counted):
    def __init__(self) -> None:
        super().__init__()
        self.views = Views()

    def forward(self, x: Tensor) -> Tensor:
        views = self.views(x)
        return views["flat"].view(4, WIDTH) + views["same"]


class Experts(Counted):
    """Experts called one by one, as many tokens each as the routing says."""

    def __init__(self) -> None:
        super().__init__()
        self.num_experts = 4
        self.gate = nn.Linear(WIDTH, 4)
        self.experts = nn.ModuleList(Mlp() for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        self.count()
        chosen = self.gate(x).topk(2).indices
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            tokens = (chosen == number).any(-1).nonzero()[:, 0]
            if tokens.numel():
                out[tokens] += expert(x[tokens])
        return out


@dataclass
class Pair:
    first: Tensor
    second: Tensor | None = None


class Point(NamedTuple):
    hidden: Tensor
    positions: Tensor


class Dataclasses(Counted):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, pair: Pair, *, scale: float = 1.0) -> Point:
        self.count()
        return Point(self.linear(pair.first) * scale, torch.arange(4))


class Wrapping(Counted):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Dataclasses()

    def forward(self, x: Tensor) -> Tensor:
        point = self.inner(Pair(x), scale=0.5)
        return point.hidden + point.positions[:, None]


class Recurrent(Counted):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        self.count()
        return self.lstm(x[None])[0][0]


class Convolution(Counted):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x: Tensor) -> Tensor:
        self.count()
        return self.norm(self.conv(x[:, None])).sum(1)


class Positions(Counted):
    """A real buffer takes part, and a table of positions is handed out for real."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.arange(WIDTH).float())

    def forward(self, x: Tensor) -> Tensor:
        self.count()
        assert isinstance(self.frequencies, Tensor)
        return x * self.frequencies.cos() + torch.outer(torch.arange(4).float(), self.frequencies)


class Twice(Counted):
    """One module called twice, with its weight shared with another."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(WIDTH, WIDTH)
        self.other = nn.Linear(WIDTH, WIDTH)
        self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        self.count()
        return self.other(self.one(self.one(x)))


class Counting(Counted):
    """Counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        self.count()
        assert isinstance(self.calls, Tensor)
        self.calls += 1
        return self.linear(x) if self.calls % 2 else self.linear(self.linear(x))


class Remembering(Counted):
    """Sets an attribute and looks at it in the next call."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        self.count()
        self.steps.append(len(self.steps))
        for _ in range(len(self.steps) % 3):
            x = self.linear(x)
        return x


class Noisy(Counted):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        self.count()
        for _ in range(int(torch.randint(1, 4, ()))):
            x = self.linear(x)
        return self.linear(x) if random.random() > 0.5 else x


class Writing(Counted):
    """Writes into a real tensor that it was given."""

    def forward(self, x: Tensor, table: Tensor, row: int) -> Tensor:
        self.count()
        table[row] = x[row]
        return table.sum(0) + x


class Tabled(Counted):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Writing(), Writing()

    def forward(self, x: Tensor) -> Tensor:
        table = torch.zeros(4, WIDTH)
        return self.second(self.first(x, table, 1), table, 1)


class Keeping(Counted):
    """Keeps a result alive beyond the call."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.kept: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.count()
        hidden = self.linear(x)
        self.kept[:] = [hidden]
        return hidden * 2


class Sized(Counted):
    """Works as a value that it is given says."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        self.count()
        for _ in range(int(times)):
            x = self.linear(x)
        return x


class Measured(Counted):
    def __init__(self) -> None:
        super().__init__()
        self.sized = nn.ModuleList(Sized() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for number, module in enumerate(self.sized):
            x = module(x, torch.tensor(1 + number % 2))
        return x


KINDS: dict[str, Callable[[], nn.Module]] = {
    kind.__name__: kind
    for kind in (
        Mlp,
        Attention,
        Gated,
        InPlace,
        Viewing,
        Experts,
        Wrapping,
        Recurrent,
        Convolution,
        Positions,
        Twice,
        Counting,
        Remembering,
        Noisy,
        Tabled,
        Keeping,
        Measured,
    )
}
"""All kinds, pure and impure ones."""

PURE = ("Mlp", "Attention", "InPlace", "Experts", "Recurrent", "Convolution", "Positions", "Twice")
"""Kinds whose repeated calls must not run again."""


class Stack(nn.Module):
    """Modules in series."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.embed = nn.Linear(WIDTH, WIDTH)
        self.layers = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return x

"""Routing policies: which experts each token takes, as plain data.

A policy is asked once per routing decision and answers with a table of shape [T, K]: T tokens, K
distinct experts out of E for each. Trace and closed forms take their tables from here, so that both
count the same work. No torch on this floor, and NumPy only once a table is made: most planning needs none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from attrs import field, frozen

from modelmeter.errors import ScenarioError, UnknownNameError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    RoutingTable = npt.NDArray[np.int64]


class RoutingPolicy(Protocol):
    """Answers with the experts of T tokens."""

    @property
    def name(self) -> str:
        """The policy as the user writes it; kept in documents under ``assumptions``."""
        ...

    def table(self, tokens: int, experts: int, top_k: int, *, call: int = 0, forward: int = 0) -> RoutingTable:
        """Experts of each token: int64 of shape [tokens, top_k], distinct within a row.

        ``call`` counts the routing decisions within one forward, ``forward`` the forwards.
        """
        ...


def _check(tokens: int, experts: int, top_k: int) -> None:
    if not 0 < top_k <= experts:
        raise ScenarioError(
            f"cannot route each token to {top_k} of {experts} experts",
            remedy="top_k must be at least 1 and at most the number of experts",
        )
    if tokens < 0:
        raise ScenarioError(f"cannot route {tokens} tokens", remedy="give a number of tokens of at least 0")


@frozen
class BalancedRouting:
    """Round robin: token t takes the experts (t*K + j) mod E, from 0 again in every decision."""

    name: str = field(default="balanced", init=False)

    def table(self, tokens: int, experts: int, top_k: int, *, call: int = 0, forward: int = 0) -> RoutingTable:
        import numpy as np

        _check(tokens, experts, top_k)
        return np.arange(tokens * top_k, dtype=np.int64).reshape(tokens, top_k) % experts


@frozen
class WorstRouting:
    """Every token takes the experts 0 to K-1: the least parallel case."""

    name: str = field(default="worst", init=False)

    def table(self, tokens: int, experts: int, top_k: int, *, call: int = 0, forward: int = 0) -> RoutingTable:
        import numpy as np

        _check(tokens, experts, top_k)
        return np.tile(np.arange(top_k, dtype=np.int64), (tokens, 1))


@frozen
class ZipfRouting:
    """Expert e gets a load in proportion to 1/(e+1)**alpha, at most one place per token.

    Loads are apportioned by largest remainder, so the table is deterministic and its column sums are
    the closest integers to the law.
    """

    alpha: float

    @property
    def name(self) -> str:
        short = f"{self.alpha:g}"
        return f"zipf:{short if float(short) == self.alpha else self.alpha}"

    def loads(self, tokens: int, experts: int, top_k: int) -> RoutingTable:
        """Tokens per expert, shape [experts]; the sum is tokens * top_k and none exceeds tokens."""
        import numpy as np

        _check(tokens, experts, top_k)
        weight = 1.0 / np.arange(1, experts + 1, dtype=np.float64) ** self.alpha
        ideal = np.zeros(experts)
        full = np.zeros(experts, dtype=bool)
        while True:
            rest = tokens * top_k - tokens * int(full.sum())
            open_weight = weight[~full].sum()
            ideal[full] = tokens
            if open_weight > 0:
                ideal[~full] = rest * weight[~full] / open_weight
            over = ~full & (ideal > tokens)
            if not over.any():
                break
            full |= over
        loads = np.floor(ideal).astype(np.int64)
        order = np.argsort(-(ideal - loads), kind="stable")
        missing = tokens * top_k - int(loads.sum())
        for expert in order:
            if missing and loads[expert] < tokens:
                loads[expert] += 1
                missing -= 1
        return loads

    def table(self, tokens: int, experts: int, top_k: int, *, call: int = 0, forward: int = 0) -> RoutingTable:
        import numpy as np

        loads = self.loads(tokens, experts, top_k)
        # Dealing the experts out like cards, one expert after the other, gives no token the same one
        # twice because no expert has more places than there are tokens.
        deck = np.repeat(np.arange(experts, dtype=np.int64), loads)
        return deck.reshape(top_k, tokens).T.copy()


@frozen
class RandomRouting:
    """K distinct experts a token, uniformly, from a seed; other ones in every decision."""

    seed: int

    @property
    def name(self) -> str:
        return f"random:{self.seed}"

    def table(self, tokens: int, experts: int, top_k: int, *, call: int = 0, forward: int = 0) -> RoutingTable:
        import numpy as np

        _check(tokens, experts, top_k)
        generator = np.random.default_rng([self.seed, forward, call])
        return np.argsort(generator.random((tokens, experts)), axis=1, kind="stable")[:, :top_k].astype(np.int64)


def _as_table(rows: Sequence[Sequence[int]] | RoutingTable) -> RoutingTable:
    import numpy as np

    table = np.asarray(rows)
    if table.ndim != 2 or table.shape[0] == 0 or table.dtype.kind not in "iu":
        raise ScenarioError(
            "a routing table must be a non-empty list of rows of expert numbers",
            remedy="write it as JSON, for example [[0, 1], [2, 3]] for two tokens and top-2",
        )
    if any(len(set(row)) != len(row) for row in table.tolist()):
        raise ScenarioError(
            "a routing table names an expert twice for one token", remedy="use distinct experts in a row"
        )
    return table.astype(np.int64)


def _as_tables(tables: Sequence[Sequence[Sequence[int]] | RoutingTable]) -> tuple[RoutingTable, ...]:
    if not len(tables):
        raise ScenarioError("there is no table of a routing decision", remedy="give at least one")
    return tuple(_as_table(table) for table in tables)


@frozen
class RecordedRouting:
    """Tables that were given: one per routing decision, in order, begun again when they are used up.

    A table with fewer rows than there are tokens is repeated; one with more is cut.
    """

    tables: tuple[RoutingTable, ...] = field(converter=_as_tables, eq=False)
    name: str = "table"
    decisions_per_forward: int = 0

    def table(self, tokens: int, experts: int, top_k: int, *, call: int = 0, forward: int = 0) -> RoutingTable:
        import numpy as np

        _check(tokens, experts, top_k)
        given = self.tables[(forward * self.decisions_per_forward + call) % len(self.tables)]
        if given.shape[1] != top_k:
            raise ScenarioError(
                f"the routing table has {given.shape[1]} experts a token, the model takes {top_k}",
                remedy=f"give a table with {top_k} columns",
            )
        outside = given[(given < 0) | (given >= experts)]
        if outside.size:
            raise ScenarioError(
                f"the routing table names expert {int(outside[0])}, the model has {experts}",
                remedy=f"use expert numbers from 0 to {experts - 1}",
            )
        rows: RoutingTable = given[np.arange(tokens) % given.shape[0]]
        return rows


def _read_table(path: Path) -> RecordedRouting:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(
            f"cannot read the routing table {path}: {error.strerror}", remedy="give a JSON file"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ScenarioError(
            f"the routing table {path} is no JSON: {error}", remedy="write rows of expert numbers as JSON"
        ) from None
    nested = isinstance(data, list) and data and isinstance(data[0], list) and data[0] and isinstance(data[0][0], list)
    try:
        return RecordedRouting(data if nested else [data], name=f"table:{path.name}")
    except ValueError:
        raise ScenarioError(
            f"the routing table {path} has rows of different lengths",
            remedy="give every token equally many experts",
        ) from None


def parse_routing(text: str) -> RoutingPolicy:
    """The policy that a user wrote: ``balanced``, ``worst``, ``zipf:1.2``, ``random:7`` or a JSON file.

    A file holds the experts of each token, [T][K], for every decision, or one such table per routing
    decision, [decisions][T][K].
    """
    kind, _, argument = text.partition(":")
    try:
        if kind == "balanced" and not argument:
            return BalancedRouting()
        if kind == "worst" and not argument:
            return WorstRouting()
        if kind == "zipf":
            alpha = float(argument)
            if not 0 <= alpha <= 100:
                raise ValueError
            return ZipfRouting(alpha)
        if kind == "random":
            seed = int(argument)
            if seed < 0:
                raise ValueError
            return RandomRouting(seed)
    except ValueError:
        raise ScenarioError(
            f"routing policy {text!r}: {argument!r} is no valid parameter",
            remedy="write zipf:ALPHA with ALPHA from 0 to 100, or random:SEED with a whole SEED of at least 0",
        ) from None
    if text.endswith(".json") or Path(text).is_file():
        return _read_table(Path(text))
    raise UnknownNameError("routing policy", text, ("balanced", "worst", "zipf:ALPHA", "random:SEED", "a .json file"))

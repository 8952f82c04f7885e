"""Feed-forward parts in closed form: plain, gated, and mixtures of experts.

Axes: T tokens, D hidden size, F intermediate size, E experts, K experts a token.
"""

from __future__ import annotations

from attrs import frozen

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.layers.experts_exchange import Travel
from modelmeter.cost.layers.parallel import ALONE, Parallel, add_up
from modelmeter.cost.layers.routing import DEEPSEEK_OCR, Router, choose_experts
from modelmeter.cost.operators import activation, add, linear, multiply
from modelmeter.cost.precision import Precision
from modelmeter.cost.tape import Part, Read, Tape, Tensor


def gated_mlp(
    tape: Tape,
    x: Read,
    rows: Number,
    hidden_size: Number,
    intermediate_size: Number,
    precision: Precision,
    *,
    bias: bool = False,
) -> Tensor:
    """down(act(gate(x)) * up(x)), inside the module that owns the three projections.

    6 * rows * D * F matrix FLOPs. Source: Shazeer, GLU Variants Improve Transformer (2020).
    """
    inner = rows * intermediate_size
    pair = {"members": tape.here.members * 2, "in_features": hidden_size, "out_features": intermediate_size}
    with tape.module("[gate_proj,up_proj]", "Linear", **pair):
        gated = linear(tape, x, rows, hidden_size, intermediate_size, precision, bias=bias)
        tape.returns(gated)
    with tape.module("act_fn", "SiLU"):
        active = activation(tape, gated, inner, precision.activation_bytes)
        tape.returns(active)
    tape.free(gated)
    with tape.module("[gate_proj,up_proj]", "Linear", **pair):
        up = linear(tape, x, rows, hidden_size, intermediate_size, precision, bias=bias)
        tape.returns(up)
    product = multiply(tape, active, up, inner, precision.activation_bytes)
    tape.free(active, up)
    with tape.module("down_proj", "Linear", in_features=intermediate_size, out_features=hidden_size):
        result = linear(tape, product, rows, intermediate_size, hidden_size, precision, bias=bias)
        tape.returns(result)
    tape.free(product)
    tape.returns(result)
    return result


@frozen
class ExpertsShape:
    """Routed experts of ``intermediate_size`` each, and shared ones that every token takes."""

    hidden_size: int
    intermediate_size: int
    experts: int
    shared_experts: int
    top_k: int


@frozen
class Load:
    """What routing gives the experts of all layers that a walk stands for.

    ``rows`` token copies in ``calls`` expert calls. For the peak, the call during which most is live counts:
    it has ``running`` copies, while the results of ``waiting`` are kept; of all others, if not given.

    Where experts are spread over devices, all are those of the busiest one: ``most`` copies come to it in one layer,
    and in ``decisions`` layers and forwards it sends or receives, whichever is more, ``exchanged`` copies.
    """

    rows: Number
    calls: Number
    running: Number
    waiting: Number | None = None
    most: Number | None = None
    exchanged: Number = 0
    decisions: Number = 0


def mixture_of_experts(
    tape: Tape,
    x: Tensor,
    tokens: Number,
    shape: ExpertsShape,
    load: Load,
    precision: Precision,
    *,
    router: Router = DEEPSEEK_OCR,
    expert: str = "DeepseekV2MLP",
    parallel: Parallel = ALONE,
) -> Tensor:
    """Routed experts, each on its own tokens, and shared experts as one wider part on all of them.

    2 * T * D * E matrix FLOPs for the gate, 6 * T * K * D * F for the routed experts whatever the
    routing, 6 * T * D * F * shared for the shared ones. How many experts are called, and so how much of
    the weights is read, is the routing's. ``expert`` is the class of an expert.

    On several devices every one has the gate, and its part of each expert or some whole experts; see
    ``experts_exchange`` for how tokens get there.
    Source: DeepSeek-AI, DeepSeek-V2 (2024), section 2.2.
    """
    width, hidden = precision.activation_bytes, shape.hidden_size
    with tape.module("gate", router.class_name, num_experts=shape.experts, top_k=shape.top_k, hidden_size=hidden):
        chosen, weights = choose_experts(tape, x, tokens, hidden, shape.experts, shape.top_k, router, precision)
        tape.returns(chosen, weights)
    copies = tokens * shape.top_k
    most = copies if load.most is None else load.most
    busiest = (most, load.rows, load.exchanged, load.decisions)
    travel = Travel(tokens, hidden, shape.experts, shape.top_k, *busiest, precision, parallel)
    order, grouped, counts = travel.bring(tape, x, chosen)

    def run_expert(rows: Number, whole: bool) -> None:
        held = shape.experts // parallel.experts * members
        with tape.module(f"experts.{pattern(shape.experts)}", expert, members=held):
            mine = Part(grouped, rows * hidden * width)
            inner = shape.intermediate_size // parallel.expert_parts
            tape.free(gated_mlp(tape, mine, rows, hidden, inner, precision))

    members = tape.here.members
    # An expert runs while the results of those before it wait.
    waiting = copies - load.running if load.waiting is None else load.waiting
    others = tape.given(waiting * hidden * width)
    with tape.counted_together():
        tape.spread(run_expert, amount=load.rows, over=load.calls, largest=load.running)
    tape.free(others)
    results = tape.given(most * hidden * width)
    out, lingering = travel.bring_back(tape, results, order, weights)
    tape.free(results, order, grouped, counts, *lingering)
    if shape.shared_experts:
        with tape.module("shared_experts", expert):
            inner = shape.intermediate_size * shape.shared_experts // parallel.tensor
            shared = gated_mlp(tape, x, tokens, hidden, inner, precision)
        routed, out = out, add(tape, out, shared, tokens * hidden, width)
        tape.free(routed, shared)
    add_up(tape, out, precision, parallel)
    tape.free(chosen, weights)
    tape.returns(out)
    return out


def pattern(number: int) -> str:
    """Names of that many numbered modules: ``[0-63]``; see ``modelmeter.patterns``."""
    from modelmeter.patterns import one_of

    return one_of(str(index) for index in range(number))

"""The plain feed-forward part: two linear layers with an activation function between them.

Axes: T tokens, D hidden size, F intermediate size.
"""

from __future__ import annotations

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.operators import activation, linear
from modelmeter.cost.precision import Precision
from modelmeter.cost.tape import Read, Tape, Tensor


def plain_mlp(
    tape: Tape,
    x: Read,
    rows: Number,
    hidden_size: Number,
    intermediate_size: Number,
    precision: Precision,
    *,
    names: tuple[str, str, str] = ("fc1", "activation_fn", "fc2"),
    class_names: tuple[str, str] = ("Linear", "GELUActivation"),
    bias: bool = True,
) -> Tensor:
    """second(act(first(x))), inside the module that owns both: 4 * T * D * F matrix FLOPs.

    1 vector FLOP an element of the middle for the activation function (GELU, ReLU), run as one kernel.
    ``names``: of the first layer, the activation's module and the second layer; ``class_names``: of the
    layers and of the activation.
    Source: Vaswani et al., Attention Is All You Need (2017), section 3.3; GELU as in Radford et al.,
    GPT-2 (2019), and Devlin et al., BERT (2018).
    """
    first, between, second = names
    layer_class, activation_class = class_names
    with tape.module(first, layer_class, in_features=hidden_size, out_features=intermediate_size, bias=bias):
        inner = linear(tape, x, rows, hidden_size, intermediate_size, precision, bias=bias)
        tape.returns(inner)
    with tape.module(between, activation_class):
        active = activation(tape, inner, rows * intermediate_size, precision.activation_bytes)
        tape.returns(active)
    tape.free(inner)
    with tape.module(second, layer_class, in_features=intermediate_size, out_features=hidden_size, bias=bias):
        result = linear(tape, active, rows, intermediate_size, hidden_size, precision, bias=bias)
        tape.returns(result)
    tape.free(active)
    tape.returns(result)
    return result

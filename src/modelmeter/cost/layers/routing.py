"""How tokens choose experts: the kinds of gate that published models use, as data.

Which experts they choose, and so how many are called, is ``expert_load``'s.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import in_

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.operators import gate, sigmoid_gate, softmax_gate
from modelmeter.cost.precision import Precision
from modelmeter.cost.tape import Tape, Tensor


@frozen
class Router:
    """One kind of gate.

    ``scores``: ``softmax``, ``sigmoid`` (with the bias that balances the load), or ``plain``, which is
    DeepSeek-OCR's softmax without anything after it. ``wide``: the softmax's product is taken in float32
    (a sigmoid's always is). ``groups``: experts form so many, of which ``groups_kept`` can be chosen from
    (``n_group``, ``topk_group``; 0 where there are none, while one group is looked at and limits nothing).
    ``renormalises``: weights of the chosen are divided by their sum (``norm_topk_prob``). ``scales``: they
    are multiplied by ``routed_scaling_factor``. ``narrow``: a softmax's weights are given in the
    activations' type.
    """

    class_name: str
    scores: str = field(default="softmax", validator=in_(("plain", "softmax", "sigmoid")))
    wide: bool = False
    groups: int = 0
    groups_kept: int = 0
    renormalises: bool = False
    scales: bool = False
    narrow: bool = False


DEEPSEEK_OCR = Router("MoEGate", "plain")


def mixtral_router(class_name: str = "MixtralTopKRouter") -> Router:
    """Softmax over all experts, the weights of the best renormalised.

    Source: Jiang et al., Mixtral of Experts (2024), section 2.1 (there the softmax is over the chosen
    alone, which is the same after renormalising).
    """
    return Router(class_name, renormalises=True)


def qwen3_router(norm_topk_prob: bool, class_name: str = "Qwen3MoeTopKRouter") -> Router:
    """Softmax over all experts, renormalised if the configuration says so. Source: Qwen3 (2025)."""
    return Router(class_name, renormalises=norm_topk_prob, narrow=True)


def deepseek_v2_router(
    groups: int = 0, groups_kept: int = 0, class_name: str = "DeepseekV2TopkRouter", *, renormalises: bool = False
) -> Router:
    """Softmax in float32, the best experts of the best groups, scaled.

    Source: DeepSeek-AI, DeepSeek-V2 (2024), sections 2.2.1 and 2.2.2.
    """
    return Router(class_name, wide=True, groups=groups, groups_kept=groups_kept, renormalises=renormalises, scales=True)


def deepseek_v3_router(
    groups: int, groups_kept: int, class_name: str = "DeepseekV3TopkRouter", *, renormalises: bool = True
) -> Router:
    """Sigmoid in float32 with a balancing bias, the best experts of the best groups, renormalised and scaled.

    Source: DeepSeek-AI, DeepSeek-V3 Technical Report (2024), section 2.1.2.
    """
    return Router(
        class_name,
        "sigmoid",
        wide=True,
        groups=groups,
        groups_kept=groups_kept,
        renormalises=renormalises,
        scales=True,
    )


def choose_experts(
    tape: Tape,
    x: Tensor,
    tokens: Number,
    hidden_size: Number,
    experts: Number,
    top_k: Number,
    router: Router,
    precision: Precision,
) -> tuple[Tensor, Tensor]:
    """Experts of each token and their weights, inside the gate's module."""
    if router.scores == "plain":
        return gate(tape, x, tokens, hidden_size, experts, top_k, precision)
    limits = {"groups": router.groups, "groups_kept": router.groups_kept}
    if router.scores == "sigmoid":
        return sigmoid_gate(
            tape,
            x,
            tokens,
            hidden_size,
            experts,
            top_k,
            precision,
            **limits,
            renormalises=router.renormalises,
            scales=router.scales,
        )
    return softmax_gate(
        tape,
        x,
        tokens,
        hidden_size,
        experts,
        top_k,
        precision,
        **limits,
        wide=router.wide,
        renormalises=router.renormalises,
        scales=router.scales,
        narrow=router.narrow,
    )

"""Matrix FLOPs: every formula against the dense count, and no product that passes as zero."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, library, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from modelmeter import trace
from modelmeter.tracing import operators
from modelmeter.tracing.matrix_flops import MATRIX_FLOPS, matrix_flops
from modelmeter.tracing.operators import describe_operator
from test_weightless import Body


def counted(body: Callable[..., Any], *args: Any) -> int:
    """Matrix FLOPs of a function of real tensors."""

    class Once(nn.Module):
        def forward(self) -> Any:
            return body(*args)

    graph = trace(Once())
    assert not graph.unknown_operators
    return graph.total.matrix_flops


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape)


def bytes_of(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.int8)


BY_HAND: dict[str, tuple[Callable[[], Any], int]] = {
    "mm": (lambda: randn(3, 4) @ randn(4, 5), 2 * 3 * 4 * 5),
    "int mm": (lambda: torch._int_mm(bytes_of(32, 16), bytes_of(16, 8)), 2 * 32 * 16 * 8),
    "addmm": (lambda: torch.addmm(randn(5), randn(3, 4), randn(4, 5)), 2 * 3 * 4 * 5),
    "addmm_": (lambda: randn(3, 5).addmm_(randn(3, 4), randn(4, 5)), 2 * 3 * 4 * 5),
    "bmm": (lambda: torch.bmm(randn(7, 3, 4), randn(7, 4, 5)), 7 * 2 * 3 * 4 * 5),
    "baddbmm": (lambda: torch.baddbmm(randn(7, 3, 5), randn(7, 3, 4), randn(7, 4, 5)), 7 * 2 * 3 * 4 * 5),
    "baddbmm_": (lambda: randn(7, 3, 5).baddbmm_(randn(7, 3, 4), randn(7, 4, 5)), 7 * 2 * 3 * 4 * 5),
    "addbmm": (lambda: torch.addbmm(randn(3, 5), randn(7, 3, 4), randn(7, 4, 5)), 7 * 2 * 3 * 4 * 5),
    "mv": (lambda: torch.mv(randn(3, 4), randn(4)), 2 * 3 * 4),
    "addmv": (lambda: torch.addmv(randn(3), randn(3, 4), randn(4)), 2 * 3 * 4),
    "addmv_": (lambda: randn(3).addmv_(randn(3, 4), randn(4)), 2 * 3 * 4),
    "dot": (lambda: torch.dot(randn(9), randn(9)), 2 * 9),
    "vdot": (lambda: torch.vdot(randn(9), randn(9)), 2 * 9),
    "linear": (lambda: F.linear(randn(2, 3, 4), randn(5, 4), randn(5)), 2 * 6 * 4 * 5),
    "einsum": (lambda: torch.einsum("bij,bkj->bik", randn(2, 3, 4), randn(2, 5, 4)), 2 * 2 * 3 * 4 * 5),
    "bilinear": (lambda: F.bilinear(randn(6, 3), randn(6, 4), randn(5, 3, 4)), 2 * 6 * 5 * 3 * 4 + 2 * 6 * 5 * 4),
    "near distances": (lambda: torch.cdist(randn(3, 6), randn(4, 6)), 2 * 3 * 4 * 6),
    "far distances": (lambda: torch.cdist(randn(30, 6), randn(40, 6)), 2 * 30 * 40 * 6),
    "triangular": (
        lambda: torch.linalg.solve_triangular(torch.eye(4).expand(7, 4, 4), randn(7, 4, 3), upper=False),
        7 * 3 * (2 * 4 * 3 // 2 + 4),
    ),
    "rows by group": (
        lambda: torch._grouped_mm(randn(7, 8), randn(3, 8, 16), torch.tensor([2, 5, 7], dtype=torch.int32)),
        2 * 7 * 8 * 16,
    ),
    "groups apart": (lambda: torch._grouped_mm(randn(3, 4, 8), randn(3, 8, 16)), 3 * 2 * 4 * 8 * 16),
    "int8 weights": (
        lambda: torch._weight_int8pack_mm(randn(4, 32).bfloat16(), bytes_of(16, 32), randn(16).bfloat16()),
        2 * 4 * 32 * 16,
    ),
    "conv_tbc": (lambda: torch.conv_tbc(randn(9, 2, 3), randn(4, 3, 5), randn(5), 0), 2 * 6 * 2 * 4 * 3 * 5),
    "lstm": (lambda: nn.LSTM(5, 6, 2, bidirectional=True)(randn(7, 3, 5)), 2 * 7 * 3 * 2 * 24 * (5 + 6 + 12 + 6)),
    "lstm cell": (lambda: nn.LSTMCell(5, 6)(randn(3, 5)), 2 * 3 * 24 * (5 + 6)),
    "gru": (lambda: nn.GRU(5, 6)(randn(7, 3, 5)), 2 * 7 * 3 * 18 * (5 + 6)),
}  # fmt: skip


@pytest.mark.parametrize(("body", "flops"), BY_HAND.values(), ids=BY_HAND)
def test_products_by_hand(body: Callable[[], Any], flops: int) -> None:
    assert counted(body) == flops


CONVOLUTIONS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "1d": (nn.Conv1d(4, 6, 3), (2, 4, 11)),
    "2d": (nn.Conv2d(4, 6, (3, 2), stride=2, padding=1), (2, 4, 9, 8)),
    "3d": (nn.Conv3d(4, 6, 2), (2, 4, 5, 6, 7)),
    "groups": (nn.Conv2d(4, 8, 3, groups=2), (2, 4, 9, 9)),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4), (2, 4, 9, 9)),
    "dilated": (nn.Conv2d(4, 6, 3, dilation=2), (2, 4, 9, 9)),
    "same": (nn.Conv2d(4, 6, 3, padding="same"), (2, 4, 9, 9)),
    "transposed 1d": (nn.ConvTranspose1d(4, 6, 3, stride=2), (2, 4, 9)),
    "transposed 2d": (nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1), (2, 4, 5, 5)),
    "transposed 3d": (nn.ConvTranspose3d(4, 6, 2), (2, 4, 3, 3, 3)),
    "transposed groups": (nn.ConvTranspose2d(4, 6, 3, groups=2), (2, 4, 5, 5)),
}


@pytest.mark.parametrize(("module", "shape"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions_by_hand_and_as_torch_counts_them(module: Any, shape: tuple[int, ...]) -> None:
    x = randn(*shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        out = module(x)
    taps = math.prod(module.kernel_size) * module.in_channels * module.out_channels // module.groups
    positions = (x if module.transposed else out).shape[2:]
    flops = trace(module, x).total.matrix_flops
    assert flops == 2 * shape[0] * math.prod(positions) * taps == counter.get_total_flops()


@pytest.mark.parametrize("name", ["cudnn_convolution", "mkldnn_convolution", "miopen_convolution", "_conv_depthwise2d"])
def test_a_switch_of_another_backend_is_not_taken_for_transposed(name: str) -> None:
    formula = MATRIX_FLOPS[f"aten.{name}"]
    out = torch.empty(2, 6, 3, 3)
    assert formula(randn(2, 4, 9, 9), randn(6, 4, 3, 3), *[True] * 8, out=out) == 2 * 2 * 9 * 6 * 4 * 9


@pytest.mark.parametrize("backend", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
@pytest.mark.parametrize(("heads", "groups", "v_size"), [(4, 4, 8), (4, 2, 8), (4, 4, 6)])
def test_attention_counts_the_same_in_all_backends(backend: SDPBackend, heads: int, groups: int, v_size: int) -> None:
    q, k, v = randn(2, heads, 5, 8), randn(2, groups, 7, 8), randn(2, groups, 7, v_size)

    def attention() -> Tensor:
        with sdpa_kernel([backend, SDPBackend.MATH]):
            return F.scaled_dot_product_attention(q, k, v, enable_gqa=groups != heads)

    assert counted(attention) == 2 * 2 * heads * 5 * 7 * (8 + v_size)


SDPA = sorted(name for name in MATRIX_FLOPS if "scaled_dot_product" in name and not name.endswith("_backward"))


@pytest.mark.parametrize("name", SDPA)
def test_fused_attention_of_every_backend(name: str) -> None:
    q, k, v = randn(2, 4, 5, 8), randn(2, 2, 7, 8), randn(2, 2, 7, 6)
    assert MATRIX_FLOPS[name](q, k, v, out=None) == 2 * 2 * 4 * 5 * 7 * (8 + 6)


def test_raw_attention_has_its_heads_behind_the_positions() -> None:
    formula = MATRIX_FLOPS["aten._flash_attention_forward"]
    assert formula(randn(2, 5, 4, 8), randn(2, 7, 4, 8), randn(2, 7, 4, 8), out=None) == 2 * 2 * 4 * 5 * 7 * 16
    ends = torch.tensor([0, 3, 5])
    ragged = formula(randn(5, 4, 8), randn(5, 4, 8), randn(5, 4, 8), ends, ends, out=None)
    assert ragged == 2 * 4 * (3 * 3 + 2 * 2) * 16


@pytest.mark.parametrize("hidden", [8, 16, 24])
def test_the_fast_paths_count_what_the_slow_ones_do(hidden: int) -> None:
    x = randn(2, 5, 8)
    attention, layer = (
        nn.MultiheadAttention(8, 2, batch_first=True),
        nn.TransformerEncoderLayer(8, 2, hidden, batch_first=True),
    )
    for module, args in ((attention, (x, x, x)), (layer, (x,))):
        fast = trace(module.eval(), *args)
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            slow = trace(module, *args)
        finally:
            torch.backends.mha.set_fastpath_enabled(True)
        assert fast.total.launches == 1 < slow.total.launches
        assert fast.total.matrix_flops == slow.total.matrix_flops > 0


def test_a_second_formula_for_an_operator_is_refused() -> None:
    with pytest.raises(ValueError, match=r"aten\.mm has a FLOP formula already"):
        matrix_flops("aten.mm")(lambda *_, out: 0)
    assert MATRIX_FLOPS["aten.mm"](randn(2, 3), randn(3, 4), out=None) == 48


@pytest.fixture
def custom_operator() -> Any:
    added = library.Library("modelmeter_test", "FRAGMENT")
    added.define("scan(Tensor x) -> Tensor")
    added.impl("scan", lambda x: x.clone(), "CompositeExplicitAutograd")
    library.register_fake("modelmeter_test::scan", lambda x: torch.empty_like(x), lib=added)
    yield torch.ops.modelmeter_test.scan
    added._destroy()


def test_an_unknown_operator_is_named_and_makes_totals_lower_bounds(custom_operator: Any) -> None:
    graph = trace(Body(lambda m, x: custom_operator(custom_operator(x @ m.weight))), torch.ones(4, 4))
    assert graph.unknown_operators == {"modelmeter_test.scan": 2}
    assert graph.is_lower_bound and ">=" in repr(graph)
    assert ">=" not in repr(trace(nn.Linear(4, 4), torch.ones(1, 4)))


def test_a_product_without_a_formula_is_unknown() -> None:
    graph = trace(Body(lambda m, x: torch.linalg.inv_ex(torch.eye(4))), torch.ones(4, 4))
    assert graph.unknown_operators == {"aten.linalg_inv_ex": 1}


def dispatched() -> dict[str, list[Any]]:
    """Operators of this torch that can reach a dispatch mode, by name without overload."""
    found: dict[str, list[Any]] = {}
    for schema in torch._C._jit_get_all_schemas():
        namespace, _, name = schema.name.partition("::")
        if namespace != "aten":
            continue
        operator = getattr(getattr(torch.ops.aten, name), schema.overload_name or "default", None)
        if isinstance(operator, torch._ops.OpOverload):
            found.setdefault(f"aten.{name}", []).append(operator)
    return found


OPERATORS = dispatched()
OTHER_VERSIONS = frozenset({"aten._scaled_mm_v2", "aten._scaled_grouped_mm_v2", "aten._foreach_mm"})
"""Operators with entries in our lists that not every supported torch has."""


@pytest.mark.parametrize(
    "entries",
    [
        "NO_LAUNCH",
        "MOVES",
        "GATHERS",
        "SCATTERS",
        "OVERWRITES",
        "PER_INPUT_ELEMENT",
        "PER_OUTPUT_ELEMENT",
        "MATRIX_FLOPS",
    ],
)
def test_every_entry_of_the_lists_is_an_operator_of_torch(entries: str) -> None:
    names = set(getattr(operators, entries))
    assert names and sorted(names - OPERATORS.keys() - OTHER_VERSIONS) == []


def test_no_operator_is_in_two_lists_that_contradict_each_other() -> None:
    vector = operators.PER_INPUT_ELEMENT.keys() | operators.PER_OUTPUT_ELEMENT.keys()
    assert sorted(MATRIX_FLOPS.keys() & (vector | operators.MOVES | operators.NO_LAUNCH)) == []
    assert sorted(vector & (operators.MOVES | operators.NO_LAUNCH)) == []
    assert sorted(operators.PER_INPUT_ELEMENT.keys() & operators.PER_OUTPUT_ELEMENT.keys()) == []


PRODUCT = re.compile(
    r"mm(_|$|\d)|addm?v|mv_?$|bmm|matmul|conv(olution)?(\d|_|$)|attention|lstm|gru_|_gru|rnn|linear(_|$)|einsum|cdist|_dist$|"
    r"_trilinear$|vdot|\.dot$|multi_head|encoder_layer|solve|cholesky|svd|_eig|_qr|geqrf|ormqr|householder|matrix_exp"
)


def test_nothing_that_is_named_like_a_product_passes_as_zero() -> None:
    silent = []
    for name, overloads in OPERATORS.items():
        if not PRODUCT.search(name) or "backward" in name:
            continue
        for overload in overloads:
            described = describe_operator(overload)
            if described.matrix is None and not described.unknown and described.launches:
                silent.append(name)
    assert sorted(set(silent)) == []


def test_in_place_operators_cost_what_their_functions_do() -> None:
    for name in ("addcmul", "lerp", "cumsum", "addmm", "masked_fill", "clamp", "index_add"):
        plain, in_place = (describe_operator(OPERATORS[f"aten.{name}{end}"][0]) for end in ("", "_"))
        assert (plain.matrix, plain.per_input, plain.per_output) == (
            in_place.matrix,
            in_place.per_input,
            in_place.per_output,
        )
        assert plain.launches and in_place.launches


@pytest.mark.parametrize(
    "name", ["t_", "squeeze_", "unsqueeze_", "transpose_", "detach_", "_unsafe_view", "view", "expand"]
)
def test_what_only_changes_a_shape_starts_no_kernel(name: str) -> None:
    assert not any(describe_operator(overload).launches for overload in OPERATORS[f"aten.{name}"])

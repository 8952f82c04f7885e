"""Stand-ins for GPU kernels: the same results, shapes and FLOPs as the plain operations that they stand for."""

from __future__ import annotations

import builtins
import importlib.util
import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import modelmeter
from modelmeter.tracing.stand_ins import STAND_INS, flash_attn, mamba, standing_in, xformers
from modelmeter.tracing.stand_ins.attention import lengths_of
from modelmeter.tracing.stand_ins.registry import StandIn, no_flops, register

BATCH, LENGTH, HEADS, GROUPS, SIZE = 2, 9, 4, 2, 8
WIDTH = HEADS * SIZE


class Kernel(nn.Module):
    """A function behind one weight, so that nothing real reaches it in a weightless trace."""

    def __init__(self, call: Callable[..., Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.call = call

    def forward(self, *given: Tensor) -> Any:
        return self.call(*(part * self.weight for part in given))


def work(call: Callable[..., Any], *given: Tensor) -> tuple[int, int, list[tuple[int, ...]]]:
    """Matrix FLOPs, vector FLOPs and the result's shapes in a weightless trace."""
    graph = modelmeter.trace(Kernel(call), *given)
    assert not graph.unknown_operators
    total = graph.costs["Kernel"].total
    shapes = [tensor.shape for tensor in graph.output_metadata["Kernel"][0].tensors]
    return total.matrix_flops, total.vector_flops, shapes


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(math.prod(shape)))


def heads_first(part: Tensor, heads: int = HEADS) -> Tensor:
    part = part.transpose(1, 2)
    return part.repeat_interleave(heads // part.shape[1], dim=1)


def plain(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """What torch makes of the same; heads second."""
    heads = q.shape[2]
    q, k, v = (heads_first(part, heads) for part in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v, **options).transpose(1, 2)


def projected(length: int = LENGTH, groups: int = GROUPS) -> tuple[Tensor, Tensor, Tensor]:
    return random(BATCH, length, HEADS, SIZE), random(BATCH, LENGTH, groups, SIZE), random(BATCH, LENGTH, groups, SIZE)


def band(length: int, left: int, right: int) -> Tensor:
    """Which keys a window shows, the last query at the last key."""
    place = torch.arange(length)[:, None] + LENGTH - length
    keys = torch.arange(LENGTH)
    return (keys >= place - left) & (keys <= place + right)


ATTENTIONS: dict[str, tuple[Callable[..., Any], dict[str, Any], int]] = {
    "whole": (flash_attn.flash_attn_func, {}, LENGTH),
    "causal": (lambda *qkv: flash_attn.flash_attn_func(*qkv, causal=True), {"is_causal": True}, LENGTH),
    "one query at the end": (lambda *qkv: flash_attn.flash_attn_func(*qkv, causal=True), {}, 1),
    "scaled": (lambda *qkv: flash_attn.flash_attn_func(*qkv, softmax_scale=0.1), {"scale": 0.1}, LENGTH),
    "windowed": (
        lambda *qkv: flash_attn.flash_attn_func(*qkv, window_size=(3, 1)),
        {"attn_mask": band(4, 3, 1)},
        4,
    ),
    "causal and windowed": (
        lambda *qkv: flash_attn.flash_attn_func(*qkv, causal=True, window_size=(3, 3)),
        {"attn_mask": band(LENGTH, 3, 0)},
        LENGTH,
    ),
    "ALiBi": (
        lambda *qkv: flash_attn.flash_attn_func(*qkv, alibi_slopes=torch.full((HEADS,), 0.5)),
        {"attn_mask": -0.5 * (torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)).abs().float()},
        LENGTH,
    ),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_flash_attention_is_torchs(name: str) -> None:
    call, options, length = ATTENTIONS[name]
    given = projected(length)
    torch.testing.assert_close(call(*given), plain(*given, **options))
    # Without the mask: a slice of it is work that no kernel does, and it changes no FLOPs.
    assert work(call, *given) == work(plain, *given)


def test_packed_in_one_tensor() -> None:
    q, k, v = projected(groups=HEADS)
    qkv, kv = torch.stack((q, k, v), dim=2), torch.stack((k, v), dim=2)
    expected = flash_attn.flash_attn_func(q, k, v, causal=True)
    torch.testing.assert_close(flash_attn.flash_attn_qkvpacked_func(qkv, causal=True), expected)
    torch.testing.assert_close(flash_attn.flash_attn_kvpacked_func(q, kv, causal=True), expected)
    out, sums, _ = flash_attn.flash_attn_func(q, k, v, return_attn_probs=True)
    scores = heads_first(q) @ heads_first(k).transpose(2, 3) / math.sqrt(SIZE)
    torch.testing.assert_close(sums, scores.logsumexp(dim=-1))
    assert out.shape == q.shape


def each(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Sequences of 4 and 5 tokens, one call each."""
    parts = [plain(a[None], b[None], c[None], is_causal=True)[0] for a, b, c in zip(*rows(q, k, v), strict=True)]
    return torch.cat(parts)


def rows(*given: Tensor) -> list[tuple[Tensor, ...]]:
    return [part.split([4, 5]) for part in given]


def test_sequences_one_after_the_other() -> None:
    ends = torch.tensor([0, 4, 9], dtype=torch.int32)

    def varlen(q: Tensor, k: Tensor, v: Tensor) -> Any:
        return flash_attn.flash_attn_varlen_func(q, k, v, ends, ends, 5, 5, causal=True)

    def blocks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mask = xformers.BlockDiagonalMask.from_seqlens([4, 5]).make_causal()
        k, v = (part.repeat_interleave(HEADS // GROUPS, dim=1) for part in (k, v))
        return xformers.memory_efficient_attention(q[None], k[None], v[None], attn_bias=mask)[0]

    given = random(9, HEADS, SIZE), random(9, GROUPS, SIZE), random(9, GROUPS, SIZE)
    torch.testing.assert_close(varlen(*given), each(*given))
    q, k, v = (part.repeat_interleave(HEADS // part.shape[1], dim=1) for part in given)
    packed = flash_attn.flash_attn_varlen_qkvpacked_func(torch.stack((q, k, v), dim=1), ends, 5, causal=True)
    torch.testing.assert_close(packed, each(*given))
    kv = torch.stack((k, v), dim=1)
    half = flash_attn.flash_attn_varlen_kvpacked_func(q, kv, ends, ends, 5, 5, causal=True)
    torch.testing.assert_close(half, each(*given))
    torch.testing.assert_close(blocks(*given), each(*given))
    assert work(varlen, *given) == work(each, *given)
    assert work(blocks, *given) == work(each, *given)
    assert work(varlen, *given)[0] == 2 * HEADS * (4 * 4 + 5 * 5) * 2 * SIZE


def test_a_padded_batch_without_its_padding() -> None:
    mask = torch.tensor([[1] * 4 + [0] * 5, [1] * 9])
    kept, indices, ends, longest = flash_attn.unpad_input(random(BATCH, LENGTH, WIDTH), mask)
    assert kept.shape == (13, WIDTH) and ends.tolist() == [0, 4, 13] and longest == 9
    again = flash_attn.pad_input(kept, indices, BATCH, LENGTH)
    torch.testing.assert_close(again, random(BATCH, LENGTH, WIDTH) * mask[:, :, None])
    torch.testing.assert_close(flash_attn.index_first_axis(again.flatten(0, 1), indices), kept)


def test_lengths() -> None:
    assert lengths_of(torch.tensor([0, 3, 7]), 7) == [3, 4]
    assert lengths_of(torch.zeros(4, dtype=torch.int32), 8) == [2, 3, 3], "without values: as equal as can be"


@pytest.mark.parametrize("bias", ["none", "triangle", "tensor"])
def test_memory_efficient_attention(bias: str) -> None:
    q, k, v = projected(groups=HEADS)
    hidden = torch.full((LENGTH, LENGTH), -torch.inf).triu(1)
    mask = {"none": None, "triangle": xformers.LowerTriangularMask(), "tensor": hidden.expand(BATCH, HEADS, -1, -1)}

    def efficient(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return xformers.memory_efficient_attention(q, k, v, attn_bias=mask[bias])

    torch.testing.assert_close(efficient(q, k, v), plain(q, k, v, attn_mask=None if bias == "none" else hidden))
    assert work(efficient, q, k, v) == work(plain, q, k, v)


def test_memory_efficient_attention_in_other_layouts() -> None:
    q, k, v = projected(length=4, groups=HEADS)
    expected = xformers.memory_efficient_attention(q, k, v)
    one = xformers.memory_efficient_attention(q[:, :, 0], k[:, :, 0], v[:, :, 0])
    torch.testing.assert_close(one, expected[:, :, 0])
    grouped = xformers.memory_efficient_attention(*(part.unflatten(2, (GROUPS, -1)) for part in (q, k, v)))
    torch.testing.assert_close(grouped.flatten(2, 3), expected)
    # Its causal mask counts from the first key.
    triangle = xformers.memory_efficient_attention(q, k, v, xformers.LowerTriangularMask())
    torch.testing.assert_close(triangle, plain(q, k, v, is_causal=True))


NORMS: dict[str, tuple[int, Callable[..., Any], Callable[..., Any]]] = {
    "rms": (
        5,
        lambda x, w, b, r: flash_attn.rms_norm(x, w, 1e-5),
        lambda x, w, b, r: functional.rms_norm(x, (WIDTH,), w, 1e-5),
    ),
    "layer": (
        8,
        lambda x, w, b, r: flash_attn.layer_norm(x, w, b, 1e-5),
        lambda x, w, b, r: functional.layer_norm(x, (WIDTH,), w, b, 1e-5),
    ),
    "rms after a sum": (
        6,
        lambda x, w, b, r: flash_attn.rms_norm_fn(x, w, None, residual=r, eps=1e-5),
        lambda x, w, b, r: functional.rms_norm(x + r, (WIDTH,), w, 1e-5),
    ),
    "layer after a sum": (
        9,
        lambda x, w, b, r: flash_attn.layer_norm_fn(x, w, b, residual=r, eps=1e-5, prenorm=True)[0],
        lambda x, w, b, r: functional.layer_norm(x + r, (WIDTH,), w, b, 1e-5),
    ),
    "gated": (
        7,
        lambda x, w, b, r: mamba.rmsnorm_fn(x, w, None, r, 1e-5),
        lambda x, w, b, r: functional.rms_norm(x, (WIDTH,), w, 1e-5) * functional.silu(r),
    ),
    "gated before": (
        7,
        lambda x, w, b, r: mamba.rmsnorm_fn(x, w, None, r, 1e-5, norm_before_gate=False),
        lambda x, w, b, r: functional.rms_norm(x * functional.silu(r), (WIDTH,), w, 1e-5),
    ),
}
"""Operations for each element, the stand-in, and the same in torch."""


@pytest.mark.parametrize("name", NORMS)
def test_norms_are_torchs(name: str) -> None:
    each, fused, written = NORMS[name]
    given = random(BATCH, LENGTH, WIDTH), random(WIDTH), random(WIDTH) + 1, random(BATCH, LENGTH, WIDTH) * 2
    torch.testing.assert_close(fused(*given), written(*given), rtol=1e-4, atol=1e-5)
    found = work(fused, *given)
    behind = sum(part.numel() for part in given)  # the product with the weight that they are behind
    assert found == (0, behind + each * given[0].numel(), [(BATCH, LENGTH, WIDTH)])
    if "layer" in name:  # torch writes an RMS norm out where it has no fused one
        assert found == work(written, *given)


def test_a_norm_in_groups_and_as_a_module() -> None:
    x, gate = random(BATCH, LENGTH, WIDTH), random(BATCH, LENGTH, WIDTH) * 2
    halves = torch.cat([functional.rms_norm(part, (WIDTH // 2,), None, 1e-5) for part in x.chunk(2, dim=-1)], dim=-1)
    norm = mamba.GatedRMSNorm(WIDTH, group_size=WIDTH // 2)
    torch.testing.assert_close(norm(x), halves, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm(x, gate), halves * functional.silu(gate), rtol=1e-4, atol=1e-5)
    out, total = flash_attn.RMSNorm(WIDTH)(x, gate, prenorm=True, residual_in_fp32=True)
    torch.testing.assert_close(total, x + gate)
    torch.testing.assert_close(out, functional.rms_norm(x + gate, (WIDTH,), None, 1e-5), rtol=1e-4, atol=1e-5)
    assert flash_attn.RMSNorm(WIDTH)(x, prenorm=True)[1] is x, "without a sum the input goes on"


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, L, N, C] by angles [L, C / 2], halves together."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos[: x.shape[1], None], sin[: x.shape[1], None]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def test_rotary_positions() -> None:
    angles = torch.arange(16.0)[:, None] * 0.3 ** torch.arange(SIZE / 2)
    cos, sin, x = angles.cos(), angles.sin(), random(BATCH, LENGTH, HEADS, SIZE)
    torch.testing.assert_close(flash_attn.apply_rotary_emb(x, cos, sin), turned(x, cos, sin))
    assert work(flash_attn.apply_rotary_emb, x, cos, sin) == work(turned, x, cos, sin)
    later = flash_attn.apply_rotary_emb(x, cos, sin, seqlen_offsets=3)
    torch.testing.assert_close(later, turned(x, cos[3:], sin[3:]))
    pairs = flash_attn.apply_rotary_emb(x, cos, sin, interleaved=True)
    apart = turned(torch.cat((x[..., ::2], x[..., 1::2]), dim=-1), cos, sin).chunk(2, dim=-1)
    torch.testing.assert_close(pairs, torch.stack(apart, dim=-1).flatten(-2))
    packed = flash_attn.apply_rotary_emb(x[0], cos, sin, cu_seqlens=torch.tensor([0, 4, 9]))
    torch.testing.assert_close(packed, torch.cat([turned(part[None], cos, sin)[0] for part in x[0].split([4, 5])]))
    wide = torch.cat((x, x), dim=-1)
    torch.testing.assert_close(flash_attn.apply_rotary_emb(wide, cos, sin)[..., SIZE:], x)
    assert flash_attn.apply_rotary_emb(x, cos, sin, inplace=True) is x


STATES, TAPS, CHANNELS = 3, 4, 6


def padded(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.silu(functional.conv1d(functional.pad(x, (TAPS - 1, 0)), weight[:, None], bias, groups=CHANNELS))


def test_the_convolution_is_torchs_of_padded_inputs() -> None:
    def causal(x: Tensor, weight: Tensor, bias: Tensor) -> Any:
        return mamba.causal_conv1d_fn(x, weight, bias, activation="silu")

    given = random(BATCH, CHANNELS, LENGTH), random(CHANNELS, TAPS), random(CHANNELS)
    torch.testing.assert_close(causal(*given), padded(*given))
    assert work(causal, *given) == work(padded, *given)


def test_a_convolution_goes_on_from_its_state() -> None:
    x, weight, bias = random(BATCH, CHANNELS, LENGTH), random(CHANNELS, TAPS), random(CHANNELS)
    first, state = mamba.causal_conv1d_fn(x[..., :5], weight, bias, return_final_states=True, activation="silu")
    rest = mamba.causal_conv1d_fn(x[..., 5:], weight, bias, initial_states=state, activation="silu")
    torch.testing.assert_close(torch.cat((first, rest), dim=-1), padded(x, weight, bias))
    for held in (TAPS - 1, TAPS):
        cache = functional.pad(state, (held - TAPS + 1, 0))
        steps = [mamba.causal_conv1d_update(x[..., t], cache, weight, bias, "silu") for t in range(5, LENGTH)]
        torch.testing.assert_close(torch.stack(steps, dim=-1), rest)
        torch.testing.assert_close(cache, x[..., LENGTH - held :])


def written_scan(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, z: Tensor) -> Tensor:
    """The recurrence of a state-space model step by step, its output by a product of matrices."""
    delta = functional.softplus(delta)
    decay = torch.exp(delta[..., None] * a[:, None])
    inflow = (delta * x)[..., None] * b.transpose(1, 2)[:, None]
    state = torch.empty(BATCH, CHANNELS, STATES)
    found = []
    for t in range(LENGTH):
        state = inflow[:, :, t] if t == 0 else decay[:, :, t] * state + inflow[:, :, t]
        found.append((state @ c[:, :, t, None]).squeeze(-1))
    return (torch.stack(found, dim=-1) + d[:, None] * x) * functional.silu(z)


def scan_inputs() -> tuple[Tensor, ...]:
    wide = (BATCH, CHANNELS, LENGTH)
    a = -torch.exp(random(CHANNELS, STATES))
    b, c = random(BATCH, STATES, LENGTH), random(BATCH, STATES, LENGTH) * 2
    return random(*wide), random(*wide) * 0.5, a, b, c, random(CHANNELS), random(*wide) * 3


def test_the_scan_is_the_recurrence_written_out() -> None:
    def fused(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, z: Tensor) -> Any:
        return mamba.selective_scan_fn(x, delta, a, b, c, d, z, delta_softplus=True)

    given = scan_inputs()
    torch.testing.assert_close(fused(*given), written_scan(*given), rtol=1e-4, atol=1e-4)
    matrix, vector, shapes = work(fused, *given)
    theirs = work(written_scan, *given)
    assert (matrix, shapes) == (theirs[0], theirs[2])
    # The first step of the written one has no state to decay.
    assert vector == theirs[1] + 2 * BATCH * CHANNELS * STATES


def test_a_scan_goes_on_from_its_state() -> None:
    x, delta, a, b, c, d, z = scan_inputs()
    whole, last = mamba.selective_scan_fn(x, delta, a, b, c, d, z, delta_softplus=True, return_last_state=True)
    cut = LENGTH - 2
    before = [part[..., :cut] for part in (x, delta, b, c, z)]
    _, state = mamba.selective_scan_fn(
        before[0], before[1], a, before[2], before[3], d, before[4], None, True, return_last_state=True
    )
    for t in (cut, cut + 1):
        now = [part[..., t] for part in (x, delta, b, c, z)]
        step = mamba.selective_state_update(state, now[0], now[1], a, now[2], now[3], d, now[4], dt_softplus=True)
        torch.testing.assert_close(step, whole[..., t], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(state, last, rtol=1e-4, atol=1e-4)


def test_a_whole_mixer() -> None:
    rank = 2
    given = (
        random(BATCH, 2 * CHANNELS, LENGTH),
        random(CHANNELS, 1, TAPS),
        random(CHANNELS),
        random(rank + 2 * STATES, CHANNELS) * 0.1,
        random(CHANNELS, rank) * 0.1,
        random(5, CHANNELS),
    )
    a, d = -torch.exp(random(CHANNELS, STATES)), random(CHANNELS)

    def fused(xz: Tensor, conv: Tensor, conv_bias: Tensor, x_proj: Tensor, dt_proj: Tensor, out_proj: Tensor) -> Any:
        return mamba.mamba_inner_fn(xz, conv, conv_bias, x_proj, dt_proj, out_proj, None, a, None, None, d)

    def written(xz: Tensor, conv: Tensor, conv_bias: Tensor, x_proj: Tensor, dt_proj: Tensor, out_proj: Tensor) -> Any:
        x, z = xz.chunk(2, dim=1)
        x = padded(x, conv[:, 0], conv_bias)
        step, b, c = (x.transpose(1, 2) @ x_proj.T).split([rank, STATES, STATES], dim=-1)
        y = written_scan(x, (step @ dt_proj.T).transpose(1, 2), a, b.transpose(1, 2), c.transpose(1, 2), d, z)
        return y.transpose(1, 2) @ out_proj.T

    torch.testing.assert_close(fused(*given), written(*given), rtol=1e-3, atol=1e-3)
    assert work(fused, *given)[0] == work(written, *given)[0]
    assert work(fused, *given)[2] == [(BATCH, LENGTH, 5)]


def test_constant_and_grouped_parameters_of_a_scan() -> None:
    x, delta, a, b, c, *_ = scan_inputs()
    grouped = mamba.selective_scan_fn(x, delta, a, b[:, None].expand(-1, 2, -1, -1), c[:, None])
    torch.testing.assert_close(grouped, mamba.selective_scan_fn(x, delta, a, b, c))
    same = a.abs()[None, :, :, None].expand(BATCH, -1, -1, LENGTH)
    expected = mamba.selective_scan_fn(x, delta, a, same, c)
    torch.testing.assert_close(mamba.selective_scan_fn(x, delta, a, a.abs(), c), expected)


def test_a_trace_names_what_stood_in() -> None:
    graph = modelmeter.trace(Kernel(flash_attn.flash_attn_func), *projected())
    [note] = [note for note in graph.assumptions if note.operator == "stand_in.attention"]
    assert note.rule == STAND_INS["stand_in.attention"].stands_for and note.module == "Kernel"
    assert graph.operators["Kernel"]["stand_in.attention"].calls == 1


def test_only_code_that_is_given_the_import_finds_them() -> None:
    def run(code: str, importer: Any) -> dict[str, Any]:
        given: dict[str, Any] = {"__builtins__": {**vars(builtins), "__import__": importer}}
        exec(code, given)
        return given

    before = set(sys.modules)
    with standing_in() as importer:
        found = run(
            "import flash_attn, math\n"
            "import flash_attn.ops.triton.layer_norm as norms\n"
            "from flash_attn.layers.rotary import apply_rotary_emb\n"
            "from xformers.ops import fmha\n"
            "from causal_conv1d import causal_conv1d_fn\n"
            "from mamba_ssm.ops.selective_scan_interface import selective_scan_fn\n"
            "try:\n    from xformers.ops import SwiGLU\nexcept ImportError:\n    SwiGLU = None\n",
            importer,
        )
        assert found["flash_attn"].flash_attn_func is flash_attn.flash_attn_func
        assert found["norms"].RMSNorm is flash_attn.RMSNorm
        assert found["fmha"].BlockDiagonalMask is xformers.BlockDiagonalMask
        assert found["math"] is math and found["SwiGLU"] is None
        with pytest.raises(ModuleNotFoundError, match=r"no stand-in for the module 'flash_attn\.models'"):
            run("import flash_attn.models", importer)
    assert not {name for name in set(sys.modules) - before if name.startswith(("flash_attn", "xformers", "mamba"))}
    if importlib.util.find_spec("flash_attn") is None:
        with pytest.raises(ModuleNotFoundError):
            run("import flash_attn", importer)


def test_a_stand_in_is_known_once() -> None:
    with pytest.raises(ValueError, match="registered already"):
        register("attention", StandIn("stands for nothing", no_flops))


def test_what_a_stand_in_does_not_have_is_refused() -> None:
    q = random(9, HEADS, SIZE)
    ends = torch.tensor([0, 9])
    with pytest.raises(NotImplementedError, match="paged keys"):
        flash_attn.flash_attn_varlen_func(q, q, q, ends, ends, 9, 9, block_table=ends)

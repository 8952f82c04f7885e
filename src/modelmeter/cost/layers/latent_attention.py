"""Multi-head latent attention (MLA): keys and values from one small latent vector a position.

Axes: B requests, T positions, P positions with the cache, D hidden size, N heads, R latent size
(``kv_lora_rank``), S channels of the shared rotary key (``qk_rope_head_dim``), C channels of a head
without positions (``qk_nope_head_dim``), V channels of a value (``v_head_dim``).

There are three ways to run it, equal in what they compute:

- ``expanded``: new latents are expanded to keys and values of all heads, which the cache holds:
  N (C + S + V) elements a position. DeepSeek-V2's published code.
- ``latent``: the cache holds latents and rotary keys, R + S elements a position, and every forward
  expands all P positions again: 2 B P R N (C + V) FLOPs a step. transformers 5.23 does so.
- ``absorbed``: as ``latent``, but nothing is expanded. The expansion of keys is multiplied into the queries
  and that of values into the result, and attention runs over the latents as over one shared head of
  R + S channels: 2 B N T P (2 R + S) FLOPs, of which a decode step has few and a prefill many.
  This is how serving engines decode.

Source: DeepSeek-AI, DeepSeek-V2 (2024), section 2.1, equations 9 to 19, and appendix C; for ``absorbed``
section 2.1.2 and ``attn_impl = "absorb"`` of DeepSeek-V3's inference code.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import in_

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.layers.attend import Cache, Heads, Manner, attend, remember
from modelmeter.cost.layers.decoder import Step
from modelmeter.cost.operators import batched_product, concatenate, linear, rms_norm, rotate
from modelmeter.cost.precision import Precision
from modelmeter.cost.tape import Part, Read, Tape, Tensor

FORMS = ("latent", "expanded", "absorbed")


@frozen
class LatentShape:
    """Sizes of one layer. ``q_lora_rank`` is None where queries come from one projection."""

    hidden_size: int
    heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    bias: bool = False
    """Of the projections from and to the hidden size; those from latents have none."""
    norms: str = "RMSNorm"
    """Class of the norms over latents."""
    form: str = field(default="latent", validator=in_(FORMS))

    @property
    def qk_head_dim(self) -> int:
        """Channels of a head's query and key."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def latent_sizes(self) -> tuple[int, int]:
        """Elements of one position that need be cached: the latent and the shared rotary key, R + S."""
        return self.kv_lora_rank, self.qk_rope_head_dim

    @property
    def cache_sizes(self) -> tuple[int, int]:
        """Elements of one position in the cache's two tensors."""
        if self.form == "expanded":
            return self.heads * self.qk_head_dim, self.heads * self.v_head_dim
        return self.latent_sizes

    @property
    def rotary_dim(self) -> int:
        """Channels of a head that are turned."""
        return self.qk_rope_head_dim


def latent_attention(
    tape: Tape,
    x: Tensor,
    mask: Read | None,
    angles: tuple[Tensor, Tensor],
    held: Cache | None,
    shape: LatentShape,
    step: Step,
    manner: Manner,
    precision: Precision,
) -> tuple[Tensor, Cache]:
    """Attention of one layer, inside the module that owns the projections: (result, cache)."""
    width = precision.activation_bytes
    q = _queries(tape, x, shape, step, precision)
    latent, shared = _latents(tape, x, angles, shape, step, precision)
    rotary = step.rows * shape.heads * shape.qk_rope_head_dim
    turned_q = rotate(tape, Tensor(rotary * width), angles, rotary, width)
    plain = Part(q, step.rows * shape.heads * shape.qk_nope_head_dim * width)
    if shape.form == "absorbed":
        cache, reads = remember(tape, (latent, shared), held, shape.cache_sizes, step, precision)
        mixed = _absorbed(tape, plain, turned_q, reads, mask, shape, step, manner, precision)
        tape.free(q, turned_q)
    else:
        query = concatenate(tape, [plain, turned_q], step.rows * shape.heads * shape.qk_head_dim * width)
        tape.free(q, turned_q)
        if shape.form == "expanded":
            pair = _expand(tape, latent, shared, step.rows, shape, precision)
            tape.free(latent, shared)
            cache, reads = remember(tape, pair, held, shape.cache_sizes, step, precision)
            used = reads
        else:
            cache, reads = remember(tape, (latent, shared), held, shape.cache_sizes, step, precision)
            used = _expand(tape, *reads, step.batch * step.keys, shape, precision)
        heads = Heads(shape.heads, shape.heads, shape.qk_head_dim, shape.v_head_dim)
        mixed = attend(tape, query, *used, mask, heads, step, manner, precision)
        tape.free(query, *(tensor for tensor in used if tensor not in cache))
    tape.free(*(tensor for tensor in reads if tensor not in cache))
    result = _projected(
        tape, "o_proj", mixed, shape.heads * shape.v_head_dim, shape.hidden_size, shape, step, precision
    )
    tape.free(mixed)
    tape.returns(result)
    return result, cache


def _queries(tape: Tape, x: Tensor, shape: LatentShape, step: Step, precision: Precision) -> Tensor:
    """All heads' queries, [B, T, N, C + S]: 2 B T D N (C + S) FLOPs, or by way of a latent of their own."""
    size = shape.heads * shape.qk_head_dim
    if shape.q_lora_rank is None:
        return _linear(tape, "q_proj", x, step.rows, shape.hidden_size, size, precision)
    down = _projected(tape, "q_a_proj", x, shape.hidden_size, shape.q_lora_rank, shape, step, precision)
    normal = _normed(tape, "q_a_layernorm", down, step.rows, shape.q_lora_rank, shape, precision)
    tape.free(down)
    queries = _linear(tape, "q_b_proj", normal, step.rows, shape.q_lora_rank, size, precision)
    tape.free(normal)
    return queries


def _latents(
    tape: Tape, x: Tensor, angles: tuple[Tensor, Tensor], shape: LatentShape, step: Step, precision: Precision
) -> Cache:
    """Latents [B, T, R], normed, and the rotary key [B, T, S] that all heads share: 2 B T D (R + S) FLOPs."""
    width = precision.activation_bytes
    rank, rotary = shape.latent_sizes
    both = _projected(tape, "kv_a_proj_with_mqa", x, shape.hidden_size, rank + rotary, shape, step, precision)
    mine = Tensor(step.rows * rank * width)
    normal = _normed(tape, "kv_a_layernorm", mine, step.rows, rank, shape, precision)
    turned = rotate(tape, Tensor(step.rows * rotary * width), angles, step.rows * rotary, width)
    tape.free(both)
    return normal, turned


def _expand(
    tape: Tape, latent: Tensor, shared: Tensor, rows: Number, shape: LatentShape, precision: Precision
) -> Cache:
    """Keys [rows, N, C + S] and values [rows, N, V] from latents: 2 * rows * R * N (C + V) FLOPs."""
    width = precision.activation_bytes
    expanded = shape.heads * (shape.qk_nope_head_dim + shape.v_head_dim)
    both = _linear(tape, "kv_b_proj", latent, rows, shape.kv_lora_rank, expanded, precision)
    # Every head's key ends in the shared one.
    unturned = Part(both, rows * shape.heads * shape.qk_nope_head_dim * width)
    keys = concatenate(tape, [unturned, shared], rows * shape.heads * shape.qk_head_dim * width)
    # The values are the other part of the product; they are counted live by themselves from here on.
    tape.free(both)
    return keys, tape.given(rows * shape.heads * shape.v_head_dim * width)


def _absorbed(
    tape: Tape,
    plain: Part,
    turned: Tensor,
    cache: Cache,
    mask: Read | None,
    shape: LatentShape,
    step: Step,
    manner: Manner,
    precision: Precision,
) -> Tensor:
    """Attention over latents: 2 B T N C R + 2 B N T P (2 R + S) + 2 B T N R V FLOPs.

    A head's query is brought into the latent space by its own [C, R] part of ``kv_b_proj``, and its result
    back out by its own [R, V] part. Latents serve as keys (with the rotary key) and as values.
    """
    width, dtype = precision.activation_bytes, precision.activations
    rank, rotary, heads = shape.kv_lora_rank, shape.qk_rope_head_dim, shape.heads
    latent, shared = cache
    expanded = heads * (shape.qk_nope_head_dim + shape.v_head_dim)
    with tape.never_called("kv_b_proj", "Linear", in_features=rank, out_features=expanded, bias=False):
        weight = tape.weight("weight", rank * expanded, precision.weight_bytes)
    up_k = Part(weight, heads * rank * shape.qk_nope_head_dim * precision.weight_bytes)
    up_v = Part(weight, heads * rank * shape.v_head_dim * precision.weight_bytes)
    inside = batched_product(tape, plain, up_k, heads, step.rows, shape.qk_nope_head_dim, rank, dtype, width)
    query = concatenate(tape, [inside, turned], step.rows * heads * (rank + rotary) * width)
    tape.free(inside)
    # One kernel reads a latent once, as key and as value, and the rotary key beside it. Written out, the
    # two parts of a key must lie together.
    keys = shared
    if manner.kind == "eager":
        keys = concatenate(tape, [latent, shared], step.batch * step.keys * (rank + rotary) * width)
    one_head = Heads(heads, 1, rank + rotary, rank, repeats=False)
    mixed = attend(tape, query, keys, latent, mask, one_head, step, manner, precision)
    tape.free(query)
    if keys is not shared:
        tape.free(keys)
    result = batched_product(tape, mixed, up_v, heads, step.rows, rank, shape.v_head_dim, dtype, width)
    tape.free(mixed)
    return result


def _projected(
    tape: Tape, name: str, x: Read, inputs: int, outputs: int, shape: LatentShape, step: Step, precision: Precision
) -> Tensor:
    """A projection from or to the hidden size."""
    return _linear(tape, name, x, step.rows, inputs, outputs, precision, bias=shape.bias)


def _linear(
    tape: Tape,
    name: str,
    x: Read,
    rows: Number,
    inputs: int,
    outputs: int,
    precision: Precision,
    *,
    bias: bool = False,
) -> Tensor:
    with tape.module(name, "Linear", in_features=inputs, out_features=outputs, bias=bias):
        result = linear(tape, x, rows, inputs, outputs, precision, bias=bias)
        tape.returns(result)
    return result


def _normed(
    tape: Tape, name: str, x: Tensor, rows: Number, size: int, shape: LatentShape, precision: Precision
) -> Tensor:
    with tape.module(name, shape.norms, hidden_size=size):
        result = rms_norm(tape, x, rows, size, precision)
        tape.returns(result)
    return result

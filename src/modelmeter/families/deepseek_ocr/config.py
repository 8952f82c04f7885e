"""The configuration of DeepSeek-OCR: read from the published JSON, refused where it is not understood.

Constants that the published file does not hold (SAM's patch and window, CLIP's epsilon, the rotary
base, …) have the vendor's values as defaults and may be given under the same part for small models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from attrs import asdict, field, fields, frozen

from modelmeter.errors import ConfigurationError

PUBLISHED_CONFIG = "published_config.json"
"""Published at huggingface.co/deepseek-ai/DeepSeek-OCR as ``config.json``."""

SMALL_CONFIG = "small_config.json"
"""The same design at about a tenth of every width and a third of every depth, 6.9 million parameters: for
runs on a CPU. Its patches, windows, views and positions are the published ones."""


def _is_count(value: Any, minimum: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


def _refuse_value(instance: Any, attribute: Any, value: Any, expected: str) -> ConfigurationError:
    return ConfigurationError(f"{attribute.name} is {value!r} in {type(instance).__name__}", remedy=f"give {expected}")


def _positive(instance: Any, attribute: Any, value: Any) -> None:
    if not _is_count(value, 1):
        raise _refuse_value(instance, attribute, value, "a whole number of at least 1")


def _not_negative(instance: Any, attribute: Any, value: Any) -> None:
    if not _is_count(value, 0):
        raise _refuse_value(instance, attribute, value, "a whole number of at least 0")


def _absent_or_not_negative(instance: Any, attribute: Any, value: Any) -> None:
    if value is not None and not _is_count(value, 0):
        raise _refuse_value(instance, attribute, value, "a whole number of at least 0, or null")


def _positive_number(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise _refuse_value(instance, attribute, value, "a number above 0")


def _numbers(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, tuple) or not all(_is_count(number, 0) for number in value):
        raise _refuse_value(instance, attribute, value, "a list of whole numbers")


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _size() -> Any:
    """A required number of at least 1."""
    return field(validator=_positive)


@frozen(kw_only=True)
class SamConfig:
    """SAM ViT-B (Kirillov et al., Segment Anything, 2023) with DeepSeek-OCR's two extra convolutions."""

    width: int = _size()
    layers: int = _size()
    heads: int = _size()
    global_attn_indexes: tuple[int, ...] = field(converter=_as_tuple, validator=_numbers)
    downsample_channels: tuple[int, int] = field(converter=_as_tuple, validator=_numbers)
    image_size: int = field(default=1024, validator=_positive)
    patch_size: int = field(default=16, validator=_positive)
    window_size: int = field(default=14, validator=_positive)
    out_channels: int = field(default=256, validator=_positive)
    mlp_ratio: int = field(default=4, validator=_positive)
    layer_norm_eps: float = field(default=1e-6, validator=_positive_number)

    def __attrs_post_init__(self) -> None:
        _divides("SAM heads", self.heads, "its width", self.width)
        _divides("SAM patch_size", self.patch_size, "its image_size", self.image_size)
        if any(not 0 <= index < self.layers for index in self.global_attn_indexes):
            raise ConfigurationError(
                f"global_attn_indexes {list(self.global_attn_indexes)} name a block beyond the {self.layers} there are",
                remedy=f"use indexes from 0 to {self.layers - 1}",
            )
        if len(self.downsample_channels) != 2 or 0 in self.downsample_channels:
            raise ConfigurationError("downsample_channels needs two numbers", remedy="give for example [512, 1024]")


@frozen(kw_only=True)
class ClipConfig:
    """CLIP-L's vision tower (Radford et al., 2021); its patch convolution has weights and never runs."""

    width: int = _size()
    layers: int = _size()
    heads: int = _size()
    image_size: int = _size()
    patch_size: int = _size()
    mlp_ratio: int = field(default=4, validator=_positive)
    layer_norm_eps: float = field(default=1e-5, validator=_positive_number)

    def __attrs_post_init__(self) -> None:
        _divides("CLIP heads", self.heads, "its width", self.width)
        _divides("CLIP patch_size", self.patch_size, "its image_size", self.image_size)


@frozen(kw_only=True)
class DecoderConfig:
    """The DeepSeek-V2 decoder without latent attention: dense first layers, then mixtures of experts."""

    hidden_size: int = _size()
    intermediate_size: int = _size()
    moe_intermediate_size: int = _size()
    num_hidden_layers: int = _size()
    num_attention_heads: int = _size()
    num_key_value_heads: int = _size()
    n_routed_experts: int | None = field(validator=_absent_or_not_negative)
    n_shared_experts: int | None = field(validator=_absent_or_not_negative)
    num_experts_per_tok: int | None = field(validator=_absent_or_not_negative)
    first_k_dense_replace: int = field(validator=_not_negative)
    vocab_size: int = _size()
    max_position_embeddings: int = _size()
    bos_token_id: int = field(default=0, validator=_not_negative)
    eos_token_id: int = field(default=1, validator=_not_negative)
    rms_norm_eps: float = field(default=1e-6, validator=_positive_number)
    rope_theta: float = field(default=10000.0, validator=_positive_number)
    image_token_id: int = field(default=128815, validator=_not_negative)

    def __attrs_post_init__(self) -> None:
        _divides("num_attention_heads", self.num_attention_heads, "hidden_size", self.hidden_size)
        _divides("num_key_value_heads", self.num_key_value_heads, "num_attention_heads", self.num_attention_heads)
        if self.head_dim % 2:
            raise ConfigurationError(f"the head size is {self.head_dim}", remedy="rotary positions need an even one")
        for key in ("bos_token_id", "eos_token_id"):
            if getattr(self, key) >= self.vocab_size:
                raise ConfigurationError(
                    f"{key} is {getattr(self, key)} with a vocab_size of {self.vocab_size}",
                    remedy=f"use a token from 0 to {self.vocab_size - 1}",
                )
        if self.n_routed_experts:
            if not self.num_experts_per_tok or not 0 < self.num_experts_per_tok <= self.n_routed_experts:
                raise ConfigurationError(
                    f"num_experts_per_tok is {self.num_experts_per_tok} with {self.n_routed_experts} routed experts",
                    remedy=f"use a number from 1 to {self.n_routed_experts}",
                )
        elif self.n_shared_experts:
            raise ConfigurationError(
                f"n_shared_experts is {self.n_shared_experts} without routed experts",
                remedy="give n_routed_experts, or leave both out for a dense model",
            )

    @property
    def head_dim(self) -> int:
        """Elements of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def image_placeholder(self) -> int:
        """The token that stands for one image feature: the vendor's, or the last one of a small vocabulary."""
        return min(self.image_token_id, self.vocab_size - 1)

    def is_moe_layer(self, index: int) -> bool:
        """Whether a layer's feed-forward part is a mixture of experts."""
        return bool(self.n_routed_experts) and index >= self.first_k_dense_replace


@frozen
class DeepSeekOCRConfig:
    """The whole model: SAM, CLIP, projector, decoder."""

    sam: SamConfig
    clip: ClipConfig
    decoder: DecoderConfig
    torch_dtype: str = "bfloat16"
    name: str = "deepseek-ai/DeepSeek-OCR"

    def __attrs_post_init__(self) -> None:
        if self.sam.downsample_channels[1] != self.clip.width:
            raise ConfigurationError(
                f"SAM gives {self.sam.downsample_channels[1]} channels, CLIP takes {self.clip.width}",
                remedy="make the last of downsample_channels CLIP's width: SAM's output is its patch embedding",
            )

    @property
    def feature_size(self) -> int:
        """Features of one image position before the projector: CLIP's and SAM's side by side."""
        return self.clip.width + self.sam.downsample_channels[1]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for documents."""
        return asdict(self)


def _divides(part: str, divisor: int, whole: str, number: int) -> None:
    if number % divisor:
        raise ConfigurationError(f"{part} {divisor} does not divide {whole} {number}", remedy="use a divisor")


# Keys that say nothing about what runs or what it costs, or that one value of is the only one known.
_IGNORED_TOP = {"_name_or_path", "candidate_resolutions", "global_view_pos", "architectures", "auto_map"}
_IGNORED_TOP |= {"transformers_version", "model_type", "_commit_hash", "use_cache"}
_IGNORED_LANGUAGE = {
    "architectures",
    "auto_map",
    "lm_head",
    "rm_head",
    "model_type",
    "torch_dtype",
    "kv_lora_rank",
}
_IGNORED_LANGUAGE |= {"q_lora_rank", "n_group", "topk_group", "transformers_version", "use_cache"}
_ONLY_LANGUAGE: dict[str, tuple[Any, ...]] = {
    "use_mla": (False,),
    "topk_method": ("greedy",),
    "qk_nope_head_dim": (0, None),
    "qk_rope_head_dim": (0, None),
    "v_head_dim": (0, None),
    "scoring_func": ("softmax",),
    "norm_topk_prob": (False,),
    "routed_scaling_factor": (1, 1.0),
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "moe_layer_freq": (1,),
    "rope_scaling": (None,),
    "tie_word_embeddings": (False,),
}
_VISION_KEYS = {"image_size", "mlp_ratio", "model_name", "model_type", "width"}
_PROJECTOR_KEYS = {"input_dim", "model_type", "n_embed", "projector_type"}


def published_config() -> DeepSeekOCRConfig:
    """The configuration that DeepSeek published for DeepSeek-OCR."""
    return _shipped(PUBLISHED_CONFIG)


def small_config() -> DeepSeekOCRConfig:
    """A configuration that takes any page of the published one and runs on a CPU in about a second."""
    return _shipped(SMALL_CONFIG)


def _shipped(name: str) -> DeepSeekOCRConfig:
    text = files("modelmeter.families.deepseek_ocr").joinpath(name).read_text(encoding="utf-8")
    return read_configuration(json.loads(text))


def restore(data: Mapping[str, Any]) -> DeepSeekOCRConfig:
    """A configuration from the plain data that ``to_dict`` gives, also after a round trip through JSON.

    Raises ConfigurationError for keys and values that are not understood.
    """
    rest = dict(data)
    try:
        sam, clip, decoder = (rest.pop(name) for name in ("sam", "clip", "decoder"))
        return DeepSeekOCRConfig(SamConfig(**sam), ClipConfig(**clip), DecoderConfig(**decoder), **rest)
    except (KeyError, TypeError) as error:
        raise ConfigurationError(
            f"the configuration is not one of DeepSeek-OCR: {error}", remedy="take it from a report as it is"
        ) from None


def read_configuration(source: Mapping[str, Any]) -> DeepSeekOCRConfig:
    """Read a configuration in the published form.

    Raises ConfigurationError for keys that are neither handled nor knowingly ignored, for values that
    this family does not have, and where two keys contradict each other.
    """
    source = dict(source)
    language = _part(source, "language_config")
    vision = _part(source, "vision_config")
    projector = _part(source, "projector_config")
    handled = set(_names(DecoderConfig))

    top = set(source) - {
        "language_config",
        "vision_config",
        "projector_config",
        "torch_dtype",
        "dtype",
        "tile_tag",
    }
    _refuse("the configuration", top - _IGNORED_TOP - handled - _IGNORED_LANGUAGE - set(_ONLY_LANGUAGE))
    _refuse("language_config", set(language) - handled - _IGNORED_LANGUAGE - set(_ONLY_LANGUAGE))
    for key in sorted((top & (handled | set(_ONLY_LANGUAGE))) & set(language)):
        if source[key] != language[key]:
            raise ConfigurationError(
                f"{key} is {source[key]!r} at the top and {language[key]!r} in language_config",
                remedy="make them equal",
            )
    language = {**{key: source[key] for key in top}, **language}
    for key, known in _ONLY_LANGUAGE.items():
        if key in language and language[key] not in known:
            raise ConfigurationError(
                f"{key} is {language[key]!r} in language_config", remedy=f"this family has only {known[0]!r}"
            )
    if source.get("tile_tag", "2D") != "2D":
        raise ConfigurationError(f"tile_tag is {source['tile_tag']!r}", remedy="this family has only '2D'")

    _refuse("vision_config", set(vision) - _VISION_KEYS)
    towers = _part(vision, "width", "vision_config.width")
    _refuse("vision_config.width", set(towers) - {"clip-l-14-224", "sam_vit_b"})
    sam = _part(towers, "sam_vit_b", "vision_config.width.sam_vit_b")
    clip = _part(towers, "clip-l-14-224", "vision_config.width.clip-l-14-224")

    config = DeepSeekOCRConfig(
        sam=_build(SamConfig, {"image_size": vision.get("image_size", 1024), **sam}, "sam_vit_b"),
        clip=_build(ClipConfig, clip, "clip-l-14-224"),
        decoder=_build(DecoderConfig, _decoder_values(language, handled), "language_config"),
        torch_dtype=str(source.get("torch_dtype", source.get("dtype", "bfloat16"))),
        name=str(source.get("_name_or_path") or "deepseek-ocr"),
    )
    _check_projector(projector, config)
    return config


def _decoder_values(language: Mapping[str, Any], handled: set[str]) -> dict[str, Any]:
    values = {key: value for key, value in language.items() if key in handled}
    for key in ("n_routed_experts", "n_shared_experts", "num_experts_per_tok"):
        values.setdefault(key, None)
    values.setdefault("first_k_dense_replace", 0)
    values.setdefault("moe_intermediate_size", values.get("intermediate_size"))
    values.setdefault("num_key_value_heads", values.get("num_attention_heads"))
    return values


def _check_projector(projector: Mapping[str, Any], config: DeepSeekOCRConfig) -> None:
    _refuse("projector_config", set(projector) - _PROJECTOR_KEYS)
    if projector.get("projector_type", "linear") != "linear":
        raise ConfigurationError(
            f"projector_type is {projector['projector_type']!r}", remedy="this family has only 'linear'"
        )
    for key, expected in (("input_dim", config.feature_size), ("n_embed", config.decoder.hidden_size)):
        if projector.get(key, expected) != expected:
            raise ConfigurationError(
                f"projector_config.{key} is {projector[key]!r}, the parts around it need {expected}",
                remedy=f"set it to {expected}",
            )


def _names(cls: type) -> list[str]:
    return [attribute.name for attribute in fields(cls)]


def _part(source: Mapping[str, Any], key: str, path: str | None = None) -> dict[str, Any]:
    part = source.get(key)
    if not isinstance(part, Mapping):
        raise ConfigurationError(
            f"{path or key} is missing or no object", remedy="give it as in the published configuration"
        )
    return dict(part)


def _refuse(where: str, unknown: set[str]) -> None:
    if unknown:
        raise ConfigurationError(
            f"{where} has keys that are not understood: {', '.join(sorted(unknown))}",
            remedy="remove them, or use the family they belong to",
        )


def _build(cls: type[Any], values: Mapping[str, Any], where: str) -> Any:
    _refuse(where, set(values) - set(_names(cls)))
    try:
        return cls(**values)
    except TypeError as error:
        missing = [name for name in _names(cls) if f"'{name}'" in str(error)]
        raise ConfigurationError(
            f"{where} lacks {', '.join(missing) or str(error)}",
            remedy="give it as in the published configuration",
        ) from None

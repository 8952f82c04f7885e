"""A transformers configuration from its JSON form, with overrides that name what is there."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from modelmeter.errors import ConfigurationError, ScenarioError, UnknownNameError, require_extra

if TYPE_CHECKING:
    from modelmeter.tracing.hugging_face.remote_code import SnapshotClasses

_LIMITS = ("max_position_embeddings", "n_positions", "max_target_positions", "max_seq_len")
"""Under which name a configuration says how many positions its decoder has."""


_TALKATIVE = ("transformers", "transformers_modules", "torch._subclasses.fake_tensor")


@contextmanager
def quiet_library() -> Iterator[None]:
    """Advice on weights and kernels has no place in a trace; an operator that fails is told by its error."""
    with suppress(ImportError):  # reported when it is needed
        from transformers.utils import logging as library_logging

        library_logging.get_logger()  # sets the library's level, which it would do later over ours
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def read_hugging_face(
    source: Mapping[str, Any],
    name: str,
    overrides: Mapping[str, Any] | None = None,
    code: SnapshotClasses | None = None,
) -> Any:
    """A transformers configuration object from its JSON form.

    ``overrides`` maps dotted names (``text_config.num_hidden_layers``) to values; a name that the
    configuration does not have is refused, since transformers itself would take it and do nothing.
    ``code`` are the classes of a snapshot's own code, where it runs.
    Raises ConfigurationError, and UnknownNameError for such a name.
    """
    try:
        from transformers import AutoConfig
    except ImportError:
        raise require_extra("trace", "transformers") from None
    model_type = source.get("model_type")
    if not isinstance(model_type, str):
        raise ConfigurationError(f"{name} names no model_type", remedy="give a Hugging Face config.json")
    values = {key: value for key, value in source.items() if key != "model_type"}
    own = code.config if code is not None else None
    make = partial(AutoConfig.for_model, model_type) if own is None else own
    try:
        config = make(**values)
        if overrides:
            values = _overridden(values, config, overrides)
            config = make(**values)
        return config
    except UnknownNameError:
        raise
    except Exception as error:
        if "Unrecognized model identifier" in str(error):
            raise _unknown_type(model_type, name) from None
        raise ConfigurationError(
            f"{name}: transformers refuses it: {one_line(error)}",
            remedy="check the configuration, or update transformers",
        ) from None


def _overridden(values: Mapping[str, Any], config: Any, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration's values with some replaced, after a check that each of their names exists."""
    changed = dict(values)
    for dotted, value in overrides.items():
        *outer, last = dotted.split(".")
        holder, place = config, changed
        for part in outer:
            _check_name(holder, part, dotted)
            holder = getattr(holder, part)
            inner = place.get(part)
            place[part] = dict(inner) if isinstance(inner, Mapping) else {}
            place = place[part]
            if hasattr(holder, "model_type") and holder.model_type:
                place.setdefault("model_type", holder.model_type)
        _check_name(holder, last, dotted)
        place[last] = value
    return changed


def _check_name(holder: Any, name: str, dotted: str) -> None:
    known = {*holder.to_dict(), *getattr(holder, "attribute_map", {})} if hasattr(holder, "to_dict") else set()
    if name not in known:
        raise UnknownNameError("configuration key", dotted, known)


def _unknown_type(model_type: str, name: str) -> ConfigurationError:
    from transformers import CONFIG_MAPPING

    near = difflib.get_close_matches(model_type, CONFIG_MAPPING.keys(), n=1)
    remedy = f"did you mean {near[0]!r}?" if near else "check the configuration, or update transformers"
    return ConfigurationError(f"{name}: transformers does not know model_type {model_type!r}", remedy=remedy)


def one_line(error: Exception) -> str:
    """An exception's text in one line; validation errors of transformers have several."""
    return " ".join(str(error).split())[:200] or "no message"


def position_limit(config: Any) -> int | None:
    """How many positions the text part of a model has; None where the configuration sets no limit."""
    try:
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
    except ValueError:  # it has several, and none of them is the one
        text = config
    for name in _LIMITS:
        limit = getattr(text, name, None)
        if isinstance(limit, int) and limit > 0:
            return limit
    return None


def check_positions(config: Any, positions: int, decode_steps: int) -> None:
    """Refuse a prompt that the model has no room for."""
    limit = position_limit(config)
    if limit is not None and limit < positions + decode_steps:
        raise ScenarioError(
            f"{positions} positions and {decode_steps} decode steps exceed the model's {limit}",
            remedy="use fewer positions (--input-ids) or decode steps",
        )

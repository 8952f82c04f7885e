"""The published tokenizer: text to token ids and back, and the prompt around the pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from modelmeter.errors import ConfigurationError, UsageError, require_extra

TOKENIZER_FILE = "tokenizer.json"
_OTHER_FILES = ("tokenizer_config.json", "tokenizer.model")

PAGE_MARK = "<image>"
"""Where a page's image tokens stand in a prompt."""

DEFAULT_PROMPT = "<image>\nFree OCR."
"""One of the prompts that were published with the model: the text alone, without its layout."""


class Tokenizer(Protocol):
    """Text to ids and back; nothing is added at the ends."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens as they are written."""
        ...


class _Fast:
    """A ``tokenizer.json``, by the tokenizers library."""

    def __init__(self, path: Path) -> None:
        try:
            import tokenizers
        except ImportError:
            raise require_extra("trace", "tokenizers") from None
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:
            raise _unreadable(path, error) from None

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))


class _Other:
    """Any other tokenizer that transformers reads from a folder; no code from the folder is run."""

    def __init__(self, folder: Path) -> None:
        try:
            from transformers import AutoTokenizer
        except ImportError:
            raise require_extra("trace", "transformers") from None
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        except Exception as error:
            raise _unreadable(folder, error) from None

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in a checkpoint's folder. Raises ConfigurationError."""
    if (folder / TOKENIZER_FILE).is_file():
        return _Fast(folder / TOKENIZER_FILE)
    if any((folder / name).is_file() for name in _OTHER_FILES):
        return _Other(folder)
    raise ConfigurationError(f"{folder} holds no {TOKENIZER_FILE}", remedy="download the whole checkpoint")


def _unreadable(path: Path, error: Exception) -> ConfigurationError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ConfigurationError(f"{path} holds no tokenizer that can be read: {reason}", remedy="download it again")


def complete_prompt(prompt: str | None) -> str:
    """A prompt with a place for the pages: before the text where it names none. Outer space is dropped, as
    the model's own code does."""
    text = (DEFAULT_PROMPT if prompt is None else prompt).strip()
    return text if PAGE_MARK in text else f"{PAGE_MARK}\n{text}"


def split_prompt(prompt: str, pages: int) -> list[str]:
    """The texts before, between and after the pages: one more than there are pages.

    One mark stands for all pages; else there is one for each. Raises UsageError.
    """
    texts = prompt.split(PAGE_MARK)
    if len(texts) == 2:
        return [texts[0], *[""] * (pages - 1), texts[1]]
    if len(texts) != pages + 1:
        raise UsageError(
            f"the prompt has {len(texts) - 1} times {PAGE_MARK}, and there are {pages} pages",
            remedy=f"write {PAGE_MARK} once for all pages, or once for each",
        )
    return texts

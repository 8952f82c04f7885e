"""The options of the scenario, the same for every command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from attrs import asdict, field, fields, frozen
from cyclopts import Parameter

from modelmeter.errors import PageError, ScenarioError, UnknownNameError, UsageError
from modelmeter.schema.scenario import Page, Scenario, parse_size

_MANY = Parameter(negative_iterable=())


@Parameter(name="*")
@frozen(kw_only=True)
class ScenarioOptions:
    """Scenario: what is run. Options override the keys of a workload file."""

    workload: Path | None = None
    "File with some of these keys, YAML or JSON."
    page: Annotated[tuple[str, ...], _MANY] = field(default=())
    "Page of WIDTHxHEIGHT pixels; repeatable."
    grid: Annotated[tuple[str, ...], _MANY] = field(default=())
    "Page with a crop grid of WIDTHxHEIGHT crops, 1x1 for none; repeatable."
    mode: str | None = None
    "Resolution mode: tiny, small, base, large or gundam."
    base_size: int | None = None
    "Side of the global view in pixels."
    image_size: int | None = None
    "Side of a crop in pixels."
    crop_mode: bool | None = None
    "Whether pages are cropped."
    text_tokens: int | None = None
    "Prompt tokens besides the images', BOS included."
    seq_len: int | None = None
    "All prompt positions; sets the text tokens."
    decode_steps: int | None = None
    "Forwards of one token after the prefill."
    max_new_tokens: int | None = None
    "Tokens to generate: one more than the decode steps."
    batch: int | None = None
    "Requests run together."
    dtype: str | None = None
    "Weights' dtype."
    activation_dtype: str | None = None
    "Activations' dtype."
    kv_dtype: str | None = None
    "Key-value cache's dtype."
    attention: str | None = None
    "eager or sdpa, for all parts."
    vision_attention: str | None = None
    "eager or sdpa, in the vision towers."
    decoder_attention: str | None = None
    "eager or sdpa, in the decoder."
    head: str | None = None
    "Logits of all positions or of the last."
    routing: str | None = None
    "balanced, worst, zipf:ALPHA, random:SEED or a JSON table."
    execution: str | None = None
    "eager or graph; kept in the document for later commands."
    device: str | None = None
    "Device id; kept in the document for later commands."
    devices: int | None = None
    "How many devices; kept in the document for later commands."
    tensor_parallel: int | None = None
    "Devices that share each layer."
    expert_parallel: int | None = None
    "Devices that share the experts."

    def scenario(self, files: Sequence[Path] = (), *, decode_steps: int = 0) -> Scenario:
        """The scenario of a workload file, these options and page files, the later over the earlier."""
        values: dict[str, Any] = {"decode_steps": decode_steps}
        if self.workload is not None:
            values |= read_workload(self.workload)
        given = {k: v for k, v in asdict(self).items() if v is not None and k not in _NO_KEYS}
        if self.max_new_tokens is not None:
            if self.max_new_tokens < 1:
                raise ScenarioError("--max-new-tokens is below 1", remedy="the prefill yields the first token")
            if self.decode_steps is not None and self.decode_steps != self.max_new_tokens - 1:
                raise UsageError(
                    "--max-new-tokens and --decode-steps contradict each other",
                    remedy="give one of them; the prefill yields the first token",
                )
            given["decode_steps"] = self.max_new_tokens - 1
        if "mode" in given:
            for size in ("base_size", "image_size", "crop_mode"):
                values.pop(size, None)
        pages = [read_page(path) for path in files]
        pages += [Page(*parse_size(text, "--page")) for text in self.page]
        pages += [Page(grid=parse_size(text, "--grid")) for text in self.grid]
        if pages:
            given["pages"] = tuple(pages)
        return Scenario(**{**values, **given})


_NO_KEYS = ("workload", "page", "grid", "max_new_tokens")


def read_page(path: Path) -> Page:
    """A page image's size in pixels, turned upright by its EXIF orientation.

    Raises PageError for a file that is missing, empty, truncated or no image.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        from modelmeter.errors import require_extra

        raise require_extra("trace", "pillow") from None
    try:
        if path.is_dir():
            raise PageError(f"{path} is a folder", remedy="give an image file")
        if path.stat().st_size == 0:
            raise PageError(f"{path} is empty", remedy="give an image file")
        with Image.open(path) as image:
            image.load()
            width, height = ImageOps.exif_transpose(image).size
    except FileNotFoundError:
        raise PageError(f"{path} does not exist", remedy="give the path of an image file") from None
    except UnidentifiedImageError:
        raise PageError(f"{path} is no image", remedy="give a PNG, JPEG or another format that Pillow reads") from None
    except Image.DecompressionBombError:
        raise PageError(f"{path} has too many pixels", remedy="scale it down first") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise PageError(f"{path} cannot be read as an image: {error}", remedy="the file may be truncated") from None
    return Page(width, height, name=path.name)


def read_workload(path: Path) -> dict[str, Any]:
    """Scenario keys from a YAML or JSON file; unknown keys are refused with the nearest known one."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        data = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(
            f"cannot read workload {path}: {error.strerror}", remedy="give a YAML or JSON file"
        ) from None
    except (YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())[:120]
        raise ScenarioError(f"workload {path} is no YAML: {line}", remedy="give keys and values") from None
    if not isinstance(data, dict):
        raise ScenarioError(f"workload {path} holds no keys", remedy="give keys and values, for example 'batch: 4'")
    known = {attribute.name for attribute in fields(Scenario)}
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in known | {"max_new_tokens"}:
            raise UnknownNameError(f"key in workload {path}", str(key), known | {"max_new_tokens"})
        if key == "pages":
            values[key] = tuple(
                _workload_page(entry, path) for entry in (value if isinstance(value, list) else [value])
            )
        elif key == "max_new_tokens":
            values["decode_steps"] = value - 1 if isinstance(value, int) else value
        else:
            values[key] = value
    return values


def _workload_page(entry: Any, path: Path) -> Page:
    if isinstance(entry, str) and "." not in entry:
        return Page(*parse_size(entry, f"page in {path}"))
    if isinstance(entry, str):
        return read_page(path.parent / entry)
    if isinstance(entry, dict) and set(entry) == {"grid"}:
        return Page(grid=parse_size(str(entry["grid"]), f"grid in {path}"))
    raise ScenarioError(f"page {entry!r} in {path}", remedy="write '1240x1754', a file name, or 'grid: 3x2'")

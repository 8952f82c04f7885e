"""The page's data put into its template, so that nothing in it can be taken for markup."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

MARK = '<script type="application/json" id="page-data">null</script>'
"""Where the template holds no data yet; ``web/`` builds the template."""

_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}

_LONE_HALF = re.compile("[\ud800-\udfff]")


def page_html(data: Mapping[str, Any]) -> str:
    """The page as one HTML document; the same data gives the same text."""
    before, mark, after = template().partition(MARK)
    assert mark, "the template has no place for data"
    return before + mark.replace("null", embedded(data)) + after


def embedded(data: Mapping[str, Any]) -> str:
    """JSON that can stand in a script element: what could end it, or a line, is escaped.

    Lone halves of characters, which UTF-8 cannot hold, are escaped as well.
    """
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _LONE_HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", text.translate(_ESCAPES))


@cache
def template() -> str:
    """The page without data, as it is shipped."""
    return files("modelmeter.render.page").joinpath("template.html").read_text(encoding="utf-8")

"""What the browser tests do on a page more than once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TABS = ("Roofline", "Icicle", "Call graph", "Memory over the run", "Compare")


def row(page: Any, identity: str) -> Any:
    return page.locator(".row", has=page.locator(f'.name-text[title="{identity}"]'))


def saved(page: Any, button: Any) -> str:
    with page.expect_download() as waiting:
        button.click()
    return Path(waiting.value.path()).read_text(encoding="utf-8")

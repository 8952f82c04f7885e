"""One browser for all tests of the page; where there is none they are skipped and say so."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

WEB = Path(__file__).parents[2] / "web"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


Opened = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, folder: Path) -> Iterator[Opened]:
    """Opens a page of some data, offline; at the end nothing may have been asked of any network or gone wrong."""
    contexts, troubles = [], []

    def open_page(data: Mapping[str, Any] | Path, fragment: str = "", **settings: Any) -> Any:
        from modelmeter.render.page import page_html

        path = data
        if not isinstance(path, Path):
            path = folder / f"page-{len(list(folder.iterdir()))}.html"
            path.write_text(page_html(data), encoding="utf-8")
        context = browser.new_context(offline=True, accept_downloads=True, **{"viewport": SIZE, **settings})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: troubles.append(request.url) if is_foreign(request.url, path) else None)
        page.goto(path.as_uri() + fragment)
        page.set_default_timeout(10_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


SIZE = {"width": 1440, "height": 900}


def is_foreign(url: str, path: Path) -> bool:
    return not url.startswith((path.as_uri(), "data:", "blob:"))

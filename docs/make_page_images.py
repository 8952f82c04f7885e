"""Takes the pictures of the page's documentation with Chromium: ``python docs/make_page_images.py [folder]``.

Full-size DeepSeek-OCR with a module selected, and a model without closed forms on another device than its report's.
Fonts differ between machines, so the pictures are looked at and not compared.
"""

from __future__ import annotations

import shutil
import sys
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from modelmeter import CallGraph
from modelmeter.cli import run
from modelmeter.cli.report import html_of, subject_of
from modelmeter.contracts import load_report
from modelmeter.errors import MissingDependencyError

ROOT = Path(__file__).parent.parent

LLAMA = (str(ROOT / "examples" / "llama"), "--input-ids", "1x512", "--device", "h200")

SHOTS = {
    "page.png": (("deepseek-ocr",), "#selected=layers.[0-11].self_attn", 1130),
    "page-llama.png": (LLAMA, "#tab=graph&device=b200", 1000),
}
"""A picture to what is analysed and traced, how the page is opened, and how high the picture is in pixels."""

WIDTH = 1440

COLOURS = 256
"""So many keep the files small; those that few pixels have are kept too."""


def page_of(subject: tuple[str, ...], folder: Path) -> Path:
    """The page of a report and a call graph of the same subject."""
    for command in ("analyze", "trace"):
        assert run([command, *subject, "--out", str(folder / command), "--quiet"]) == 0
    report = load_report(folder / "analyze" / "report.json")
    graph = CallGraph.load(folder / "trace" / "callgraph.json")
    page = folder / "page.html"
    page.write_text(html_of(subject_of(report, graph)), encoding="utf-8")
    return page


def take(browser: Any, page: Path, fragment: str, height: int, target: Path) -> None:
    """A picture of a page as it is once it stands still, with no network."""
    context = browser.new_context(offline=True, viewport={"width": WIDTH, "height": height})
    view = context.new_page()
    view.goto(page.as_uri() + fragment)
    view.wait_for_selector(".row")
    view.wait_for_timeout(500)
    picture = Image.open(BytesIO(view.screenshot())).convert("RGB")
    picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(target, optimize=True)
    context.close()


def main(folder: Path) -> None:
    """Take all pictures. Raises MissingDependencyError without a browser."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise MissingDependencyError("Chromium is not installed", remedy="make chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, (subject, fragment, height) in SHOTS.items():
            with TemporaryDirectory() as made:
                take(browser, page_of(subject, Path(made)), fragment, height, folder / name)
            print(folder / name)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")

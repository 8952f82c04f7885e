"""Draws the pictures of the documentation from real runs: ``python docs/make_images.py [folder]``."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from modelmeter import Page, Scenario, trace
from modelmeter.callgraph import outline
from modelmeter.render.terminal import call_graph_view

THEME = TerminalTheme(
    (250, 250, 252),
    (36, 41, 47),
    [
        (36, 41, 47),
        (180, 35, 24),
        (26, 127, 55),
        (154, 103, 0),
        (9, 105, 218),
        (130, 80, 223),
        (27, 124, 131),
        (80, 86, 94),
    ],
)

# Plain fonts: the default format would load one from the network.
SVG = """<svg viewBox="0 0 {terminal_width} {terminal_height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>{lines}</defs>
<rect width="{terminal_width}" height="{terminal_height}" rx="8" fill="#fafafc"/>
<g transform="translate(6, 6)" clip-path="url(#{unique_id}-clip-terminal)">{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


def draw_trace(folder: Path) -> Path:
    """``modelmeter trace deepseek-ocr --grid 3x2 --decode-steps 2 --depth 3`` as an SVG."""
    graph = trace("deepseek-ocr", Scenario(pages=(Page(grid=(3, 2)),), decode_steps=2))
    recording = Console(record=True, width=100, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    recording.print(call_graph_view(graph, outline(graph, 3)))
    picture = recording.export_svg(title="", theme=THEME, code_format=SVG, unique_id="modelmeter")
    target = folder / "trace.svg"
    target.write_text(picture, encoding="utf-8")
    return target


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images"
    print(draw_trace(folder))

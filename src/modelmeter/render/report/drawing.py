"""A small SVG drawing: lines, boxes, marks and text on a panel that is readable by day and by night."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from modelmeter.render.labels import plain

STAGE_CLASSES = {"vision": "c0", "projector": "c1", "prefill": "c2", "decode": "c3", "other": "c4"}
"""Stages in the colours of Okabe and Ito (2008), which people with any colour vision tell apart."""

SERIES = ("c0", "c2", "c3", "c1", "c5", "c4")

FONT_WIDTH = 0.56
"""Width of a letter over its height, on average; to place text without measuring it."""

_STYLE = """
.panel{fill:#ffffff}.ink{fill:#1f2328}.soft{fill:#59636e}.grid{stroke:#d1d9e0;stroke-width:1}
.axis{stroke:#59636e;stroke-width:1}.roof{stroke:#1f2328;stroke-width:2;fill:none}
.lower{stroke:#59636e;stroke-width:1.5;stroke-dasharray:6 4;fill:none}.empty{fill:#eaeef2}
.edge{stroke:#ffffff;stroke-width:1}
text{font-family:system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;font-size:13px}
.title{font-size:16px;font-weight:600}.small{font-size:11px}
.c0{fill:#0072b2}.c1{fill:#cc79a7}.c2{fill:#e69f00}.c3{fill:#009e73}.c4{fill:#8c959f}.c5{fill:#56b4e9}
@media (prefers-color-scheme:dark){.panel{fill:#0d1117}.ink{fill:#e6edf3}.soft{fill:#9198a1}.grid{stroke:#2f353d}
.axis{stroke:#9198a1}.roof{stroke:#e6edf3}.lower{stroke:#9198a1}.empty{fill:#21262d}.edge{stroke:#0d1117}
.c0{fill:#3b9fdd}}
"""


class Drawing:
    """Parts of a picture in the order in which they are painted."""

    def __init__(self, width: int, height: int, title: str, description: str) -> None:
        self.width, self.height = width, height
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img">',
            f"<title>{_text(title)}</title>",
            f"<desc>{_text(description)}</desc>",
            f"<style>{_STYLE}</style>",
            f'<rect class="panel" width="{width}" height="{height}" rx="8"/>',
        ]
        self.text(20, 30, title, "ink title")

    def text(self, x: float, y: float, words: str, style: str = "ink", anchor: str = "start", turn: int = 0) -> None:
        """A line of text; ``turn`` in degrees."""
        turned = f' transform="rotate({turn} {_n(x)} {_n(y)})"' if turn else ""
        self._parts.append(
            f'<text x="{_n(x)}" y="{_n(y)}" class="{style}" text-anchor="{anchor}"{turned}>{_text(words)}</text>'
        )

    def line(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """A line through points."""
        path = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        self._parts.append(f'<polyline points="{path}" class="{style}" fill="none"/>')

    def box(self, x: float, y: float, width: float, height: float, style: str, tip: str = "") -> None:
        """A filled box, with a tooltip."""
        self._parts.append(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" class="{style}"'
            + (f"><title>{_text(tip)}</title></rect>" if tip else "/>")
        )

    def mark(self, x: float, y: float, shape: str, size: float, style: str, tip: str = "") -> None:
        """A mark: ``circle``, ``square``, ``triangle``, ``diamond`` or ``down``, so that colour is not all."""
        inside = f"<title>{_text(tip)}</title>" if tip else ""
        if shape == "circle":
            self._parts.append(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(size)}" class="{style}">{inside}</circle>')
            return
        corners = {
            "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
            "triangle": ((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
            "down": ((0, 1.2), (1.1, -0.8), (-1.1, -0.8)),
            "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
        }[shape]
        points = " ".join(f"{_n(x + size * a)},{_n(y + size * b)}" for a, b in corners)
        self._parts.append(f'<polygon points="{points}" class="{style}">{inside}</polygon>')

    def svg(self) -> str:
        """The picture as a file."""
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + "\n".join([*self._parts, "</svg>"]) + "\n"


def fitted(words: str, width: float, size: float = 13) -> str:
    """Words without their beginning where they are too wide: the end of a module's name tells it apart."""
    most = max(1, int(width / (size * FONT_WIDTH)))
    words = plain(words)
    return words if len(words) <= most else f"…{words[len(words) - most + 1 :]}"


def _text(words: str) -> str:
    return escape(plain(words)).replace("&#x27;", "'")


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")

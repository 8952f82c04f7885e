"""What is verified: crop grids, page sizes as document collections have them, or pages that were given."""

from __future__ import annotations

from attrs import frozen

from modelmeter.schema.scenario import Page, Scenario

LARGEST_GRID = 9


@frozen
class Case:
    """One scenario, by a name that people know it by."""

    name: str
    scenario: Scenario


def crop_grids() -> list[tuple[int, int]]:
    """No crops, and every grid of 2 to 9 crops, in order of their number."""
    sides = range(1, LARGEST_GRID + 1)
    grids = [(w, h) for w in sides for h in sides if w * h <= LARGEST_GRID]
    return sorted(grids, key=lambda grid: (grid[0] * grid[1], grid))


MILLIMETRES_PER_INCH = 25.4

PAPER_MM = {"a4": (210, 297), "letter": (215.9, 279.4)}
"""ISO 216, and ANSI/ASME Y14.1 size A."""

RESOLUTIONS_DPI = (72, 96, 100, 144, 150, 200, 300)
ON_THEIR_SIDE_DPI = (72, 150, 300)


def page_battery() -> list[Page]:
    """Page sizes as document benchmarks have them, in pixels.

    A4 and letter, upright and on their side, from 72 to 300 dots per inch; slides of 4:3 and 16:9; broadsheet
    and tabloid newspapers; receipts; two-page spreads; and images too small to be cut.
    """
    pages: list[Page] = []
    for paper, (width, height) in PAPER_MM.items():
        for dpi in RESOLUTIONS_DPI:
            across, down = (round(side / MILLIMETRES_PER_INCH * dpi) for side in (width, height))
            pages.append(Page(across, down, name=f"{paper} {dpi} dpi"))
            if dpi in ON_THEIR_SIDE_DPI:
                pages.append(Page(down, across, name=f"{paper} {dpi} dpi, on its side"))
    pages += [Page(width, height, name=name) for name, (width, height) in _OTHER_PAGES.items()]
    return pages


_OTHER_PAGES = {
    "slide 4:3": (1024, 768),
    "slide 4:3, large": (1600, 1200),
    "slide 16:9": (1280, 720),
    "slide 16:9, full HD": (1920, 1080),
    "slide 16:9, 4K": (3840, 2160),
    "newspaper, broadsheet 150 dpi": (2244, 3366),  # 380 x 570 mm
    "newspaper, tabloid 150 dpi": (1654, 2539),  # 280 x 430 mm
    "newspaper, broadsheet column": (600, 3366),
    "receipt 80 mm, short": (576, 1200),
    "receipt 80 mm, long": (576, 4000),
    "receipt 58 mm": (384, 1600),
    "spread, two A4 150 dpi": (2480, 1754),
    "spread, two A4 300 dpi": (4960, 3508),
    "spread, two letter 200 dpi": (3400, 2200),
    "poster, square": (3000, 3000),
    "banner": (5000, 600),
    "photograph 3:2": (3000, 2000),
    "screenshot of a phone": (1170, 2532),
    "figure, as large as is not cut": (640, 640),
    "figure, small": (320, 200),
}
"""Thermal printers have 8 dots a millimetre: 576 for 80 mm paper, 384 for 58 mm."""

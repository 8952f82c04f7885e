"""Draws ``sample_page.png``: an A4 page at 150 dpi with a title, two columns, a table and a figure."""

from __future__ import annotations

import math
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 1240, 1754
WORDS = (
    "a page goes in and the graph of the model comes out with every call shape and cost counted before anyone rents "
    "a machine the crops follow the aspect of the image and the tokens follow the crops"
).split()


def draw_page() -> Image.Image:
    """The page, the same at every call."""
    page = Image.new("L", (WIDTH, HEIGHT), 255)
    pen = ImageDraw.Draw(page)
    chance = random.Random(7)
    pen.text((120, 110), "What a page costs", font=ImageFont.load_default(54), fill=0)
    pen.text((120, 190), "A sample page for ModelMeter", font=ImageFont.load_default(26), fill=90)
    for left in (120, 640):
        _column(pen, chance, left, top=270, bottom=980, width=480)
    _table(pen, left=120, top=1040)
    _figure(pen, left=660, top=1040)
    return page


def _column(pen: ImageDraw.ImageDraw, chance: random.Random, left: int, top: int, bottom: int, width: int) -> None:
    font = ImageFont.load_default(22)
    y, line = top, ""
    while y < bottom:
        word = chance.choice(WORDS)
        if pen.textlength(f"{line} {word}", font=font) > width:
            pen.text((left, y), line, font=font, fill=20)
            y, line = y + 32, word
        else:
            line = f"{line} {word}".strip()


def _table(pen: ImageDraw.ImageDraw, left: int, top: int) -> None:
    font = ImageFont.load_default(22)
    rows = [
        ("view", "side", "tokens"),
        ("global", "1024", "273"),
        ("crop 2x1", "640", "210"),
        ("crop 3x2", "640", "620"),
    ]
    for index, row in enumerate(rows):
        y = top + index * 56
        pen.line((left, y, left + 460, y), fill=120, width=2)
        for column, text in enumerate(row):
            pen.text((left + 12 + column * 160, y + 14), text, font=font, fill=20)
    pen.line((left, top + len(rows) * 56, left + 460, top + len(rows) * 56), fill=120, width=2)


def _figure(pen: ImageDraw.ImageDraw, left: int, top: int) -> None:
    pen.rectangle((left, top, left + 460, top + 420), outline=120, width=2)
    points = [(left + 20 + x, top + 210 + int(150 * math.sin(x / 60) * math.exp(-x / 400))) for x in range(0, 420, 6)]
    pen.line(points, fill=40, width=4)


if __name__ == "__main__":
    draw_page().save(Path(__file__).with_name("sample_page.png"), optimize=True)

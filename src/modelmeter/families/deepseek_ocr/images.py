"""Pixels of a page to the views that the network sees, as the model's own preprocessing makes them.

Views are RGB in [-1, 1]: (value / 255 - mean) / deviation. Resizing is bicubic. Source: the published
``modeling_deepseekocr.py`` (its ``infer`` and ``dynamic_preprocess``). Imports torch and Pillow.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from modelmeter.errors import PageError
from modelmeter.families.deepseek_ocr.network.model import PageImages
from modelmeter.families.deepseek_ocr.views import VisionWorkload, compute_view_layout

PIXEL_MEAN = 0.5
PIXEL_DEVIATION = 0.5

PADDING = int(PIXEL_MEAN * 255)
"""Grey that fills what a page does not cover; 127, which is not quite 0 after normalisation."""


def open_page(path: Path) -> Image.Image:
    """A page image in RGB, upright by its EXIF orientation. Raises PageError."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # a damaged file makes Pillow's readers raise nearly anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise PageError(f"{path} cannot be read as an image: {reason}", remedy="give an image file") from None


def page_views(image: Image.Image, workload: VisionWorkload, dtype: torch.dtype) -> tuple[PageImages, tuple[int, int]]:
    """The views of a page, and its crop grid (w, h).

    Crops are [w*h, 3, s, s], row by row (a first dimension of 0 if there are none), the global view
    [1, 3, S, S].
    """
    _, columns, rows = compute_view_layout(workload, *image.size)
    side = workload.image_size
    if columns * rows > 1:
        crops = torch.stack([normalised(crop) for crop in crop_views(image, side, columns, rows)])
    else:
        crops = torch.zeros(0, 3, side, side)
    whole = normalised(global_view(image, workload))[None]
    return (crops.to(dtype), whole.to(dtype)), (columns, rows)


def global_view(image: Image.Image, workload: VisionWorkload) -> Image.Image:
    """The whole page as one square: fitted and padded with grey, or resized without regard to its aspect."""
    size = (workload.global_side, workload.global_side)
    if workload.global_is_padded:
        return ImageOps.pad(image, size, Image.Resampling.BICUBIC, color=(PADDING,) * 3)
    return image.resize(size, Image.Resampling.BICUBIC)


def crop_views(image: Image.Image, side: int, columns: int, rows: int) -> list[Image.Image]:
    """The page resized to the whole grid and cut into squares, row by row."""
    resized = image.resize((side * columns, side * rows), Image.Resampling.BICUBIC)
    return [
        resized.crop((column * side, row * side, (column + 1) * side, (row + 1) * side))
        for row in range(rows)
        for column in range(columns)
    ]


def normalised(image: Image.Image) -> Tensor:
    """An RGB image as [3, h, w] in float32."""
    values = torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1)
    return (values.to(torch.float32) / 255 - PIXEL_MEAN) / PIXEL_DEVIATION

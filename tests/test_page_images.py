"""Pixels to views, beside an independent reading of the published preprocessing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from modelmeter.errors import PageError
from modelmeter.families.deepseek_ocr import VisionWorkload, compute_view_layout
from modelmeter.families.deepseek_ocr.images import open_page, page_views

GREY = (127 / 255 - 0.5) / 0.5

ONE_LEVEL = 2 / 255
"""One of 256 grey levels after normalisation."""


def positions(width: int, height: int) -> np.ndarray:
    """An image [height, width, 3] whose pixels say where they are: column and row, modulo 256, and which 256."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([columns % 256, rows % 256, columns // 256 * 16 + rows // 256], axis=-1).astype(np.uint8)


def smooth(width: int, height: int) -> np.ndarray:
    """An image that resizing keeps recognisable: slow waves, different in each channel."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(columns / 23 + rows / 41), np.cos(columns / 31), np.sin(rows / 19)]
    return (127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def scaled(values: np.ndarray) -> torch.Tensor:
    """[h, w, 3] of 0 to 255 to [3, h, w] of -1 to 1."""
    return torch.tensor((values.astype(np.float64) / 255 - 0.5) / 0.5, dtype=torch.float32).permute(2, 0, 1)


def bicubic_weights(old: int, new: int) -> np.ndarray:
    """Antialiased bicubic interpolation (a = -0.5) of a line, as a matrix [new, old]."""
    scale = max(old / new, 1.0)
    centres = (np.arange(new) + 0.5) * old / new
    distance = np.abs(np.arange(old)[None] + 0.5 - centres[:, None]) / scale
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    return weights / weights.sum(axis=1, keepdims=True)


def resized(values: np.ndarray, width: int, height: int) -> np.ndarray:
    across, down = bicubic_weights(values.shape[1], width), bicubic_weights(values.shape[0], height)
    channels = [down @ values[..., channel].astype(np.float64) @ across.T for channel in range(3)]
    return np.clip(np.stack(channels, axis=-1), 0, 255)


def views(values: np.ndarray, workload: VisionWorkload) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
    (crops, whole), grid = page_views(Image.fromarray(values), workload, torch.float32)
    return crops, whole, grid


@pytest.mark.parametrize(("columns", "rows"), [(2, 1), (1, 2), (2, 3), (3, 2), (3, 3)])
def test_crops_are_cut_row_by_row(columns: int, rows: int) -> None:
    """The image has the grid's size already, so no pixel may change or move."""
    values = positions(640 * columns, 640 * rows)
    crops, whole, grid = views(values, VisionWorkload())
    assert grid == (columns, rows)
    assert crops.shape == (columns * rows, 3, 640, 640) and whole.shape == (1, 3, 1024, 1024)
    for index in range(columns * rows):
        top, left = index // columns * 640, index % columns * 640
        assert torch.allclose(crops[index], scaled(values[top : top + 640, left : left + 640]), atol=1e-6)


def test_crops_are_resized_first() -> None:
    values = smooth(900, 1210)
    crops, _, (columns, rows) = views(values, VisionWorkload(image_size=96))
    assert (columns, rows) == compute_view_layout(VisionWorkload(), 900, 1210)[1:]
    expected = scaled(resized(values, 96 * columns, 96 * rows))
    for index in range(columns * rows):
        top, left = index // columns * 96, index % columns * 96
        assert torch.allclose(crops[index], expected[:, top : top + 96, left : left + 96], atol=1.5 * ONE_LEVEL)


@pytest.mark.parametrize(("width", "height"), [(300, 200), (200, 300), (256, 256), (700, 100)])
def test_global_view_is_fitted_and_padded_with_grey(width: int, height: int) -> None:
    values = smooth(width, height)
    _, (whole,), _ = views(values, VisionWorkload(base_size=256, image_size=64))
    new_width, new_height = (
        (256, round(height / width * 256)) if width >= height else (round(width / height * 256), 256)
    )
    left, top = round((256 - new_width) * 0.5), round((256 - new_height) * 0.5)
    inside = whole[:, top : top + new_height, left : left + new_width]
    assert torch.allclose(inside, scaled(resized(values, new_width, new_height)), atol=1.5 * ONE_LEVEL)
    covered = torch.zeros(256, 256, dtype=torch.bool)
    covered[top : top + new_height, left : left + new_width] = True
    assert torch.allclose(whole[:, ~covered], torch.tensor(GREY), atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "side", "padded"),
    [("tiny", 512, False), ("small", 640, False), ("base", 1024, True), ("large", 1280, True)],
)
def test_modes_without_crops(mode: str, side: int, padded: bool) -> None:
    values = smooth(700, 1400)
    crops, whole, grid = views(values, VisionWorkload.from_mode(mode))
    assert grid == (1, 1) and crops.shape[0] == 0 and whole.shape == (1, 3, side, side)
    edge = whole[0, :, :, 0]
    assert bool((edge - GREY).abs().max() < 1e-6) == padded
    if not padded:
        assert torch.allclose(whole[0], scaled(resized(values, side, side)), atol=1.5 * ONE_LEVEL)


def test_small_images_are_not_cropped() -> None:
    crops, _, grid = views(smooth(640, 640), VisionWorkload())
    assert grid == (1, 1) and crops.shape == (0, 3, 640, 640)
    assert views(smooth(641, 640), VisionWorkload(image_size=64))[2] != (1, 1)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 1500), st.integers(1, 1500), st.booleans(), st.sampled_from([16, 48]))
def test_views_have_the_shapes_that_the_layout_promises(width: int, height: int, crop: bool, side: int) -> None:
    workload = VisionWorkload(base_size=64, image_size=side, crop_mode=crop)
    count, columns, rows = compute_view_layout(workload, width, height)
    values = np.zeros((height, width, 3), dtype=np.uint8)
    (crops, whole), grid = page_views(Image.fromarray(values), workload, torch.bfloat16)
    assert grid == (columns, rows)
    assert crops.shape == (count - 1, 3, side, side) and whole.shape == (
        1,
        3,
        workload.global_side,
        workload.global_side,
    )
    assert crops.dtype == whole.dtype == torch.bfloat16


def test_pages_are_turned_upright_and_made_rgb(tmp_path: Path) -> None:
    upright = Image.fromarray(positions(40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(np.array(open_page(tmp_path / "turned.png")), positions(40, 20))
    for mode, suffix in (("L", "png"), ("1", "png"), ("P", "gif"), ("RGBA", "png"), ("CMYK", "jpg")):
        upright.convert(mode).save(tmp_path / f"page.{suffix}")
        assert open_page(tmp_path / f"page.{suffix}").mode == "RGB"


def test_pages_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(PageError, match=r"text.png cannot be read as an image"):
        open_page(tmp_path / "text.png")
    with pytest.raises(PageError, match=r"gone.png cannot be read as an image: No such file"):
        open_page(tmp_path / "gone.png")

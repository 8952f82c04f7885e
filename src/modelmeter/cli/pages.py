"""Page files: only their size is needed, but a file that cannot be read in full is refused."""

from __future__ import annotations

from pathlib import Path

from modelmeter.errors import PageError, require_extra
from modelmeter.schema.scenario import Page


def read_page(path: Path) -> Page:
    """A page image's size in pixels, turned upright by its EXIF orientation.

    Raises PageError for a file that is missing, empty, truncated or no image.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise require_extra("trace", "pillow") from None
    try:
        if path.is_dir():
            raise PageError(f"{path} is a folder", remedy="give an image file")
        if path.stat().st_size == 0:
            raise PageError(f"{path} is empty", remedy="give an image file")
        with Image.open(path) as image:
            image.load()
            width, height = ImageOps.exif_transpose(image).size
    except PageError:
        raise
    except FileNotFoundError:
        raise PageError(f"{path} does not exist", remedy="give the path of an image file") from None
    except UnidentifiedImageError:
        raise PageError(f"{path} is no image", remedy="give a PNG, JPEG or another format that Pillow reads") from None
    except Image.DecompressionBombError:
        raise PageError(f"{path} has too many pixels", remedy="scale it down first") from None
    except Exception as error:  # a damaged file makes Pillow's readers raise nearly anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise PageError(f"{path} cannot be read as an image: {reason}", remedy="the file may be truncated") from None
    # A file name need not be text; what the document holds must be.
    return Page(width, height, name=path.name.encode("utf-8", "replace").decode("utf-8"))

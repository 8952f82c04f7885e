"""DeepSeek-OCR: its configuration, views, network and inputs. Importing this does not import torch."""

from modelmeter.families.deepseek_ocr.config import DeepSeekOCRConfig, published_config, read_configuration
from modelmeter.families.deepseek_ocr.family import FAMILY, DeepSeekOCRFamily
from modelmeter.families.deepseek_ocr.views import PageLayout, VisionWorkload, compute_view_layout

__all__ = [
    "FAMILY",
    "DeepSeekOCRConfig",
    "DeepSeekOCRFamily",
    "PageLayout",
    "VisionWorkload",
    "compute_view_layout",
    "published_config",
    "read_configuration",
]

"""Measuring: a model run for real on the device that is there, and how long its parts took. Imports torch."""

from modelmeter.measuring.api import measure
from modelmeter.measuring.models import ModelOnDevice, build_model, default_device

__all__ = ["ModelOnDevice", "build_model", "default_device", "measure"]

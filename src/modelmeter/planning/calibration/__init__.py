"""Calibration: efficiencies fitted to measurements, and how well they predict others."""

from modelmeter.planning.calibration.api import calibrate, load_efficiency
from modelmeter.planning.calibration.devices import calibrated_device
from modelmeter.planning.calibration.inputs import NamedMeasurement, read_measurements

__all__ = ["NamedMeasurement", "calibrate", "calibrated_device", "load_efficiency", "read_measurements"]

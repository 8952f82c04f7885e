"""Closed form beside trace: the two are compared number by number, and differ by nothing."""

from modelmeter.verify.cases import Case, crop_grids, page_battery
from modelmeter.verify.compare import compare
from modelmeter.verify.difference import Difference
from modelmeter.verify.result import CaseResult, Totals
from modelmeter.verify.run import verify_cases

__all__ = [
    "Case",
    "CaseResult",
    "Difference",
    "Totals",
    "compare",
    "crop_grids",
    "page_battery",
    "verify_cases",
]

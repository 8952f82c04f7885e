"""A report that a page without Python can ask again: every number of it as an expression over a few keys."""

from modelmeter.planning.live.document import live_report, why_not

__all__ = ["live_report", "why_not"]

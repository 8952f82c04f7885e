"""The interactive page: one HTML file with a report, a call graph, or both, that needs no network and no Python."""

from modelmeter.render.page.document import Subject, page_data
from modelmeter.render.page.html import page_html

__all__ = ["Subject", "page_data", "page_html"]

"""Documents of an analytic report for people: Markdown pages with formulas, and pictures, from the report alone."""

from __future__ import annotations

import posixpath

from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.render.report.bars import memory, time_shares
from modelmeter.render.report.layer_page import layer_page
from modelmeter.render.report.ocr_shapes import shapes_of
from modelmeter.render.report.places import FIGURES, SUMMARY, page_names
from modelmeter.render.report.reading import ReportView
from modelmeter.render.report.roofline import roofline
from modelmeter.render.report.summary import memory_parts, summary


def report_documents(report: AnalyticModelReport) -> dict[str, str]:
    """Every document by its path beside the report: ``summary.md``, a page a module family, and figures.

    The same report gives the same text. Raises MissingDependencyError where mdutils is not installed.
    """
    view = ReportView(report)
    folder = posixpath.normpath(report.layer_docs_dir)
    pages = {module: posixpath.join(folder, file) for module, file in page_names(view.depths).items()}
    shapes = shapes_of(view)
    parts = memory_parts(report.capacity, report.totals) if report.capacity else []
    drawn = {
        "Roofline": ("roofline.svg", roofline(view)),
        "Share of time": ("time.svg", time_shares(view)),
        "Memory": ("memory.svg", memory(view, parts)),
    }
    figures = {title: (posixpath.join(FIGURES, file), svg) for title, (file, svg) in drawn.items() if svg is not None}
    documents = {SUMMARY: summary(view, pages, {title: path for title, (path, _) in figures.items()}, shapes)}
    documents |= {path: layer_page(view, module, pages, shapes) for module, path in pages.items()}
    documents |= dict(figures.values())
    return documents


__all__ = ["report_documents"]

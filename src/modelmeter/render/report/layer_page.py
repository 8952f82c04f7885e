"""A page of one family of modules: class, configuration, formula with its numbers, metrics, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping

from modelmeter.contracts.report import StageModuleMetrics
from modelmeter.render.report import amounts
from modelmeter.render.report.bounds import why
from modelmeter.render.report.formula_part import formula_part
from modelmeter.render.report.ocr_shapes import Shapes
from modelmeter.render.report.page import Page, link, mono, name
from modelmeter.render.report.places import SUMMARY, between
from modelmeter.render.report.reading import ReportView
from modelmeter.render.report.summary import sentences


def layer_page(view: ReportView, module: str, pages: Mapping[str, str], shapes: Shapes | None) -> str:
    """The page of a module; ``pages`` is where every module's page lies."""
    node, here = view.nodes[module], pages[module]
    short = node.qualified_class_name.rpartition(".")[2] or node.name or module
    page = Page(f"{name(short)}: {name(module)}")
    above = [link("summary", between(here, SUMMARY))]
    if node.parent_id in pages:
        above.append(f"part of {link(mono(node.parent_id or ''), between(here, pages[node.parent_id or '']))}")
    page.paragraph(", ".join(above) + ".")
    _configuration(page, view, module)
    formula_part(page, view, shapes, module)
    _metrics(page, view, module)
    _parts(page, view, module, pages)
    page.heading("Why")
    for part in view.stages[module]:
        page.paragraph(f"**{part.stage}**: {why(view, part)}")
    if not view.stages[module]:
        page.paragraph("The report does not say what it costs in each stage.")
    page.heading("Assumptions")
    page.bullets([name(item, 1000) for item in sentences(view.report.notes)] or ["None."])
    return page.text()


def _configuration(page: Page, view: ReportView, module: str) -> None:
    node = view.nodes[module]
    page.heading("Class and configuration")
    rows = [("class", mono(node.qualified_class_name)), ("stage", node.stage), ("modules", mono(module))]
    if node.repetition_count is not None:
        words = {"for": "one after the other", "parfor": "side by side"}.get(node.repetition, node.repetition)
        rows.append(("repeats", f"{node.repetition_count} in its caller, {words}"))
    rows += [(mono(key), mono(json.dumps(value, ensure_ascii=False))) for key, value in node.constructor_params.items()]
    page.table(("what", "value"), rows)


def _metrics(page: Page, view: ReportView, module: str) -> None:
    page.heading("Metrics")
    metrics = view.metrics.get(module)
    if metrics is None:
        page.paragraph("The report holds none.")
        return
    rows = [_stage_row(view, part) for part in view.stages[module]]
    flops, moved = metrics.total_flops_tflops, metrics.total_io_tb
    exact = [view.exact.get((module, part.stage)) for part in view.stages[module]]
    launches = f"{sum(one.launches for one in exact if one):,}" if any(exact) else "-"
    rows.append(
        (
            "**total**",
            f"{metrics.calls:,}",
            amounts.milli(metrics.total_time_ms),
            amounts.share(metrics.share_of_model_time),
            f"{flops * 1e3:,.3f}",
            f"{moved * 1e3:,.3f}",
            f"{flops / moved:,.2f}" if moved else "-",
            launches,
            "",
        )
    )
    page.table(("stage", "calls", "ms", "share", "GFLOP", "GB moved", "FLOPs a byte", "launches", "bound by"), rows)
    page.paragraph(
        "All with what is below it, over the whole run; a stage's share is of that stage, the total's of the run."
    )
    page.table(
        ("memory", "GB"),
        [
            ("weights", f"{metrics.memory_weights_gb:,.3f}"),
            ("live at its peak", f"{metrics.memory_activations_gb:,.3f}"),
            ("cache at its end", f"{metrics.memory_kvcache_gb:,.3f}"),
        ],
    )


def _stage_row(view: ReportView, part: StageModuleMetrics) -> tuple[str, ...]:
    exact = view.exact.get((part.module_id, part.stage))
    flops, moved = part.total_flops_tflops, part.total_io_tb
    return (
        part.stage,
        f"{part.calls:,}",
        amounts.milli(part.total_time_ms),
        amounts.share(part.share_of_stage_time),
        f"{flops * 1e3:,.3f}",
        f"{moved * 1e3:,.3f}",
        f"{flops / moved:,.2f}" if moved else "-",
        f"{exact.launches:,}" if exact else "-",
        part.bound or "-",
    )


def _parts(page: Page, view: ReportView, module: str, pages: Mapping[str, str]) -> None:
    """Own operators and the modules below, which add up to the module."""
    node, metrics = view.nodes[module], view.metrics.get(module)
    below = [child for child in node.children if child in view.metrics]
    if metrics is None:
        return
    titles = {category.category_id: category.display_name for category in view.report.operator_categories}
    page.heading("Operators", 3)
    page.table(
        ("category", "calls", "GFLOP", "GB moved", "share of FLOPs"),
        [
            (
                name(titles.get(part.category_id, part.category_id)),
                f"{part.calls:,}",
                f"{part.flops_tflops * 1e3:,.3f}",
                f"{part.io_tb * 1e3:,.3f}",
                amounts.share(part.share_of_module_flops),
            )
            for part in metrics.operator_breakdown
        ],
    )
    if not below:
        return
    page.heading("Made of", 3)
    rows = []
    flops, moved = metrics.total_flops_tflops, metrics.total_io_tb
    for child in below:
        mine = view.metrics[child]
        flops, moved = flops - mine.total_flops_tflops, moved - mine.total_io_tb
        rows.append(
            (
                link(mono(view.nodes[child].name or child), between(pages[module], pages[child])),
                amounts.milli(mine.total_time_ms),
                f"{mine.total_flops_tflops * 1e3:,.3f}",
                f"{mine.total_io_tb * 1e3:,.3f}",
            )
        )
    own = (amounts.milli(view.exclusive_ms(module)), f"{max(0.0, flops) * 1e3:,.3f}", f"{max(0.0, moved) * 1e3:,.3f}")
    rows.append(("own operators", *own))
    rows.append(
        (
            "**total**",
            amounts.milli(metrics.total_time_ms),
            f"{metrics.total_flops_tflops * 1e3:,.3f}",
            f"{metrics.total_io_tb * 1e3:,.3f}",
        )
    )
    page.table(("part", "ms", "GFLOP", "GB moved"), rows)

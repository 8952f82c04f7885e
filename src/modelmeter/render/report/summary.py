"""``summary.md``: the whole report on one page for people."""

from __future__ import annotations

import json
from collections.abc import Mapping

from modelmeter.contracts.report import Capacity, ExactCosts, Interval, ReportTotals
from modelmeter.ranking import largest_first
from modelmeter.render.report import amounts
from modelmeter.render.report.ocr_shapes import Shapes, primitives
from modelmeter.render.report.page import Page, link, mono, name
from modelmeter.render.report.places import SUMMARY, between
from modelmeter.render.report.reading import ReportView
from modelmeter.units import format_bytes, format_count, format_flops, format_seconds

HEAVIEST = 15
"""So many modules are listed by their own time; all others are one row."""

MOST_PARAMETERS = 400


def summary(view: ReportView, pages: Mapping[str, str], figures: Mapping[str, str], shapes: Shapes | None) -> str:
    """The page; ``pages`` is where every module's page lies, ``figures`` a picture's title to its path."""
    report = view.report
    page = Page(f"{name(report.model.model_variant)}: {name(report.workload.profile_id)}")
    page.paragraph(_first_words(view))
    _workload(page, view)
    if report.totals is not None:
        _stages(page, report.totals, view.is_eager)
    for title, path in figures.items():
        page.picture(title, between(SUMMARY, path))
    _heaviest(page, view, pages)
    _modules(page, view, pages)
    _parameters(page, view, pages)
    if shapes is not None:
        _primitives(page, view, shapes, pages)
    _categories(page, view)
    if report.capacity is not None:
        _capacity(page, report.capacity, report.totals)
    _assumptions(page, view)
    return page.text()


def _first_words(view: ReportView) -> str:
    report = view.report
    several = f"{report.capacity.devices} × " if report.capacity and report.capacity.devices else ""
    device = f" on {several}{name(view.rates.name)}" if view.rates.name else ""
    text = f"{name(report.model.model_id)}{device}: **{format_seconds(report.predicted_total_time_ms / 1e3)}**"
    if report.totals is not None:
        text += f" for {format_flops(report.totals.costs.matrix_flops + report.totals.costs.vector_flops)}"
    if report.capacity is not None:
        first, each = report.capacity.time_to_first_token_s, report.capacity.time_per_output_token_s
        text += f"; time to first token {amounts.seconds(first)}"
        if each is not None:
            text += f", per output token {amounts.seconds(each)}"
    text += "."
    if report.measured_total_time_ms is not None:
        ratio = report.predicted_vs_measured_ratio
        text += f" Measured: {format_seconds(report.measured_total_time_ms / 1e3)}"
        text += f", predicted over measured {ratio:.3f}." if ratio is not None else "."
    return text


def _workload(page: Page, view: ReportView) -> None:
    report, workload, model = view.report, view.report.workload, view.report.model
    scenario, described = view.part("scenario"), view.part("described")
    page.heading("Workload")
    rows = [
        ("profile", f"{name(workload.profile_id)}: {name(workload.description)}"),
        ("kind of document", name(workload.doc_kind)),
        ("pages of a request", str(workload.num_pages)),
    ]
    grids = [page["grid"] for page in described.get("pages", ()) if isinstance(page, dict) and "grid" in page]
    if grids:
        shown = [f"{columns}×{rows_}" if columns * rows_ > 1 else "none" for columns, rows_ in grids]
        rows.append(("crop grid of each page", ", ".join(shown)))
    cropping = "on" if workload.crop_mode else "off"
    rows += [
        ("views", f"global {workload.base_size} px, crops {workload.image_size} px, cropping {cropping}"),
        ("prompt", f"{workload.seq_len:,} positions" + _text_tokens(described)),
        ("output", f"up to {workload.max_new_tokens:,} tokens"),
    ]
    rows += [
        (title, name(str(scenario[key])))
        for key, title in (
            ("batch", "requests together"),
            ("dtype", "data type"),
            ("routing", "routing"),
            ("execution", "execution"),
            ("head", "logits of positions"),
        )
        if key in scenario
    ]
    kinds = [scenario.get(f"{part}_attention") or scenario.get("attention") for part in ("vision", "decoder")]
    if all(kinds):
        rows.append(("attention", f"vision {name(str(kinds[0]))}, decoder {name(str(kinds[1]))}"))
    page.table(("what", "value"), rows)
    page.heading("Model")
    moe = "with" if model.uses_moe else "without"
    facts = (
        f"{model.num_layers} layers of width {model.hidden_size:,}, {model.num_attention_heads} heads, "
        f"feed-forward {model.intermediate_size:,}, {moe} routed experts; vision backbone "
        f"{name(model.vision_backbone)}."
    )
    if report.totals is not None:
        facts += (
            f" {format_count(report.totals.parameters)} parameters, "
            f"{format_bytes(report.totals.weight_bytes)} of weights."
        )
    page.paragraph(" ".join(part for part in (facts, name(model.notes)) if part))
    if model.hf_revision:
        page.paragraph(f"Revision: {mono(model.hf_revision)}.")


def _text_tokens(described: Mapping[str, object]) -> str:
    return f", {described['text_tokens']} of them text" if "text_tokens" in described else ""


def _stages(page: Page, totals: ReportTotals, eager: bool) -> None:
    page.heading("Stages")
    rows = []
    for stage, found in totals.stages.items():
        time = found.time_s
        bound = found.bound or "-"
        rows.append((stage, *_costs(found.costs), *(amounts.milli(t * 1e3) for t in _times(time)), bound))
    spent = [sum(_times(found.time_s)[place] for found in totals.stages.values()) * 1e3 for place in range(3)]
    rows.append(("**total**", *_costs(totals.costs), *map(amounts.milli, spent), ""))
    columns = ("stage", "matrix GFLOP", "vector GFLOP", "GB moved", "launches", "ms", "low", "high", "bound by")
    page.table(columns, rows)
    page.paragraph(
        "GB moved are ideal: every operator reads its inputs and weights once and writes its results once. "
        + "Low and high are the shortest and the longest plausible time."
        + ("" if eager else " Launches are captured in a graph and cost nothing.")
    )


def _times(interval: Interval) -> tuple[float, float, float]:
    return interval.estimate, interval.low, interval.high


def _costs(costs: ExactCosts) -> tuple[str, str, str, str]:
    return (
        amounts.giga(costs.matrix_flops),
        amounts.giga(costs.vector_flops),
        amounts.giga(costs.bytes_read + costs.bytes_written),
        amounts.whole(costs.launches),
    )


def _heaviest(page: Page, view: ReportView, pages: Mapping[str, str]) -> None:
    whole = view.report.predicted_total_time_ms
    page.heading("Where the time goes")
    own = {module: view.exclusive_ms(module) for module in view.depths if module in view.metrics}
    ranked = largest_first(own)
    rows = [
        (_linked(module, pages), name(_class(view, module)), amounts.milli(own[module]), _of(own[module], whole))
        for module in ranked[:HEAVIEST]
    ]
    rest = ranked[HEAVIEST:]
    if rest:
        others = sum(own[module] for module in rest)
        rows.append((f"{len(rest)} others", "", amounts.milli(others), _of(others, whole)))
    rows.append(("**total**", "", amounts.milli(sum(own.values())), _of(sum(own.values()), whole)))
    page.table(("module, without those below it", "class", "ms", "share"), rows)


def _modules(page: Page, view: ReportView, pages: Mapping[str, str]) -> None:
    page.heading("Modules")
    page.paragraph("Each row is a family of equal modules, with all that is below it, over the whole run.")
    rows = []
    for module, depth in view.depths.items():
        metrics = view.metrics.get(module)
        if metrics is None:
            continue
        rows.append(
            (
                "· " * depth + _linked(module, pages, view),
                _repetition(view, module),
                f"{metrics.calls:,}",
                amounts.milli(metrics.total_time_ms),
                amounts.share(metrics.share_of_model_time),
                f"{metrics.total_flops_tflops * 1e3:,.3f}",
                f"{metrics.total_io_tb * 1e3:,.3f}",
                f"{metrics.memory_weights_gb:,.3f}",
                f"{metrics.memory_activations_gb:,.3f}",
            )
        )
    columns = ("module", "repeats", "calls", "ms", "share", "GFLOP", "GB moved", "GB weights", "GB live at its peak")
    page.table(columns, rows)
    if view.report.stage_metrics:
        _by_stage(page, view, pages)


def _by_stage(page: Page, view: ReportView, pages: Mapping[str, str]) -> None:
    page.heading("Modules by stage", 3)
    page.paragraph("Modules down to the third level, stage by stage; deeper ones are on their own pages.")
    rows = []
    for module, depth in view.depths.items():
        if depth > 2:
            continue
        rows += [
            (
                _linked(module, pages),
                part.stage,
                f"{part.calls:,}",
                amounts.milli(part.total_time_ms),
                amounts.share(part.share_of_stage_time),
                f"{part.total_flops_tflops * 1e3:,.3f}",
                f"{part.total_io_tb * 1e3:,.3f}",
                part.bound or "-",
            )
            for part in view.stages[module]
        ]
    page.table(("module", "stage", "calls", "ms", "share of stage", "GFLOP", "GB moved", "bound by"), rows)


def _parameters(page: Page, view: ReportView, pages: Mapping[str, str]) -> None:
    page.heading("Constructor parameters")
    rows = []
    for module in view.depths:
        given = view.nodes[module].constructor_params
        if given:
            shown = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items())
            rows.append((_linked(module, pages), name(_class(view, module)), mono(shown, MOST_PARAMETERS)))
    page.table(("module", "class", "parameters"), rows)


def _primitives(page: Page, view: ReportView, shapes: Shapes, pages: Mapping[str, str]) -> None:
    page.heading("Shapes of the key primitives")
    rows = [
        (link(name(what), between(SUMMARY, pages[module])) if module in pages else what, part, name(tensors), times)
        for what, module, part, tensors, times in primitives(shapes, view)
    ]
    page.table(("primitive", "part of the run", "tensors", "times"), rows)
    page.paragraph("Times is how often this part of the run takes place; a module of every layer runs once in each.")


def _categories(page: Page, view: ReportView) -> None:
    roots = [module for module, depth in view.depths.items() if depth == 0 and module in view.metrics]
    titles = {category.category_id: category for category in view.report.operator_categories}
    page.heading("Operator categories")
    rows = []
    parts = [part for root in roots for part in view.metrics[root].operator_breakdown]
    for part in parts:
        category = titles.get(part.category_id)
        shown = category.display_name if category else part.category_id
        words = category.description if category else ""
        rows.append(
            (
                name(shown),
                name(words),
                f"{part.calls:,}",
                f"{part.flops_tflops * 1e3:,.3f}",
                f"{part.io_tb * 1e3:,.3f}",
                amounts.share(part.share_of_module_flops),
            )
        )
    calls, flops, moved, shares = (
        sum(getattr(part, field) for part in parts)
        for field in ("calls", "flops_tflops", "io_tb", "share_of_module_flops")
    )
    rows.append(("**total**", "", f"{calls:,}", f"{flops * 1e3:,.3f}", f"{moved * 1e3:,.3f}", amounts.share(shares)))
    page.table(("category", "what is in it", "calls", "GFLOP", "GB moved", "share of FLOPs"), rows)


def _capacity(page: Page, capacity: Capacity, totals: ReportTotals | None) -> None:
    page.heading("Capacity")
    rows = [
        ("time to first token", amounts.seconds(capacity.time_to_first_token_s), _by(capacity.time_to_first_token_s)),
        ("whole run", amounts.seconds(capacity.total_time_s), _by(capacity.total_time_s)),
    ]
    for title, pages in (("pages", capacity.pages_per_s), ("pages by one device", capacity.pages_per_s_and_device)):
        if pages is not None:
            rows.append((title, amounts.rate(pages, "a second"), _by(pages)))
    if capacity.time_per_output_token_s is not None:
        each = capacity.time_per_output_token_s
        rows.insert(1, ("time per output token", amounts.seconds(each), _by(each)))
    if capacity.tokens_per_s is not None:
        rows.append(("tokens", amounts.rate(capacity.tokens_per_s, "a second"), _by(capacity.tokens_per_s)))
    if capacity.price_per_1000_pages_usd is not None:
        price = capacity.price_per_1000_pages_usd
        rows.append(("price of 1,000 pages", amounts.rate(price, "US dollars"), _by(price)))
    if capacity.largest_batch is not None:
        rows.append(("largest batch that fits", f"{capacity.largest_batch:,}", ""))
    page.table(("what", "estimate (low to high)", "bound by"), rows)
    page.heading("Memory", 3)
    memory = memory_parts(capacity, totals)
    page.table(("part", "GB"), [*((title, amounts.giga(size)) for title, size in memory), *_memory_totals(capacity)])
    if totals is not None:
        page.paragraph(
            f"Live tensors are the most that are live at once, in {mono(totals.peak_module)}; the cache, "
            f"{format_bytes(totals.kv_cache_bytes)} at its end, is among them as far as it is filled then."
        )


def memory_parts(capacity: Capacity, totals: ReportTotals | None) -> list[tuple[str, int]]:
    """What the memory of a run is taken by; the parts add up to it."""
    if totals is None:
        return [("weights, live tensors and runtime", capacity.memory_bytes)]
    rest = capacity.memory_bytes - totals.weight_bytes - totals.peak_live_bytes
    return [
        ("weights", totals.weight_bytes),
        ("live tensors at their peak", totals.peak_live_bytes),
        ("runtime", max(0, rest)),
    ]


def _memory_totals(capacity: Capacity) -> list[tuple[str, str]]:
    return [
        ("**total**", amounts.giga(capacity.memory_bytes)),
        ("free", amounts.giga(capacity.headroom_bytes)),
        ("**capacity**", amounts.giga(capacity.memory_capacity_bytes)),
    ]


def _by(interval: Interval) -> str:
    return interval.bound_by or ""


def _assumptions(page: Page, view: ReportView) -> None:
    report = view.report
    page.heading("Assumptions and notes")
    items = sentences(report.notes)
    if items:
        page.bullets([name(item, 1000) for item in items])
    tool = view.part("tool")
    made = f" It was made by {name(str(tool.get('name')))} {name(str(tool.get('version')))}." if tool else ""
    run = f" Profile run: {mono(report.profile_run_id)}." if report.profile_run_id else ""
    page.paragraph(
        f"Report {mono(report.report_id)}: the same model, workload and device give the same id.{made}{run} "
        "Every time is an estimate between a shortest and a longest one."
    )


def sentences(notes: str) -> list[str]:
    """The assumptions that a report's notes put one after the other."""
    found: list[str] = []
    for part in notes.split(". "):
        found.append(part if part.endswith(".") or not part else f"{part}.")
    return [part for part in found if part]


def _linked(module: str, pages: Mapping[str, str], view: ReportView | None = None) -> str:
    shown = view.nodes[module].name if view is not None else module
    return link(mono(shown or module, 100), between(SUMMARY, pages[module]))


def _class(view: ReportView, module: str) -> str:
    return view.nodes[module].qualified_class_name.rpartition(".")[2]


def _repetition(view: ReportView, module: str) -> str:
    node = view.nodes[module]
    return f"{node.repetition} {node.repetition_count}" if node.repetition_count is not None else ""


def _of(part: float, whole: float) -> str:
    return amounts.share(part / whole) if whole else "-"

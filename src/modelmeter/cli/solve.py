"""The answers of ``modelmeter what-if --solve``."""

from __future__ import annotations

import json
from pathlib import Path

from modelmeter.cli.console import printing, write_text
from modelmeter.errors import UsageError
from modelmeter.planning.solving import Limits, best_batch, offers
from modelmeter.planning.traced import TracedQuestion
from modelmeter.planning.what_if import Question

MILLI = 1e-3


def print_solution(
    question: Question | TracedQuestion,
    solve: str,
    ttft_ms: float | None,
    tpot_ms: float | None,
    device_file: tuple[Path, ...],
    *,
    as_json: bool,
) -> None:
    """Work out an inverse question and print its answer."""
    for option, limit in (("--ttft-ms", ttft_ms), ("--tpot-ms", tpot_ms)):
        if limit is not None and not 0 < limit < float("inf"):
            raise UsageError(f"{option} is {limit}", remedy="give milliseconds above 0")
    if isinstance(question, TracedQuestion):
        raise UsageError(
            "--solve looks for a batch, and the report comes from a trace of one", remedy="trace other batches"
        )
    limits = Limits(
        None if ttft_ms is None else ttft_ms * MILLI,
        None if tpot_ms is None else tpot_ms * MILLI,
    )
    if solve == "batch":
        batch = best_batch(question, limits)
        _print({"batch": batch, "device": question.device.id}, _batch_line(question, batch), as_json)
        return
    from modelmeter.cost.catalogue import load_catalogue

    found = offers(question, limits, load_catalogue(device_file).values())
    entries = [
        {
            "batch": offer.batch,
            "device": offer.device.id,
            "price_per_1000_pages_usd": offer.price_per_1000_pages_usd,
        }
        for offer in found
    ]
    lines = [
        f"{offer.device.id:<18} batch {offer.batch:>5,}   ${offer.price_per_1000_pages_usd:,.4f} per 1,000 pages"
        for offer in found
    ] or ["No device with a known price meets the limits."]
    _print({"devices": entries}, "\n".join(lines), as_json)


def _batch_line(question: Question, batch: int) -> str:
    if not batch:
        return f"Not even one request fits {question.device.id} and meets the limits."
    return f"Largest batch on {question.device.id}: {batch:,}"


def _print(answer: dict[str, object], text: str, as_json: bool) -> None:
    with printing():
        if as_json:
            write_text(json.dumps(answer, indent=1, sort_keys=True) + "\n")
        else:
            print(text)

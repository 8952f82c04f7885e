"""Documents of a report: complete, linked, escaped, well-formed, the same every time, and adding up."""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from attrs import evolve
from markdown_it import MarkdownIt

from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.cost.catalogue import find_device
from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.planning.report import build_report
from modelmeter.render.report import report_documents
from modelmeter.render.report.places import between, page_names
from modelmeter.schema.scenario import Page, Scenario
from small import SMALL_SIZES, small_config

GOLDEN = Path(__file__).parent / "golden" / "report_summary.md"


def pages(*grids: tuple[int, int]) -> tuple[Page, ...]:
    return tuple(Page(grid=grid) for grid in grids)


def report(small: bool = False, **keys: Any) -> AnalyticModelReport:
    scenario = Scenario(**{"pages": pages((2, 1)), "decode_steps": 255, **(SMALL_SIZES if small else {}), **keys})
    config = small_config() if small else FAMILY.default_configuration()
    return build_report(FAMILY, config, scenario, find_device(scenario.device))


USUAL = report()
REPORTS = {
    "usual": USUAL,
    "one view": report(pages=pages((1, 1)), decode_steps=0),
    "batch, pages, graph": report(batch=4, pages=pages((3, 2), (1, 1)), execution="graph", device="a100-80g"),
    "small": report(True),
    "small, eager attention, float32": report(True, attention="eager", dtype="float32", batch=2, device="l4"),
    "without extras": evolve(USUAL, scenario=None, stage_metrics=None, totals=None, capacity=None, expressions=None),
}
DOCUMENTS = {name: report_documents(found) for name, found in REPORTS.items()}
every = pytest.mark.parametrize("name", REPORTS)


def tables(text: str) -> list[list[list[str]]]:
    """Every table of a page as rows of cells, headings first."""
    found: list[list[list[str]]] = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in block.strip().split("\n")]
        found.append([rows[0], *rows[2:]])
    return found


def number(cell: str) -> float | None:
    cell = cell.replace(",", "").removesuffix("%")
    return float(cell) if re.fullmatch(r"-?[0-9.]+", cell) else None


@every
def test_there_is_a_page_a_module_and_every_link_leads_somewhere(name: str) -> None:
    documents = DOCUMENTS[name]
    layers = [path for path in documents if path.startswith("layers/")]
    assert len(layers) == len(REPORTS[name].modules)
    linked = set()
    for path, text in documents.items():
        if path.endswith(".md"):
            for target in re.findall(r"\]\(([^)]+)\)", text):
                resolved = posixpath.normpath(posixpath.join(posixpath.dirname(path), unquote(target)))
                assert resolved in documents, f"{path}: {target}"
                linked.add(resolved)
    assert linked == set(documents), set(documents) - linked


@every
def test_the_same_report_gives_the_same_text(name: str) -> None:
    assert report_documents(REPORTS[name]) == DOCUMENTS[name]


@every
def test_totals_are_the_sums_of_their_rows(name: str) -> None:
    checked = 0
    for path, text in DOCUMENTS[name].items():
        for head, *rows in tables(text) if path.endswith(".md") else ():
            names = [row[0] for row in rows]
            if "**total**" not in names:
                continue
            place = names.index("**total**")
            for column, title in enumerate(head):
                # Rates and shares of different wholes do not add up; nor do the calls of a node that only contains.
                if title in ("FLOPs a byte", "calls") or (title == "share" and path != "summary.md"):
                    continue
                total, parts = number(rows[place][column]), [number(row[column]) for row in rows[:place]]
                known = [part for part in parts if part is not None]
                if total is None or not column or not known:
                    continue
                digits = len(rows[place][column].removesuffix("%").partition(".")[2])
                slack = 0.51 * 10**-digits * (len(known) + 1) if digits else 0
                assert sum(known) == pytest.approx(total, abs=slack + 1e-9), f"{path}: {title}"
                checked += 1
    assert checked > (50 if "GB moved" in DOCUMENTS[name]["summary.md"] else 0)


@every
def test_pictures_are_well_formed(name: str) -> None:
    pictures = {path: text for path, text in DOCUMENTS[name].items() if path.endswith(".svg")}
    assert set(pictures) == (
        {"figures/time.svg"}
        if name == "without extras"
        else {f"figures/{f}.svg" for f in ("roofline", "time", "memory")}
    )
    for path, text in pictures.items():
        root = ElementTree.fromstring(text)
        width, height = (float(root.attrib[side]) for side in ("width", "height"))
        for element in root.iter():
            for key, most in (("x", width), ("cx", width), ("y", height), ("cy", height)):
                assert 0 <= float(element.attrib.get(key, 0)) <= most, f"{path}: {element.attrib}"
            assert float(element.attrib.get("width", 1)) >= 0


@every
def test_pages_are_markdown_with_tables_of_one_width(name: str) -> None:
    for path, text in DOCUMENTS[name].items():
        if not path.endswith(".md"):
            continue
        assert text.startswith("# ") and text.endswith("\n") and "\n\n\n" not in text
        assert not re.search(r"[ \t]\n|\bNone\b|\bnan\b|\binf\b", text), path
        tokens = MarkdownIt("commonmark").enable("table").parse(text)
        assert sum(token.type == "table_open" for token in tokens) == len(tables(text)), path
        assert all(len(row) == len(table[0]) for table in tables(text) for row in table), path


def test_every_family_of_modules_is_a_point_of_the_roofline() -> None:
    tips = re.findall(r"<title>([^<]+)</title>", DOCUMENTS["usual"]["figures/roofline.svg"])
    shown = {(name, stage) for name, stage in re.findall(r"^(.+), (\w+): ", "\n".join(tips), re.MULTILINE)}
    assert USUAL.stage_metrics is not None
    assert shown == {(part.module_id, part.stage) for part in USUAL.stage_metrics if part.total_flops_tflops}


def test_summary_says_what_a_colleague_asks() -> None:
    text = DOCUMENTS["usual"]["summary.md"]
    for words in (
        "2.27 s",
        "493 positions",
        "q, k, v &#91;25, 12, 196, 64&#93;",
        "q, k, v &#91;1, 12, 4096, 64&#93;",
        "&#91;1, 64, 64, 768&#93; → &#91;1, 64, 64, 3072&#93;",
        "q, k, v &#91;1, 16, 257, 64&#93;",
        "q &#91;1, 10, 493, 128&#93;",
        "up to 748",
        "493 tokens × 6 of 64 experts",
        "`in_features=1280, out_features=6848`",
        "largest batch that fits",
        "2,799.777",
    ):
        assert words in text, words


def test_every_module_page_says_why() -> None:
    for path, text in DOCUMENTS["usual"].items():
        if path.startswith("layers/"):
            for heading in ("Class and configuration", "Formula", "Metrics", "Why", "Assumptions"):
                assert f"\n## {heading}\n" in text, path
    graph = DOCUMENTS["batch, pages, graph"]["layers/lm_head.md"]
    assert "moves bytes" in graph and "launches takes the host" not in graph
    assert "time shared out by launches" in DOCUMENTS["usual"]["layers/lm_head.md"]


BAD = "a|b`<script>](x)*_[&#]$\u202e\x07\ud800\n"


def test_names_from_a_model_are_escaped() -> None:
    first, *rest = USUAL.modules
    renamed = evolve(first, name=BAD, qualified_class_name=f"m.{BAD}", constructor_params={BAD: BAD})
    odd = evolve(
        USUAL,
        modules=(renamed, *rest),
        notes=f"{BAD}. Second.",
        model=evolve(USUAL.model, model_id=BAD, notes=BAD),
        workload=evolve(USUAL.workload, profile_id=BAD, description=BAD),
    )
    documents = report_documents(odd)
    page = MarkdownIt("commonmark", {"html": True}).enable("table")
    for path, text in documents.items():
        text.encode()
        assert "\x07" not in text and "\u202e" not in text
        if path.endswith(".svg"):
            ElementTree.fromstring(text)
            continue
        kinds = {child.type for token in page.parse(text) for child in (token, *(token.children or ()))}
        assert not kinds & {"html_inline", "html_block"}, path
        assert all(len(row) == len(table[0]) for table in tables(text.replace(r"\|", "")) for row in table), path


def test_file_names_are_safe_and_apart() -> None:
    names = page_names(["a.[0-3]", "a.{0-3}", "A.[0-3]", "../../etc", "..", "", "é", "x" * 300, "x" * 301, "con/aux"])
    assert len({name.casefold() for name in names.values()}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.md", name) and ".." not in name for name in names.values())
    assert page_names(["layers.[0-11].self_attn"]) == {"layers.[0-11].self_attn": "layers.0-11.self_attn.md"}
    assert between("layers/a.md", "summary.md") == "../summary.md"


def test_pages_go_where_the_report_says() -> None:
    documents = report_documents(evolve(USUAL, layer_docs_dir="my docs/of (layers)/"))
    assert "my docs/of (layers)/lm_head.md" in documents
    assert "](my%20docs/of%20%28layers%29/lm_head.md)" in documents["summary.md"]
    assert "](../../summary.md)" in documents["my docs/of (layers)/lm_head.md"]


def test_the_summary_is_the_kept_one() -> None:
    text = DOCUMENTS["usual"]["summary.md"]
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_documents_are_written_at_once() -> None:
    spent = []
    for _ in range(4):
        begun = time.process_time()
        report_documents(USUAL)
        spent.append(time.process_time() - begun)
    assert min(spent) < 0.4


def test_neither_torch_nor_sympy_is_loaded() -> None:
    program = (
        "import sys; from modelmeter.render.report import report_documents; "
        "import modelmeter.render.report.formulas as f; f.layers(); "
        "assert not {'torch', 'sympy', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

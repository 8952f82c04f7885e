"""The example page works a report's expressions out in a browser, as Python does."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from attrs import evolve

from modelmeter.contracts import report_json
from modelmeter.cost.catalogue import find_device
from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.planning.expressions import evaluate_graph
from modelmeter.planning.report import build_report
from modelmeter.schema.scenario import Page, Scenario

EXAMPLES = Path(__file__).parents[1] / "examples"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

PAGE = """<!doctype html><meta charset="utf-8"><pre></pre><script src="report_expressions.js"></script><script>
const report = {report}; const asked = {asked};
const answers = asked.map((keys) => evaluate(report.expressions, {{...report.expressions.keys, ...keys}}));
document.querySelector("pre").textContent = JSON.stringify(answers);
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
def test_a_browser_gives_what_python_gives(tmp_path: Path):
    assert CHROMIUM is not None
    scenario = Scenario(pages=(Page(1240, 1754),), decode_steps=100)
    report = build_report(FAMILY, FAMILY.default_configuration(), scenario, find_device("h100-sxm"))
    others = [
        evolve(scenario, batch=8, decode_steps=511),
        evolve(scenario, pages=(Page(3000, 900),), text_tokens=200, execution="graph"),
        evolve(scenario, pages=(Page(300, 400),), device="a100-40g"),
    ]
    fresh = [
        build_report(FAMILY, FAMILY.default_configuration(), other, find_device(other.device)).expressions
        for other in others
    ]
    asked = [expressions["keys"] for expressions in fresh if expressions]
    shutil.copy(EXAMPLES / "report_expressions.js", tmp_path)
    page = tmp_path / "page.html"
    page.write_text(PAGE.format(report=report_json(report), asked=json.dumps(asked)), encoding="utf-8")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
    done = subprocess.run(
        [CHROMIUM, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    text = done.stdout.partition("<pre>")[2].partition("</pre>")[0]
    for answer, expressions in zip(json.loads(text), fresh, strict=True):
        assert expressions
        expected = evaluate_graph(expressions, expressions["keys"])
        for name, number in expected.items():
            assert (
                answer[name] == pytest.approx(number, rel=1e-12, abs=0)
                if isinstance(number, float)
                else answer[name] == number
            )

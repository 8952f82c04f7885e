"""The zoo's command: rows that survive an interruption, failures that are excused only with proof, and the table."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from modelmeter.errors import DocumentError
from modelmeter.tracing.hugging_face.configuration import read_hugging_face
from modelmeter.tracing.zoo import Entry, trace_entry, zoo_names, zoo_table
from modelmeter.tracing.zoo.__main__ import main
from modelmeter.tracing.zoo.entry import reason
from modelmeter.tracing.zoo.excuses import FAILS_TOO, MISSING_PACKAGE, excuse_for, excuses
from modelmeter.tracing.zoo.pool import Failed, run_each
from modelmeter.tracing.zoo.settings import Setting, settings
from modelmeter.tracing.zoo.shrink import FEW_EXPERTS, FEW_LAYERS, shrunken
from modelmeter.tracing.zoo.store import read_rows, write_rows
from modelmeter.tracing.zoo.table import BEGIN, summary, with_table

ROWS = {
    "bert": Entry("bert", "BertModel", 110_000_000, 22_000_000_000, 482, 0.5, "bfloat16", "input_ids 1×128", 101),
    "ab": Entry("ab", "AbModel", uncalled={"head": "this forward does not use it"}, owners=2, settings={"a": 1}),
    "no": Entry("no", "NoModel", failure="it raised | so", excuse=f"{MISSING_PACKAGE} timm"),
    "un": Entry("un", "UnModel", failure="it raised"),
}


def test_rows_are_kept(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.json", ROWS)
    assert read_rows(tmp_path / "rows.json") == ROWS
    first = (tmp_path / "rows.json").read_bytes()
    write_rows(tmp_path / "rows.json", dict(reversed(ROWS.items())))
    assert (tmp_path / "rows.json").read_bytes() == first
    (tmp_path / "rows.json").write_text(first.decode().replace("transformers", "other"))
    with pytest.raises(DocumentError, match="was written with other"):
        read_rows(tmp_path / "rows.json")
    (tmp_path / "rows.json").write_text("[]")
    with pytest.raises(DocumentError, match="holds no rows"):
        read_rows(tmp_path / "rows.json")


def test_the_table_says_what_was_found() -> None:
    assert summary(ROWS) == (
        "4 names tried: 2 traced of 3 that can run here (66.7%); 1 need a package that is not installed, "
        "0 fail for real in the same way, 1 fail without an excuse, for the reasons below."
    )
    text = zoo_table(ROWS)
    assert "| bert | BertModel | 110 M | 22.0 GFLOP | 482 | 0.5 | bfloat16 | input_ids 1×128 |" in text
    assert "| no | NoModel | it raised ∣ so | needs the package timm |" in text
    assert "| ab | 1 of 2 | 1: this forward does not use it (head) |" in text
    assert with_table(f"# Zoo\n\n{BEGIN}\nold", ROWS) == f"# Zoo\n\n{BEGIN}\n\n{text}"
    assert with_table("# Zoo\n", {}).startswith(f"# Zoo\n\n{BEGIN}\n\n0 names tried")


def slow_or_fatal(name: str) -> str:
    if name == "slow":
        time.sleep(60)
    if name == "fatal":
        os._exit(7)
    return name.upper()


def test_each_name_has_a_process_and_a_limit_of_its_own() -> None:
    found: dict[str, Any] = dict(run_each(slow_or_fatal, ["a", "slow", "fatal", "b"], processes=4, limit_s=20.0))
    assert found["a"], found["b"] == ("A", "B")
    assert found["slow"] == Failed("took longer than 20 s")
    assert found["fatal"] == Failed("the process ended with 7")


def test_a_run_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {name: Entry(name, "Model") for name in zoo_names() if name != "albert"}
    write_rows(tmp_path / "rows.json", rows)
    (tmp_path / "zoo.md").write_text("# Zoo\n")
    main(["--data", str(tmp_path / "rows.json"), "--table", str(tmp_path / "zoo.md"), "--processes", "1"])
    done = read_rows(tmp_path / "rows.json")
    assert done["albert"].class_name == "AlbertModel" and done["albert"].matrix_flops > 0
    assert {name: entry for name, entry in done.items() if name != "albert"} == rows
    assert "| albert | AlbertModel |" in (tmp_path / "zoo.md").read_text()
    assert len(zoo_names()) > 300
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main(["alberta", "--data", str(tmp_path / "rows.json")])
    assert left.value.code == 2
    assert "did you mean 'albert'?" in capsys.readouterr().err


def test_a_missing_package_is_an_excuse() -> None:
    pytest.importorskip("transformers")
    entry = trace_entry("timm_wrapper")
    assert entry.failure.startswith("timm_wrapper could not be built: ImportError")
    assert entry.excuse == f"{MISSING_PACKAGE} timm"


def test_a_failure_is_excused_only_if_it_is_the_same_for_real() -> None:
    no_heads = Setting(set={"num_attention_heads": 5, "hidden_size": 64, "intermediate_size": 64})
    assert excuse_for("bert", "float32", no_heads).startswith(f"{FAILS_TOO}: ValueError: The hidden size (64)")
    assert excuse_for("bert", "float32", Setting(set={"hidden_size": 60, "intermediate_size": 64})) == ""
    # What is ours alone is no excuse: such an input cannot even be made.
    assert excuse_for("bert", "float32", Setting(inputs={"pixel_values": {"shape": [1]}})) == ""


def test_another_error_of_the_shrunken_model_is_no_excuse() -> None:
    failure = "its sounds raised RuntimeError: a and b must have the same dim, but got 672 and 3"
    assert excuses(f"{FAILS_TOO}: RuntimeError: a and b must have the same dim, but got 64 and 3", failure)
    assert not excuses(f"{FAILS_TOO}: ModuleNotFoundError: No module named 'scipy'", failure)
    assert excuses(f"{FAILS_TOO}: TracingError: it returns nothing", "it returns nothing")
    assert not excuses("", failure)


def test_settings_are_of_keys_that_exist() -> None:
    for name, setting in settings().items():
        assert name in zoo_names()
        assert setting.reason and (setting.set or setting.inputs)
        read_hugging_face({"model_type": name}, name, setting.set)


def test_shrunken_configurations_have_few_layers_and_experts() -> None:
    found = shrunken("qwen3_moe", {"vocab_size": 100})
    assert found == {"num_hidden_layers": FEW_LAYERS, "num_local_experts": FEW_EXPERTS, "vocab_size": 100}
    parts = shrunken("llava", {})
    assert parts["text_config.num_hidden_layers"] == parts["vision_config.num_hidden_layers"] == FEW_LAYERS


def test_a_reason_names_no_folder_of_a_machine() -> None:
    error = ValueError("no class in <module 'a.b' from '/somewhere/lib/python3.11/site-packages/a/b.py'>")
    assert reason(error) == "ValueError: no class in <module 'a.b' from 'a/b.py'>"

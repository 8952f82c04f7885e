"""The document's codec and files: what is written is read back, what is wrong is refused by its place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from attrs import fields
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelmeter.errors import DocumentError, OutputError
from modelmeter.schema import (
    ArgumentType,
    Assumption,
    CallGraph,
    Cost,
    Event,
    Forward,
    ModuleCost,
    OperatorCost,
    ParameterInfo,
    Signature,
    TensorSignature,
)
from modelmeter.schema.codec import dump_json, structure_document
from modelmeter.schema.files import check_writable, write_file, write_files

STRUCTURE: dict[str, Any] = {
    "call_counts": {"Root": 1, "a": 2},
    "edges": {"Root->a": 2},
    "op_call_counts": {"a": 5},
    "module_children": {"Root": ["a"]},
    "module_types": {"Root": "Root", "a": "Linear"},
}

# -- round trips ---------------------------------------------------------------------------------------

# Surrogates are no text: nothing that is encoded as UTF-8 has them.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
COUNT = st.integers(0, 2**70)
COUNTS = st.dictionaries(TEXT, COUNT, max_size=3)
EDGES = st.dictionaries(st.builds(lambda a, b: f"{a}->{b}", TEXT, TEXT), COUNT, max_size=3)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
PLAIN_DICT = st.dictionaries(TEXT, PLAIN, max_size=3)
TENSOR = st.builds(
    TensorSignature,
    shape=st.lists(COUNT, max_size=4).map(tuple),
    dtype=TEXT,
    argument=TEXT,
    device=st.none() | TEXT,
    requires_grad=st.none() | st.booleans(),
)
SIGNATURE = st.builds(
    Signature,
    tensors=st.lists(TENSOR, max_size=2),
    non_tensor=st.lists(st.builds(ArgumentType, TEXT, TEXT), max_size=2),
    calls=COUNT,
)
SIGNATURES = st.dictionaries(TEXT, st.lists(SIGNATURE, max_size=2), max_size=2)
COST = st.builds(
    Cost, matrix_flops=COUNT, matrix_flops_by_dtype=COUNTS, vector_flops=COUNT, peak_bytes=st.none() | COUNT
)
COSTS = st.dictionaries(TEXT, st.builds(ModuleCost, own=COST, total=COST), max_size=2)
DOCUMENTS = st.builds(
    CallGraph,
    call_counts=COUNTS,
    edges=EDGES,
    op_call_counts=COUNTS,
    module_children=st.dictionaries(TEXT, st.lists(TEXT, max_size=2), max_size=2),
    module_types=st.dictionaries(TEXT, TEXT, max_size=2),
    model=PLAIN_DICT,
    scenario=PLAIN_DICT,
    times=PLAIN_DICT,
    runtime_events=st.lists(PLAIN_DICT, max_size=2),
    constructor_params=st.dictionaries(TEXT, PLAIN_DICT, max_size=2),
    assumptions=st.lists(
        st.builds(Assumption, TEXT, TEXT, TEXT, st.lists(COUNT, max_size=3).map(tuple), TEXT, COUNT), max_size=2
    ),
    parameters=st.dictionaries(
        TEXT,
        st.builds(
            ParameterInfo,
            COUNT,
            COUNT,
            st.lists(TEXT, max_size=2).map(tuple),
            st.dictionaries(TEXT, TEXT, max_size=2),
        ),
        max_size=2,
    ),
    input_metadata=SIGNATURES,
    output_metadata=SIGNATURES,
    events=st.lists(st.builds(Event, st.sampled_from(["enter", "exit"]), TEXT, st.none() | TEXT, COUNT), max_size=2),
    data_edges=EDGES,
    costs=COSTS,
    operators=st.dictionaries(TEXT, st.dictionaries(TEXT, st.builds(OperatorCost, COUNT), max_size=2), max_size=2),
    kv_cache=st.dictionaries(TEXT, st.lists(COUNT, max_size=2), max_size=2),
    stages=st.dictionaries(TEXT, COST, max_size=2),
    forwards=st.lists(
        st.builds(Forward, TEXT, call_counts=COUNTS, edges=EDGES, input_metadata=SIGNATURES, costs=COSTS), max_size=2
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(DOCUMENTS)
def test_documents_round_trip(document: CallGraph) -> None:
    text = dump_json(document)
    read = structure_document(json.loads(text), CallGraph, "it")
    assert read == document
    assert dump_json(read) == text


def test_the_order_of_insertion_does_not_show() -> None:
    one = CallGraph(call_counts={"a": 1, "b": 2}, stages={"vision": Cost(), "decode": Cost()})
    other = CallGraph(call_counts={"b": 2, "a": 1}, stages={"decode": Cost(), "vision": Cost()})
    assert one.to_json() == other.to_json()


def test_values_that_json_does_not_have_become_text() -> None:
    graph = CallGraph(model={"limit": [0.0, float("inf")], "nan": float("nan"), "low": -float("inf")})
    text = graph.to_json()
    assert json.loads(text, parse_constant=pytest.fail)["model"] == {"limit": [0.0, "inf"], "nan": "nan", "low": "-inf"}


def test_one_line_per_key() -> None:
    lines = CallGraph().to_json().splitlines()
    assert lines[0] == "{" and lines[-1] == "}"
    always = [a.name for a in fields(CallGraph) if a.default is not None]
    assert [line.split('"')[1] for line in lines[1:-1]] == sorted(always)


def test_ten_megabytes_are_written_and_read_in_seconds() -> None:
    signature = Signature([TensorSignature((1, 913, 1280), "torch.bfloat16", "hidden_states")], calls=1)
    names = [f"layers.{i // 100}.mlp.experts.{i % 100}.gate_proj" for i in range(20_000)]
    graph = CallGraph(
        call_counts=dict.fromkeys(names, 1),
        input_metadata={name: [signature] for name in names},
        output_metadata={name: [signature] for name in names},
        costs={name: ModuleCost() for name in names},
    )
    begin = time.perf_counter()
    text = graph.to_json()
    written = time.perf_counter()
    assert len(text) > 10_000_000
    structure_document(json.loads(text), CallGraph, "it")
    assert written - begin < 10
    assert time.perf_counter() - written < 20


# -- reading -------------------------------------------------------------------------------------------


def test_old_documents_load(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(STRUCTURE))
    graph = CallGraph.load(path)
    assert graph.call_counts == {"Root": 1, "a": 2}
    assert graph.root == "Root"
    assert graph.schema_version == 1
    empty = CallGraph(**STRUCTURE)
    assert graph == empty
    assert not any((graph.costs, graph.forwards, graph.events, graph.parameters, graph.stages, graph.operators))
    assert graph.total == Cost() and graph.parameter_count == 0 and not graph.is_lower_bound
    assert "Root: 2 modules ran 3 times" in repr(graph)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"foo": 1}, "extra fields found (foo) @ $"),
        ({"call_counts": {"a": "8"}}, "expected int, got str '8' @ $.call_counts['a']"),
        ({"call_counts": {"a": True}}, "expected int, got bool True @ $.call_counts['a']"),
        ({"call_counts": {"a": 1.0}}, "expected int, got float 1.0 @ $.call_counts['a']"),
        ({"call_counts": {"a": None}}, "expected int, got NoneType None @ $.call_counts['a']"),
        ({"call_counts": [1]}, "expected a mapping @ $.call_counts"),
        ({"call_counts": None}, "expected a mapping @ $.call_counts"),
        ({"edges": {"a": 1}}, "edges has the key 'a', expected 'caller->callee'"),
        ({"data_edges": {"a=>b": 1}}, "data_edges has the key 'a=>b'"),
        ({"module_children": {"a": "bc"}}, "expected a list, got str 'bc' @ $.module_children['a']"),
        ({"module_types": {"a": 3}}, "expected str, got int 3 @ $.module_types['a']"),
        ({"costs": {"a": {"own": {"x": 1}}}}, "extra fields found (x) @ $.costs['a'].own"),
        ({"costs": {"a": []}}, "expected an object, got list [] @ $.costs['a']"),
        ({"stages": {"vision": None}}, "expected an object, got NoneType None @ $.stages['vision']"),
        ({"parameters": {"a": {"dtypes": "ab"}}}, "expected a list, got str 'ab' @ $.parameters['a'].dtypes"),
        ({"events": [{"event": "enter", "name": "a", "index": 0}]}, "required field missing @ $.events[0].parent"),
        (
            {"forwards": [{"name": "p"}, {"name": "q", "call_counts": {"a": "x"}}]},
            "expected int, got str 'x' @ $.forwards[1].call_counts['a']",
        ),
        (
            {"input_metadata": {"a": [{"tensors": [{"shape": [1.5], "dtype": "f", "argument": "x"}]}]}},
            "expected int, got float 1.5 @ $.input_metadata['a'][0].tensors[0].shape[0]",
        ),
        ({"schema_version": 2}, "has schema version 2, this ModelMeter reads version 1"),
        ({"schema_version": "1"}, "has schema version '1', this ModelMeter reads version 1"),
        ({"schema_version": True}, "expected int, got bool True @ $.schema_version"),
        ({"model": 3}, "expected a mapping @ $.model"),
        ({"call_counts": dict.fromkeys("abcdef", "x")}, "; and 3 more"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "graph.json"
    path.write_text(json.dumps({**STRUCTURE, **change}))
    with pytest.raises(DocumentError) as caught:
        CallGraph.load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", STRUCTURE)
def test_the_structure_must_be_there(tmp_path: Path, key: str) -> None:
    path = tmp_path / "graph.json"
    path.write_text(json.dumps({k: v for k, v in STRUCTURE.items() if k != key}))
    with pytest.raises(DocumentError, match=f"it lacks {key}"):
        CallGraph.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no complete JSON document"),
        ('{"call_counts": {"a": 1', "no complete JSON document"),
        (json.dumps(STRUCTURE)[:-5], "no complete JSON document"),
        ("[" * 100_000, "no complete JSON document"),
        ('{"call_counts": {"a": NaN}}', "NaN is no JSON number"),
        ('{"model": {"a": -Infinity}}', "-Infinity is no JSON number"),
        ("[1, 2]", "holds a list, not an object"),
        ("3", "holds a int, not an object"),
        ("null", "holds a NoneType, not an object"),
    ],
)
def test_what_is_no_document(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "graph.json"
    path.write_text(text)
    with pytest.raises(DocumentError) as caught:
        CallGraph.load(path)
    assert message in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="No such file or directory; give the path of a file that exists"):
        CallGraph.load(tmp_path / "missing.json")
    with pytest.raises(DocumentError, match="Is a directory"):
        CallGraph.load(tmp_path)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\x89PNG\xff")
    with pytest.raises(DocumentError, match="is no text file"):
        CallGraph.load(binary)
    with pytest.raises(DocumentError, match="embedded null byte"):
        CallGraph.load("a\0b")


def test_repr_says_what_ran() -> None:
    graph = CallGraph(
        **STRUCTURE,
        forwards=[Forward("prefill"), Forward("decode 1")],
        parameters={"a": ParameterInfo(1500)},
        stages={"prefill": Cost(matrix_flops=2_000_000)},
        costs={"Root": ModuleCost(total=Cost(peak_bytes=3000))},
        unknown_operators={"aten.foo": 1},
    )
    assert repr(graph) == (
        "<CallGraph Root: [prefill, decode 1], 2 modules ran 3 times, 1.50 K parameters, >=2.00 MFLOP, peak 3.00 KB>"
    )


# -- files ---------------------------------------------------------------------------------------------


def test_saving_refuses_what_exists(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "graph.json"
    graph = CallGraph(**STRUCTURE)
    assert graph.save(path) == path
    assert CallGraph.load(path) == graph
    with pytest.raises(OutputError, match="exists; overwrite it with --force"):
        CallGraph().save(path)
    assert CallGraph.load(path) == graph
    CallGraph().save(path, force=True)
    assert CallGraph.load(path) == CallGraph()
    assert os.listdir(path.parent) == ["graph.json"]


def test_checking_changes_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b", ["x"], force=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/modelmeter", "/dev/null/x", "nul\0"])
def test_folders_that_cannot_be(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        check_writable(tmp_path / place, ["x"], force=True)
    with pytest.raises(OutputError):
        write_file(tmp_path / place / "x", "content", force=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_where_the_file_would_be(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        write_file(tmp_path / "x", "content", force=True)


def test_files_that_belong_together_are_written_together(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    # The second text cannot be encoded: the first must not have been put in place.
    with pytest.raises(OutputError, match="surrogates not allowed"):
        write_files({tmp_path / "a": "new", tmp_path / "b": "\ud800"}, force=True)
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == {"a": "old"}
    write_files({tmp_path / "a": "new", tmp_path / "b": "more"}, force=True)
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == {"a": "new", "b": "more"}


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "x", "content")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    code = (
        "import sys; from pathlib import Path; from modelmeter.schema.files import write_file\n"
        "import os; real = os.fsync\n"
        "def fsync(d):\n    print('syncing', flush=True); import time; time.sleep(30); real(d)\n"
        "os.fsync = fsync\n"
        f"write_file(Path({str(path)!r}), 'new', force=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None and process.stdout.readline() == b"syncing\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) != 0
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == {"x": "old"}

"""A part of a sweep as rows of a file: CSV text, or a Parquet table; and the parts put together.

Numbers in CSV are written so that reading them back gives the same number. Parquet has 64-bit integers, or
decimals of 38 digits in a column of which one number needs more.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelmeter.cost.arrays import Array
from modelmeter.errors import OutputError, require_extra
from modelmeter.planning.sweep_columns import FLAG, INTEGER, NUMBER, TEXT, Cells

if TYPE_CHECKING:
    import pyarrow as pa

CSV, PARQUET = ".csv", ".parquet"
FORMATS = (CSV, PARQUET)

_DIGITS = 38
_WORDS = ("false", "true")


def check_format(suffix: str) -> None:
    """Raise MissingDependencyError where a format needs a package that is not there."""
    if suffix == PARQUET:
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise require_extra("plan", "pyarrow") from None


def encode(columns: Mapping[str, Cells], shape: tuple[int, ...], suffix: str) -> bytes:
    """The rows of a part, in C order of the axes; CSV without its header."""
    if suffix == CSV:
        texts = [_texts(cells, shape) for cells in columns.values()]
        return "".join([",".join(row) + "\n" for row in zip(*texts, strict=True)]).encode()
    return _parquet(columns, shape)


def assemble(parts: Iterable[Path], names: Sequence[str], target: Path) -> None:
    """Put the files of all parts together. Raises OutputError for integers that no Parquet column can have."""
    if target.suffix == CSV:
        with target.open("wb") as stream:
            stream.write((",".join(map(_quoted, names)) + "\n").encode())
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, stream, 1 << 20)
        return
    _assemble_parquet(list(parts), target)


def cell(cells: Cells, shape: tuple[int, ...], place: int) -> Any:
    """One cell as plain data; None where it is empty."""
    index = np.unravel_index(place, shape)
    if np.broadcast_to(cells.empty, shape)[index]:
        return None
    value = np.broadcast_to(cells.values, shape)[index]
    if cells.kind == TEXT:
        return cells.labels[int(value)]
    return {INTEGER: int, NUMBER: float, FLAG: bool}[cells.kind](value)


def compact(array: Array) -> Array:
    """A broadcast array with length 1 where nothing changes."""
    return array[tuple(slice(0, 1) if step == 0 else slice(None) for step in array.strides)]


def _texts(cells: Cells, shape: tuple[int, ...]) -> list[str]:
    """A column as text; what repeats along an axis is written once."""
    values, empty = np.broadcast_arrays(compact(cells.values), compact(cells.empty))
    if cells.kind in (INTEGER, NUMBER):
        found = np.empty(values.size, object)
        found[:] = list(map(str if cells.kind == INTEGER else repr, values.ravel().tolist()))
    else:
        words = _WORDS if cells.kind == FLAG else [_quoted(label) for label in cells.labels]
        found = np.array(words, object)[values.ravel().astype(int)]
    found[empty.ravel()] = ""
    listed: list[str] = np.broadcast_to(found.reshape(values.shape), shape).ravel().tolist()
    return listed


def _quoted(text: str) -> str:
    """A field of CSV, in quotes where it holds what would end it."""
    return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\r\n') else text


def _parquet(columns: Mapping[str, Cells], shape: tuple[int, ...]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: _arrow(name, cells, shape) for name, cells in columns.items()})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    found: bytes = sink.getvalue().to_pybytes()
    return found


def _arrow(name: str, cells: Cells, shape: tuple[int, ...]) -> pa.Array:
    import pyarrow as pa

    values, empty = (np.broadcast_to(array, shape).ravel() for array in (cells.values, cells.empty))
    if cells.kind == TEXT:
        codes = pa.array(np.where(empty, 0, values).astype(np.int32), mask=empty)
        return pa.DictionaryArray.from_arrays(codes, pa.array(cells.labels, pa.string())).dictionary_decode()
    if cells.kind == INTEGER and values.dtype == object:
        try:
            listed = zip(values.tolist(), empty.tolist(), strict=True)
            return pa.array([None if nothing else value for value, nothing in listed], pa.decimal128(_DIGITS))
        except pa.ArrowInvalid:
            raise OutputError(
                f"{name} has integers of more than {_DIGITS} digits, which Parquet cannot hold",
                remedy="write CSV, or leave the column out",
            ) from None
    kind = {INTEGER: pa.int64(), NUMBER: pa.float64(), FLAG: pa.bool_()}[cells.kind]
    return pa.array(values, kind, mask=empty)


def _assemble_parquet(parts: Sequence[Path], target: Path) -> None:
    """One group of rows for each part, all columns of one type."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schemas = [pq.read_schema(part) for part in parts]
    # Decimals where one part has them; another part's 64-bit integers are cast.
    wide = {field.name: field for schema in schemas for field in schema if pa.types.is_decimal(field.type)}
    schema = pa.schema([wide.get(field.name, field) for field in schemas[0]])
    with pq.ParquetWriter(target, schema) as writer:
        for part in parts:
            writer.write_table(pq.read_table(part).cast(schema))

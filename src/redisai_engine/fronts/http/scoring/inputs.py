"""
The body of a request to `/invocations`, in any of MLflow's forms, as an input that the codec takes.

JSON stays plain values, which the codec reads by the signature. Only CSV and Parquet are read by pandas, which isn't
imported before, and Parquet by a process of its own. Nothing in a body is trusted: what it would take as objects is
estimated before it is parsed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass
from typing import Any

import orjson

from redisai_engine.codec.envelopes import Document
from redisai_engine.codec.mapping import Mapping
from redisai_engine.fronts.http.access.calls import first_line
from redisai_engine.fronts.http.access.failures import RequestRefused, bad_request, not_a_frame
from redisai_engine.fronts.http.scoring.parquet import read_parquet

JSON = "application/json"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_OF_MODELS_THAT_TALK = ("messages", "prompt", "input")
_MOST_COLUMNS = 100_000  # of CSV
_MOST_UNNAMED = 100  # values in front of those that have names: each becomes a level of an index
_MOST_COMPARED = 10_000_000  # pairs of names: pandas compares a repeated one with all others
#: The element types that pandas reads CSV's columns with, by MLflow's types.
_CSV_TYPES = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "object",
}


@dataclass(frozen=True, slots=True)
class ScoringInput:
    """
    An input. `is_frame`: MLflow would have made a frame of it. `is_bare`: the answer isn't wrapped in `predictions`.
    """

    value: Any
    is_frame: bool = False
    is_bare: bool = False


def media_type(header: bytes | None) -> str:
    """Return which of the three forms a body has, by its Content-Type. Raise RequestRefused with status 415."""
    text = (header or b"application/json").decode("latin-1")
    kind, *parameters = [part.strip() for part in text.split(";")]
    values = {name: value for name, _, value in (pair.partition("=") for pair in parameters)}
    if values.pop("charset", "utf-8").lower() != "utf-8":
        raise RequestRefused(415, "The scoring server only supports UTF-8")
    if values:
        raise RequestRefused(415, f"Unrecognized content type parameters: {', '.join(values)}.")
    if kind not in (JSON, CSV, PARQUET):
        raise RequestRefused(
            415,
            f"This predictor only supports the following content types: Types: {[CSV, JSON, PARQUET]}. Got '{text}'.",
        )
    return kind


def read_input(kind: str, body: bytes, mapping: Mapping, most: int) -> ScoringInput:
    """
    Return the input in a body. `most` is how many bytes its values may take in memory.

    Raise RequestRefused.
    """
    if kind == CSV:
        return ScoringInput(_csv(body, mapping), is_frame=True)
    if kind == PARQUET:
        return ScoringInput(read_parquet(body, most), is_frame=True)
    return _json(body)


def _json(body: bytes) -> ScoringInput:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(
            f"Invalid input. Ensure that input is a valid JSON formatted string. Error: {first_line(error)}"
        ) from None
    if not isinstance(document, dict):
        raise bad_request(f"{_needed()}. Received {_kind(document)}.")
    if any(key in document for key in _OF_MODELS_THAT_TALK):
        return ScoringInput(Document(document), is_bare=True)
    found = [form for form in FORMS if form in document]
    if len(found) != 1:
        raise bad_request(f"{_needed()}. Received dictionary with input fields: {list(document)[:20]}")
    _check_form(found[0], document[found[0]])
    wanted = {found[0]: document[found[0]]}
    if document.get("params") is not None:
        wanted["params"] = document["params"]
    return ScoringInput(Document(wanted), is_frame=found[0].startswith("dataframe"))


def _needed() -> str:
    return f"The input must be a JSON dictionary with exactly one of the input fields {', '.join(FORMS)}"


def _check_form(form: str, value: Any) -> None:
    if form == "dataframe_records" and not isinstance(value, list):
        raise bad_request(f"Invalid input. Dataframe records format must be a list of records. Got {_kind(value)}.")
    if form == "dataframe_split" and not isinstance(value, dict):
        raise bad_request(f"Invalid input. Dataframe split format must be a dictionary. Got {_kind(value)}.")


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "dictionary"
    return "a list" if isinstance(value, list) else f"type {type(value).__name__}"


def _csv(body: bytes, mapping: Mapping) -> Any:
    import pandas as pd

    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad_request(f"Invalid input. Ensure that input is a valid UTF-8 encoded string. Error: {error}") from None
    _check_first_rows(text)
    try:
        return pd.read_csv(io.StringIO(text), dtype=_column_types(mapping))
    except Exception as error:  # pandas raises many kinds
        raise not_a_frame("CSV-formatted", "to_csv", first_line(error)) from None


def _check_first_rows(text: str) -> None:
    """Raise RequestRefused for names, or for values without names, that pandas would take for ever to read."""
    rows = (row for row in csv.reader(io.StringIO(text)) if len(row) > 1 or "".join(row).strip())
    try:
        names, values = next(rows, []), next(rows, [])
    except csv.Error as error:
        raise not_a_frame("CSV-formatted", "to_csv", first_line(error)) from None
    _check_names(names)
    if len(values) - len(names) > _MOST_UNNAMED:
        raise bad_request(
            f"the first row has {len(values)} values for {len(names)} columns; at most {_MOST_UNNAMED} more are allowed"
        )


def _check_names(names: list[str]) -> None:
    if len(names) > _MOST_COLUMNS:
        raise bad_request(f"the frame has {len(names)} columns; at most {_MOST_COLUMNS} are allowed")
    repeated = len(names) - len(set(names))
    if repeated * len(names) > _MOST_COMPARED:
        raise bad_request(f"{repeated} of the frame's {len(names)} columns have the name of another one; rename them")


def _column_types(mapping: Mapping) -> AnyMapping[str, str] | None:
    schema = mapping.schema
    if schema is None or schema.kind != "columns" or not schema.named:
        return None
    return {str(field.name): _CSV_TYPES[field.type] for field in schema.fields if field.type in _CSV_TYPES}

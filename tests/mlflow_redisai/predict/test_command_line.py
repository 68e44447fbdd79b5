"""Under MLflow's own predict command, and only there, the file is read again as JSON."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest
from click.testing import CliRunner

from mlflow_redisai.predict.command_line import document_of
from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.envelopes import Document
from redisai_engine.codec.mapping import Answer, Field, Input, Mapping, Output, Part, Schema
from redisai_engine.protocol import dtypes
from support.json_forms import EXPECTED, FORMS, columns, mapping

Seen = tuple[Any, Document | None]


@pytest.fixture
def predict_command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Seen]:
    """
    A function that runs MLflow's predict command on a file.

    It returns the client's input, and the document behind it.
    """
    from mlflow.deployments import cli, interface

    from mlflow_redisai.predict.response import Predictions

    seen: list[Seen] = []

    class Client:
        """A client that records its input and answers nothing."""

        def predict(self, deployment_name: str, inputs: Any) -> Predictions:
            seen.append((inputs, document_of(inputs)))
            return Predictions([])

    monkeypatch.setattr(interface, "get_deploy_client", lambda target: Client())

    def run(path: Path) -> Seen:
        arguments = ["predict", "-t", "redisai", "--name", "m", "-I", str(path)]
        CliRunner().invoke(cli.commands, arguments, catch_exceptions=False, standalone_mode=False)
        return seen[-1]

    return run


def written(folder: Path, document: object) -> Path:
    path = folder / "input.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_keeps_its_values(form: str, predict_command: Callable[[Path], Seen], tmp_path: Path) -> None:
    """ "001", dates as text and 1.0 included, which pandas.read_json has already changed."""
    frame, document = predict_command(written(tmp_path, FORMS[form]))

    assert document == Document(FORMS[form])
    assert columns(Encoder(mapping()).encode(frame, document)) == EXPECTED


def test_times_that_read_json_made_are_put_right(predict_command: Callable[[Path], Seen], tmp_path: Path) -> None:
    fields = (Field("modified", "long", dtypes.INT64), Field("timestamp", "double", dtypes.DOUBLE))
    inputs = (Input("modified", dtypes.INT64, (None, 1), (0,)), Input("timestamp", dtypes.DOUBLE, (None, 1), (1,)))
    how = Mapping(inputs, (Output("y"),), (0,), Answer("ndarray", (Part("y"),)), Schema("columns", fields))

    frame, document = predict_command(
        written(tmp_path, {"modified": [1700000000, 1700000001], "timestamp": [1.5, 2.5]})
    )

    tensors = Encoder(how).encode(frame, document)
    assert frame["modified"].dtype.kind == "M"
    assert [tensor.array().ravel().tolist() for tensor in tensors] == [[1700000000, 1700000001], [1.5, 2.5]]


def test_a_file_that_only_pandas_reads_is_used_as_the_frame_it_made(
    predict_command: Callable[[Path], Seen], tmp_path: Path
) -> None:
    path = tmp_path / "input.json.gz"
    path.write_bytes(gzip.compress(b'{"a": [1, 2]}'))

    frame, document = predict_command(path)

    assert frame["a"].tolist() == [1, 2]
    assert document is None


def test_outside_a_command_there_is_no_document() -> None:
    assert document_of(pd.DataFrame({"a": [1]})) is None


def test_another_programs_command_is_left_alone(tmp_path: Path) -> None:
    """Its option may have the same name and mean anything."""
    found = []

    @click.command()
    @click.option("--input-path")
    def predict(input_path: str) -> None:
        found.append(document_of(pd.DataFrame({"a": [1]})))

    CliRunner().invoke(
        predict, ["--input-path", str(written(tmp_path, {"a": [1]}))], catch_exceptions=False, standalone_mode=False
    )

    assert found == [None]


def test_only_frames_come_from_the_file(tmp_path: Path) -> None:
    """If the client passes something else on, it didn't come from the file."""
    from mlflow.deployments import cli

    path = written(tmp_path, {"a": [1]})
    command = cli.commands.commands["predict"]
    with click.Context(command) as context:
        context.params["input_path"] = str(path)

        assert document_of(pd.DataFrame({"a": [1]})) == Document({"a": [1]})
        assert document_of({"a": [1]}) is None

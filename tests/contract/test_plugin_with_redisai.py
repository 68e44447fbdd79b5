"""
The plugin against a real RedisAI: every command in a deployment's life has a form that RedisAI 1.2.7 carried out.

The commands are recorded between the plugin and an engine. What RedisAI carries out is known only from the recorded
conversations (see forms.py), never from the engine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from contract.forms import Accepted, accepted_in, name_of
from mlflow_redisai import RedisAIClient, errors
from mlflow_redisai.predict.chunks import CHUNK_BYTES
from mlflow_redisai.server.commands import ModelMeta, ModelToStore
from mlflow_redisai.server.connection import Connection
from mlflow_redisai.server.deployments import Deployments
from mlflow_redisai.target import Target
from support.recording import Recording, recorded
from support.saved_models import save_multiplication
from support.servers import Server, start_engine
from support.tiny_models import product_and_sum
from support.transcripts import scenarios
from support.wire import Wire

pytestmark = pytest.mark.slow

AROUND_TRANSACTIONS = {"WATCH", "MULTI", "EXEC"}
GARBAGE = ModelToStore(ModelMeta(backend="ONNX", device="CPU"), b"not a model", chunk_bytes=1000)
CHUNK_SIZE = 100  # bytes of a model's blob; so small that every model is sent in chunks


@pytest.fixture(scope="module")
def accepted() -> Accepted:
    return accepted_in(scenario.steps for scenario in scenarios().values())


@pytest.fixture(scope="module", params=[2, 3], ids=["resp2", "resp3"])
def recording(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """The commands of all calls of the plugin, successful or not, in both protocols."""
    server = start_engine(tmp_path_factory.mktemp("contract"))
    try:
        with recorded(server) as made:
            lead_a_life(made, server, request.param, tmp_path_factory.mktemp("contract-models"))
        yield made
    finally:
        server.stop()


def lead_a_life(recording: Recording, server: Server, protocol: int, folder: Path) -> None:
    """Call everything that the plugin offers, through the recording proxy."""
    double = save_multiplication(folder / "double", 2.0).uri
    triple = save_multiplication(folder / "triple", 3.0).uri
    rows = np.array([[1.0, 2.0]], np.float32)
    client = RedisAIClient(f"{recording.target}?protocol={protocol}")
    direct = server.client()

    # Makes the engine indistinguishable from a server that has only RedisAI's commands.
    direct.execute_command("ACL", "SETUSER", "default", "-command")
    client.create_deployment("plain", double)
    client.create_deployment(
        "full", double, config={"tag": "v1", "batchsize": 8, "minbatchsize": 2, "minbatchtimeout": 10, "verify": "off"}
    )
    client.create_deployment("half", double, config={"tag": "v1", "batchsize": 8, "timeout": 240_000})
    with contextlib.suppress(MlflowException):
        client.create_deployment("plain", double)
    with (
        pytest.raises(errors.ModelRefused),
        Deployments(Connection(Target.parse(recording.target))).staged("garbage", GARBAGE, 1000),
    ):
        pass

    assert client.predict("plain", rows)["predictions"]["y"].tolist() == [[2.0, 4.0]]
    client.predict("plain", np.zeros((CHUNK_BYTES // 4, 2), np.float32))
    direct.execute_command("AI.MODELSTORE", "foreign", "ONNX", "CPU", "BLOB", product_and_sum("ONNX").blob)
    client.predict("foreign", {"a": rows, "b": rows})
    client.list_deployments()
    for name in ("plain", "full", "foreign"):
        client.get_deployment(name)

    direct.execute_command("AI.CONFIG", "MODEL_CHUNK_SIZE", CHUNK_SIZE)
    client.update_deployment("plain", triple)
    client.update_deployment("full", config={"tag": "v2"})
    assert client.predict("plain", rows)["predictions"]["y"].tolist() == [[3.0, 6.0]]

    for name in ("plain", "full", "half", "foreign"):
        client.delete_deployment(name)
    for call in (client.delete_deployment, client.get_deployment, lambda name: client.predict(name, rows)):
        with pytest.raises(MlflowException):
            call("plain")
    with pytest.raises(MlflowException):
        client.update_deployment("plain", double)


def in_transactions(connection: list[list[bytes]]) -> Iterator[tuple[list[bytes], bool]]:
    """Return each command, along with whether it is between MULTI and EXEC."""
    inside = False
    for command in connection:
        if name_of(command) in ("EXEC", "DISCARD"):
            inside = False
        yield command, inside
        if name_of(command) == "MULTI":
            inside = True


def ai_commands(recording: Recording) -> list[tuple[list[bytes], bool]]:
    return [
        (command, inside)
        for connection in recording.connections
        for command, inside in in_transactions(connection)
        if name_of(command).startswith("AI.")
    ]


def test_every_ai_command_has_a_form_that_redisai_carried_out(recording: Recording, accepted: Accepted):
    objections = {
        objection
        for command, inside in ai_commands(recording)
        for objection in accepted.objections(command, in_transaction=inside)
    }

    assert not objections, "no recorded conversation shows:\n" + "\n".join(sorted(objections))


def test_the_life_had_every_kind_of_command(recording: Recording):
    """Otherwise the test above would show less than it claims."""
    sent = {(name_of(command), inside) for command, inside in ai_commands(recording)}
    pieces = [len(command) for command, _ in ai_commands(recording) if name_of(command) == "AI.MODELSTORE"]

    assert sent == {
        ("AI.CONFIG", False),
        ("AI.DAGEXECUTE_RO", False),
        ("AI.MODELDEL", True),
        ("AI.MODELGET", False),
        ("AI.MODELGET", True),
        ("AI.MODELSTORE", True),
        ("AI._MODELSCAN", False),
    }
    assert max(pieces) > 6, "no model was sent in pieces"
    assert {name_of(command) for command in recording.commands()} >= AROUND_TRANSACTIONS


def test_watch_multi_and_exec_are_used_as_redis_wants(recording: Recording):
    """WATCH comes before MULTI, every transaction that is opened is ended, and nothing inside it blocks."""
    for connection in recording.connections:
        names = [name_of(command) for command in connection]
        assert names.count("MULTI") == names.count("EXEC") + names.count("DISCARD")
        assert not [
            command for command, inside in in_transactions(connection) if inside and name_of(command) == "WATCH"
        ]


def test_modules_are_asked_for_only_while_a_model_is_there(recording: Recording):
    """INFO MODULES crashes a RedisAI whose ONNX backend was loaded and that has never had a model for it."""
    stored: set[bytes] = set()
    asked = 0
    for command in recording.in_order:
        if name_of(command) == "AI.MODELSTORE" and command[2] == b"ONNX":
            stored.add(command[1])
        elif name_of(command) in ("DEL", "AI.MODELDEL"):
            stored -= set(command[1:])
        elif name_of(command) == "INFO":
            asked += 1
            assert stored, f"{command} came first"

    assert asked > 1


def test_every_plain_command_is_known_to_redis(recording: Recording, redis_server: Server):
    plain = {name_of(command) for command in recording.commands() if not name_of(command).startswith("AI.")}
    with Wire(redis_server.port) as wire:
        reply = wire.ask("COMMAND", "INFO", *sorted(plain))

    assert isinstance(reply, list)
    assert [row[0].decode().upper() for row in reply if row] == sorted(plain)


@pytest.mark.parametrize(
    "meta",
    [
        ModelMeta(backend="TORCH", device="CPU"),
        ModelMeta(backend="TF", device="CPU", inputs=("a", "b"), outputs=("c",)),
        ModelMeta(backend="TF", device="CPU", tag="v", batchsize=8, minbatchsize=2, inputs=("a",), outputs=("c",)),
        ModelMeta(backend="ONNX", device="CPU", batchsize=8),
    ],
    ids=["torch", "tensorflow", "tensorflow in batches", "onnx in batches"],
)
def test_models_of_every_recorded_backend_are_stored_in_an_accepted_form(accepted: Accepted, meta: ModelMeta):
    """No framework is needed to see what would be sent. TFLITE was not recorded."""
    command = ModelToStore(meta, b"blob", chunk_bytes=1000).command(b"m")

    assert not accepted.objections([each if isinstance(each, bytes) else str(each).encode() for each in command])


@pytest.mark.parametrize(
    "line",
    [
        "AI.MODELSTORE m ONNX CPU BATCHSIZE 4 TAG v BLOB x",  # wrong: the order is fixed
        "AI.MODELSTORE m ONNX CPU SIZE 4 BLOB x",
        "AI.MODELSTORE m ONNX CPU TAG v",
        "AI.MODELGET m META EVERYTHING",
        "AI.DAGEXECUTE_RO TIMEOUT 5 ROUTING m |> AI.TENSORGET x META BLOB",
        "AI.DAGEXECUTE_RO ROUTING m |> AI.MODELGET m",
        "AI.DAGEXECUTE_RO ROUTING m |> AI.TENSORSET x COMPLEX 1 BLOB x",
        "AI.DAGEXECUTE_RO ROUTING m |> AI.MODELEXECUTE m INPUTS 1 a OUTPUTS 1 b TIMEOUT 5",
        "AI.TENSORGET x META NUMPY",
        "AI.NOVELTY x",
    ],
)
def test_forms_that_nothing_shows_are_found(accepted: Accepted, line: str):
    """The matcher does reject forms."""
    assert accepted.objections(line.encode().split())
    assert not accepted.objections([b"AI.MODELGET", b"m", b"META"])

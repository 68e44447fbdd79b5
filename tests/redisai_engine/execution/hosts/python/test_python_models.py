"""Python models (backend PYFUNC): stored, described and run by tensors."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import redis
from sklearn.linear_model import LinearRegression

import redisai_engine.execution.hosts
from redisai_engine.protocol import parcels
from support.obedient import archive, obedient, saved_code, workers_of
from support.servers import Server, start_engine
from support.waiting import wait_until
from support.wire import Wire

HOSTS = Path(redisai_engine.execution.hosts.__file__).parent


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    engine = start_engine(tmp_path_factory.mktemp("python"), "--python-models", "yes")
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def client(serving: Server) -> redis.Redis:
    return serving.client(socket_timeout=240)


def test_a_model_of_columns_is_run_by_a_tensor(client: redis.Redis, tmp_path: Path) -> None:
    """The tensor's columns get the names and types of the signature, without which MLflow refuses the input."""
    rows = np.random.default_rng(1).normal(size=(50, 3))
    frame = pd.DataFrame(rows, columns=["a", "b", "c"])
    model = LinearRegression().fit(frame, rows @ [1.0, 2.0, 3.0] + 4)
    mlflow.sklearn.save_model(
        model, tmp_path / "m", signature=mlflow.models.infer_signature(frame), pip_requirements=[]
    )

    store = ["AI.MODELSTORE", "m", "PYFUNC", "CPU", "TAG", "v1", "INPUTS", 1, "rows", "OUTPUTS", 1, "answers"]
    assert client.execute_command(*store, "BLOB", archive(tmp_path / "m")) == b"OK"
    client.execute_command("AI.TENSORSET", "x", "DOUBLE", 50, 3, "BLOB", rows.tobytes())
    assert client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y") == b"OK"
    answer = np.frombuffer(client.execute_command("AI.TENSORGET", "y", "BLOB"))

    np.testing.assert_array_equal(answer, model.predict(frame))
    meta = client.execute_command("AI.MODELGET", "m", "META")
    assert dict(zip(meta[::2], meta[1::2], strict=True))[b"inputs"] == [b"rows"]


OFF = (
    "PYFUNC models are off; start the engine with --python-models, and without MLFLOW_ALLOW_MODEL_CODE_EXECUTION=false"
)


def run_obedient(client: redis.Redis, key: str, text: str) -> bytes:
    client.execute_command("AI.TENSORSET", "{m}x", "STRING", 1, "VALUES", text)
    client.execute_command("AI.MODELEXECUTE", key, "INPUTS", 1, "{m}x", "OUTPUTS", 1, "{m}y")
    return client.execute_command("AI.TENSORGET", "{m}y", "VALUES")[0]  # type: ignore[no-any-return]


def test_a_parcel_is_answered_by_a_parcel(client: redis.Redis) -> None:
    """With the params that came with it. A damaged one is an error, and costs no worker."""
    assert client.execute_command("AI.MODELSTORE", "p", "PYFUNC", "CPU", "BLOB", obedient()) == b"OK"

    def ask(parcel: bytes) -> object:
        client.execute_command("AI.TENSORSET", "x", "UINT8", len(parcel), "BLOB", parcel)
        client.execute_command("AI.MODELEXECUTE", "p", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
        return parcels.unpack(client.execute_command("AI.TENSORGET", "y", "BLOB"))[0]

    assert ask(parcels.pack(["say this", "and that"])) == ["say this", "and that"]
    with pytest.raises(redis.ResponseError, match="the parcel is damaged"):
        ask(parcels.pack(["say this"])[:20])
    assert ask(parcels.pack(["say this"])) == ["say this"]


@pytest.mark.parametrize(
    ("blob", "problem"),
    [
        (b"nothing", "the blob is not a whole ZIP archive"),
        (archive(Path("/nowhere")), "the archive has no model/MLmodel"),
        (archive(Path("/nowhere"), **{"model/MLmodel": b"flavors: {}"}), "the model can't be loaded: MlflowException"),
        (archive(Path("/nowhere"), **{"model/MLmodel": b"x", "model/../../y": b""}), "leads out of its folder"),
        (
            archive(
                Path("/nowhere"),
                {"environment": {"kind": "path", "path": "/nowhere/python"}},
                **{"model/MLmodel": b"flavors: {}"},
            ),
            "/nowhere/python",
        ),
    ],
)
def test_a_blob_that_is_no_model_is_refused(client: redis.Redis, blob: bytes, problem: str) -> None:
    with pytest.raises(redis.ResponseError, match=problem):
        client.execute_command("AI.MODELSTORE", "bad", "PYFUNC", "CPU", "BLOB", blob)

    assert not client.exists("bad")


def test_a_model_is_a_key_like_any_other_and_runs_only_where_python_models_are_on(
    new_redis: Callable[..., Server], new_engine: Callable[..., Server]
) -> None:
    behind = new_redis()
    on, off = new_engine("--redis", behind.url, "--python-models"), new_engine("--redis", behind.url)
    allowed, forbidden = on.client(socket_timeout=240), off.client(socket_timeout=240)
    blob = obedient()

    assert allowed.execute_command("AI.MODELSTORE", "{m}a", "PYFUNC", "CPU", "BLOB", blob) == b"OK"
    with pytest.raises(redis.ResponseError, match=re.escape(OFF)):
        forbidden.execute_command("AI.MODELSTORE", "{m}b", "PYFUNC", "CPU", "BLOB", blob)
    forbidden.restore("{m}copy", 0, allowed.dump("{m}a"))
    with pytest.raises(redis.ResponseError, match=re.escape(OFF)):
        run_obedient(forbidden, "{m}copy", "be well")
    assert forbidden.execute_command("AI.MODELGET", "{m}copy", "BLOB") == blob
    assert [client.info("ai")["ai_python_models"] for client in (allowed, forbidden)] == ["on", "off"]

    assert run_obedient(allowed, "{m}a", "be well") == b"be well"
    assert allowed.execute_command("AI.INFO", "{m}a")[2:6] == [b"type", b"MODEL", b"backend", b"PYFUNC"]
    allowed.execute_command("AI.MODELDEL", "{m}a")
    wait_until(lambda: not workers_of(on))
    assert run_obedient(allowed, "{m}copy", "be well") == b"be well"


def test_a_model_is_given_back_as_it_was_stored(client: redis.Redis) -> None:
    """Whole, and in chunks, as all blobs are."""
    blob = obedient()
    options = ["TAG", "v1", "INPUTS", 1, "text", "OUTPUTS", 1, "answer"]
    assert client.execute_command("AI.MODELSTORE", "{m}got", "PYFUNC", "CPU", *options, "BLOB", blob) == b"OK"

    got = client.execute_command("AI.MODELGET", "{m}got", "META", "BLOB")
    told = dict(zip(got[::2], got[1::2], strict=True))
    assert told.pop(b"blob") == blob
    assert [told[name] for name in (b"backend", b"device", b"tag")] == [b"PYFUNC", b"CPU", b"v1"]
    assert [told[name] for name in (b"inputs", b"outputs")] == [[b"text"], [b"answer"]]

    whole = client.execute_command("AI.CONFIG", "GET", "MODEL_CHUNK_SIZE")
    try:
        client.execute_command("AI.CONFIG", "MODEL_CHUNK_SIZE", 1000)
        chunks = client.execute_command("AI.MODELGET", "{m}got", "BLOB")
    finally:
        client.execute_command("AI.CONFIG", "MODEL_CHUNK_SIZE", whole)
    assert len(chunks) > 1
    assert b"".join(chunks) == blob
    client.delete("{m}got")


def test_a_renamed_model_keeps_its_worker(client: redis.Redis) -> None:
    assert client.execute_command("AI.MODELSTORE", "{m}old", "PYFUNC", "CPU", "BLOB", obedient()) == b"OK"
    pid = "run os.getpid()"
    before = run_obedient(client, "{m}old", pid)

    client.rename("{m}old", "{m}new")
    assert run_obedient(client, "{m}new", pid) == before
    assert client.renamenx("{m}new", "{m}newer") is True
    assert run_obedient(client, "{m}newer", pid) == before

    assert client.execute_command("AI.INFO", "{m}newer")[1] == b"{m}newer"
    with pytest.raises(redis.ResponseError, match="model key is empty"):
        run_obedient(client, "{m}old", pid)
    client.delete("{m}newer")


def test_a_dump_of_a_model_is_that_model(client: redis.Redis) -> None:
    """Restored under another name, with options and all, and while the first one is gone."""
    store = ["AI.MODELSTORE", "{m}dumped", "PYFUNC", "CPU", "TAG", "v1", "BATCHSIZE", 8, "BLOB", obedient(replicas=1)]
    assert client.execute_command(*store) == b"OK"
    dump, meta = client.dump("{m}dumped"), client.execute_command("AI.MODELGET", "{m}dumped", "META")
    client.delete("{m}dumped")

    client.restore("{m}restored", 0, dump)

    assert run_obedient(client, "{m}restored", "be well") == b"be well"
    assert client.execute_command("AI.MODELGET", "{m}restored", "META") == meta
    client.delete("{m}restored")


def test_requests_of_a_batched_model_run_together(serving: Server, client: redis.Redis) -> None:
    """Two requests that wait for each other, as MINBATCHSIZE says, are one run of the worker."""
    options = ["BATCHSIZE", 4, "MINBATCHSIZE", 2, "MINBATCHTIMEOUT", 60_000]
    store = ["AI.MODELSTORE", "{m}batched", "PYFUNC", "CPU", *options, "BLOB", archive(saved_code(COUNTING))]
    assert client.execute_command(*store) == b"OK"
    with Wire(serving.port, timeout_s=240) as first, Wire(serving.port, timeout_s=240) as second:
        for wire, text in ((first, "a"), (second, "b")):
            assert wire.ask("AI.TENSORSET", f"{{m}}text {text}", "STRING", 1, "VALUES", text) == b"OK"
            wire.send(
                "AI.MODELEXECUTE", "{m}batched", "INPUTS", 1, f"{{m}}text {text}", "OUTPUTS", 1, f"{{m}}of {text}"
            )
        assert [first.receive(), second.receive()] == [b"+OK\r\n"] * 2
        answers = [first.ask("AI.TENSORGET", f"{{m}}of {text}", "VALUES") for text in "ab"]

    assert sorted(answers) == [[b"a of 2"], [b"b of 2"]]  # type: ignore[type-var]
    client.delete("{m}batched")


def test_parcels_run_alone_however_the_model_is_batched(serving: Server, client: redis.Redis) -> None:
    options = ["BATCHSIZE", 4, "MINBATCHSIZE", 2, "MINBATCHTIMEOUT", 1000]
    store = ["AI.MODELSTORE", "{m}parcels", "PYFUNC", "CPU", *options, "BLOB", archive(saved_code(COUNTING))]
    assert client.execute_command(*store) == b"OK"
    with Wire(serving.port, timeout_s=240) as first, Wire(serving.port, timeout_s=240) as second:
        for wire, text in ((first, "a"), (second, "b")):
            parcel = parcels.pack([text])
            assert wire.ask("AI.TENSORSET", f"{{m}}{text}", "UINT8", len(parcel), "BLOB", parcel) == b"OK"
            wire.send("AI.MODELEXECUTE", "{m}parcels", "INPUTS", 1, f"{{m}}{text}", "OUTPUTS", 1, f"{{m}}of {text}")
        assert [first.receive(), second.receive()] == [b"+OK\r\n"] * 2
        answers = [
            parcels.unpack(client.execute_command("AI.TENSORGET", f"{{m}}of {text}", "BLOB"))[0] for text in "ab"
        ]

    assert answers == [["a of 1"], ["b of 1"]]
    client.delete("{m}parcels")


#: Each row's answer has the number of rows that came with it in the model's first run.
COUNTING = """
    import mlflow
    from mlflow.pyfunc import PythonModel

    class Counting(PythonModel):
        first = 0

        def predict(self, context, model_input, params=None):
            self.first = self.first or len(model_input)
            return [f"{text} of {self.first}" for text in model_input]

    mlflow.models.set_model(Counting())
"""


@pytest.mark.slow
def test_each_worker_process_has_workers_of_its_own(new_engine: Callable[..., Server]) -> None:
    """What one process has stored, the other one runs, too."""
    engine = new_engine("--python-models", "yes", "--workers", "2")
    clients = [engine.client(socket_timeout=240) for _ in range(8)]
    assert clients[0].execute_command("AI.MODELSTORE", "{m}a", "PYFUNC", "CPU", "BLOB", obedient()) == b"OK"

    pids = {run_obedient(client, "{m}a", "run os.getpid()") for client in clients}

    assert 1 <= len(pids) <= 2
    assert clients[0].info("ai")["ai_python_models"] == "on"


def test_what_mlflow_forbids_is_off_whatever_the_setting_says(new_engine: Callable[..., Server]) -> None:
    engine = new_engine("--python-models", "yes", environment={"MLFLOW_ALLOW_MODEL_CODE_EXECUTION": "false"})
    client = engine.client()

    with pytest.raises(redis.ResponseError, match=re.escape(OFF)):
        client.execute_command("AI.MODELSTORE", "m", "PYFUNC", "CPU", "BLOB", obedient())

    assert client.info("ai")["ai_python_models"] == "off"


PROGRAMS = [
    *(HOSTS / "python" / name for name in ("program.py", "forms.py")),
    *sorted((HOSTS.parents[1] / "protocol" / "parcels").glob("*.py")),
]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_what_a_worker_runs_is_python_3_9_and_needs_no_package_of_ours(path: Path) -> None:
    """It needs NumPy, and pandas for values of pandas."""
    tree = ast.parse(path.read_text(), feature_version=(3, 9))

    plain = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    parts = [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    assert {name.split(".")[0] for name in (*plain, *parts)} <= {*sys.stdlib_module_names, "numpy", "pandas", "pytz"}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    later = {keyword.arg for call in calls for keyword in call.keywords} & {"strict", "slots", "kw_only"}
    assert later == set()
    assert not any(isinstance(node, ast.Match) for node in ast.walk(tree))
    assert "from __future__ import annotations" in path.read_text()

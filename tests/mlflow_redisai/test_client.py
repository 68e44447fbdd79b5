"""MLflow's deployment interface, method by method, against a real engine with real models."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.deployments
import numpy as np
import pandas as pd
import pytest
from mlflow.deployments import BaseDeploymentClient
from mlflow.exceptions import MlflowException

from mlflow_redisai import RedisAIClient
from redisai_engine.codec.record import record_key
from support.mlflow_models import LoggedModel
from support.saved_models import save_multiplication, save_wine
from support.servers import Server
from support.transcripts import recorded_model
from support.waiting import free_port

Find = Callable[[str], list[str]]


def store_foreign(engine: Server, name: str, file: str = "mul.onnx", *options: object) -> None:
    """Store a model as any RedisAI client would."""
    assert engine.client().execute_command(
        "AI.MODELSTORE", name, "ONNX", "CPU", *options, "BLOB", recorded_model(file)
    ) in (b"OK", True)


def answers_as(client: RedisAIClient, name: str, model: LoggedModel) -> bool:
    """Return whether a deployment answers all rows as the model does."""
    predicted: Any = client.predict(name, model.frame)["predictions"]
    return bool(predicted.tolist() == model.expected().tolist())


def refused(call: Callable[[], Any]) -> tuple[str, str]:
    """Return the error code and message of a call that must fail."""
    with pytest.raises(MlflowException) as caught:
        call()
    return caught.value.error_code, caught.value.message


def where(engine: Server) -> str:
    return f"Redis at 127.0.0.1:{engine.port}"


# -- create ---------------------------------------------------------------------------------------


def test_a_created_deployment_predicts_what_pyfunc_predicts(client: RedisAIClient, saved_wine: LoggedModel) -> None:
    created = client.create_deployment("create:wine", saved_wine.uri)

    predicted = client.predict("create:wine", saved_wine.frame)

    assert created["name"] == "create:wine"
    assert created["flavor"] == "sklearn"
    assert created["backend"] == "ONNX"
    assert created["device"] == "CPU"
    assert created["verification"]["status"] == "passed"
    assert created["notes"] == []
    assert predicted["predictions"].tolist() == saved_wine.expected().tolist()


def test_what_is_deployed_are_one_model_and_one_record(
    client: RedisAIClient, engine: Server, saved_wine: LoggedModel, keys: Find
) -> None:
    """Nothing else stays, no temporary key and no tensor, and neither of the two expires."""
    client.create_deployment("one:wine", saved_wine.uri)
    client.predict("one:wine", saved_wine.frame)

    assert keys("one:wine") == ["mlflow-redisai:{one:wine}:record:one:wine", "one:wine"]
    assert [engine.client().pttl(key) for key in keys("one:wine")] == [-1, -1]


def test_a_taken_name_is_refused_and_nothing_changes(
    client: RedisAIClient, engine: Server, saved_wine: LoggedModel, retrained_wine: LoggedModel, keys: Find
) -> None:
    client.create_deployment("taken:wine", saved_wine.uri)
    before = client.get_deployment("taken:wine")

    assert refused(lambda: client.create_deployment("taken:wine", retrained_wine.uri)) == (
        "RESOURCE_ALREADY_EXISTS",
        (
            f"a model named 'taken:wine' is already deployed on {where(engine)}; update or delete it, or choose "
            "another name"
        ),
    )
    assert client.get_deployment("taken:wine") == before
    assert len(keys("taken:wine")) == 2


@pytest.mark.parametrize("kind", ["string", "hash", "list"])
def test_a_key_that_is_no_model_is_refused_and_left_alone(
    client: RedisAIClient, engine: Server, saved_wine: LoggedModel, keys: Find, kind: str
) -> None:
    """AI.MODELSTORE onto such a key crashes RedisAI 1.2.7."""
    name, redis = f"other:{kind}", engine.client()
    {"string": redis.set, "hash": lambda k, v: redis.hset(k, v, v), "list": redis.rpush}[kind](name, "mine")
    dumped = redis.dump(name)
    expected = (
        "RESOURCE_CONFLICT",
        f"the key '{name}' on {where(engine)} holds a {kind}, not a model, and was not changed; choose another name",
    )

    assert refused(lambda: client.create_deployment(name, saved_wine.uri)) == expected
    assert refused(lambda: client.update_deployment(name, saved_wine.uri)) == expected
    assert refused(lambda: client.delete_deployment(name)) == expected
    assert refused(lambda: client.get_deployment(name)) == expected
    assert refused(lambda: client.predict(name, saved_wine.frame)) == expected
    assert redis.dump(name) == dumped
    assert keys(name) == [name]


def test_a_tensor_is_no_model_either(client: RedisAIClient, engine: Server, saved_wine: LoggedModel) -> None:
    engine.client().execute_command("AI.TENSORSET", "other:tensor", "FLOAT", 1, "VALUES", 1)

    code, message = refused(lambda: client.create_deployment("other:tensor", saved_wine.uri))

    assert code == "RESOURCE_CONFLICT"
    assert message.startswith(f"the key 'other:tensor' on {where(engine)} holds a ")


@pytest.mark.parametrize("uri", ["no/such/folder", "file:///no/such/folder"])
def test_a_model_that_is_not_there_leaves_nothing(client: RedisAIClient, keys: Find, uri: str) -> None:
    code, message = refused(lambda: client.create_deployment("absent:model", uri))

    assert code == "RESOURCE_DOES_NOT_EXIST"
    assert uri in message
    assert keys("absent:model") == []


@pytest.fixture(scope="session")
def unlike_pyfunc(tmp_path_factory: pytest.TempPathFactory) -> LoggedModel:
    """A model whose onnx flavor and pyfunc are two different models, because of a mistake in its MLmodel file."""
    import shutil

    import yaml

    folder = tmp_path_factory.mktemp("models")
    doubling, tripling = (save_multiplication(folder / str(factor), factor) for factor in (2.0, 3.0))
    shutil.copy(Path(tripling.uri) / "model.onnx", Path(doubling.uri) / "tripling.onnx")
    description = Path(doubling.uri) / "MLmodel"
    document = yaml.safe_load(description.read_text())
    document["flavors"]["python_function"]["data"] = "tripling.onnx"
    description.write_text(yaml.safe_dump(document))
    return doubling


def test_a_model_that_answers_differently_is_not_deployed(
    client: RedisAIClient, unlike_pyfunc: LoggedModel, keys: Find
) -> None:
    code, message = refused(lambda: client.create_deployment("unlike:wine", unlike_pyfunc.uri))

    assert code == "INVALID_STATE"
    assert message.startswith(
        "the stored model failed verification against mlflow.pyfunc with the model's input example: "
    )
    assert message.endswith("; nothing was deployed")
    assert keys("unlike:wine") == []


def test_verification_can_be_left_out_and_that_is_told(client: RedisAIClient, unlike_pyfunc: LoggedModel) -> None:
    created = client.create_deployment("unverified:wine", unlike_pyfunc.uri, config={"verify": "off"})

    assert created["verification"]["status"] == "off"


def test_a_model_without_input_example_is_verified_by_rows_of_its_trials(
    client: RedisAIClient, tmp_path: Path, saved_wine: LoggedModel
) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = save_wine(
        tmp_path / "plain", make_pipeline(StandardScaler(), LogisticRegression()), saved_wine.expected(), example=False
    )

    created = client.create_deployment("noexample:wine", model.uri)

    assert created["verification"]["status"] == "passed (by trial rows: the model has no input example)"
    assert created["verification"]["trials"] > 1000
    assert created["notes"] == []


def test_a_model_that_nothing_can_be_tried_with_is_deployed_and_that_is_told(
    client: RedisAIClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In the reply, in the output of `get`, and as a warning, which the command line shows."""
    created = client.create_deployment("noexample:bare", save_multiplication(tmp_path / "bare", 2, bare=True).uri)

    assert created["verification"]["status"] == "not verified: the model has no input example"
    assert created["input_example"] is None
    assert created["notes"] == ["not verified: the model has no input example"]
    assert client.get_deployment("noexample:bare") == created
    assert caplog.messages[-1] == "noexample:bare: not verified: the model has no input example"


def test_options_reach_redisai(client: RedisAIClient, saved_wine: LoggedModel) -> None:
    options = {"device": "cpu", "batchsize": "8", "minbatchsize": "2", "minbatchtimeout": "5", "tag": "v=1"}

    created = client.create_deployment("options:wine", saved_wine.uri, config=options)

    shown = {name: created[name] for name in options}
    assert shown == {"device": "CPU", "batchsize": 8, "minbatchsize": 2, "minbatchtimeout": 5, "tag": "v=1"}
    assert client.predict("options:wine", saved_wine.frame.head(2))["predictions"].shape == (2,)


def test_a_deployment_has_a_process_of_its_own_for_as_long_as_its_options_say_so(
    client: RedisAIClient, engine: Server, saved_wine: LoggedModel
) -> None:
    """Other updates keep the option, those that change the model and those that don't."""

    def isolated() -> bool:
        return b"isolate" in engine.client().execute_command("AI.INFO", "isolated:wine")

    created = client.create_deployment("isolated:wine", saved_wine.uri, config={"isolate": "yes"})
    assert created["isolate"] is True
    assert isolated()
    client.update_deployment("isolated:wine", config={"tag": "v2"})
    assert isolated()
    client.update_deployment("isolated:wine", saved_wine.uri)
    assert isolated()
    assert client.predict("isolated:wine", saved_wine.frame.head(2))["predictions"].shape == (2,)

    client.update_deployment("isolated:wine", config={"isolate": False})

    assert not isolated()


def test_bad_options_are_refused_before_anything_is_done() -> None:
    """There is no server, and none is asked."""
    client = RedisAIClient(f"redisai://127.0.0.1:{free_port()}")

    assert refused(lambda: client.create_deployment("x", "models:/x/1", config={"batchsize": -1})) == (
        "INVALID_PARAMETER_VALUE",
        "option batchsize=-1 is not allowed; it must be a whole number, 0 or greater",
    )
    assert refused(
        lambda: client.create_deployment("x", "models:/x/1", config={"batchsize": 4, "minbatchsize": 2})
    ) == (
        "INVALID_PARAMETER_VALUE",
        (
            "option minbatchsize=2 needs minbatchtimeout, or a lone request would wait forever; "
            "set the milliseconds that it may wait"
        ),
    )
    assert refused(lambda: client.create_deployment("", "models:/x/1")) == (
        "INVALID_PARAMETER_VALUE",
        "a deployment's name must be a non-empty string, got ''",
    )


def test_a_flavor_that_the_model_lacks_is_refused(client: RedisAIClient, saved_wine: LoggedModel, keys: Find) -> None:
    code, message = refused(lambda: client.create_deployment("lacks:wine", saved_wine.uri, "pytorch"))

    assert code == "INVALID_PARAMETER_VALUE"
    assert "'pytorch'" in message
    assert "it has python_function, sklearn" in message
    assert keys("lacks:wine") == []


@pytest.mark.parametrize("name", ["ünï cødé", "{tag}wine", "odd}name", "a/b:c#d"])
def test_any_name_a_redis_key_can_have_is_allowed(
    client: RedisAIClient, saved_wine: LoggedModel, engine: Server, name: str
) -> None:
    client.create_deployment(name, saved_wine.uri)

    assert client.predict(name, saved_wine.frame.head(1))["predictions"].tolist() == ["class_0"]
    assert name in [row["name"] for row in client.list_deployments()]
    client.delete_deployment(name)
    assert engine.client().exists(name, record_key(name.encode())) == 0


def test_a_model_may_be_named_by_the_path_of_its_folder(client: RedisAIClient, saved_wine: LoggedModel) -> None:
    created = client.create_deployment("by:path", Path(saved_wine.uri))
    updated = client.update_deployment("by:path", Path(saved_wine.uri))

    assert created["model_uri"] == updated["model_uri"] == saved_wine.uri
    client.delete_deployment("by:path")


@pytest.mark.parametrize("uri", ["", 3, b"bytes"])
def test_what_can_be_no_uri_is_refused(client: RedisAIClient, uri: Any) -> None:
    code, message = refused(lambda: client.create_deployment("no:uri", uri))

    assert code == "INVALID_PARAMETER_VALUE"
    assert message == f"a model's URI must be a non-empty string or a path, got {uri!r}"


# -- update ---------------------------------------------------------------------------------------


def test_an_update_with_a_model_answers_as_the_new_one(
    client: RedisAIClient, saved_wine: LoggedModel, retrained_wine: LoggedModel
) -> None:
    client.create_deployment("update:wine", saved_wine.uri, config={"tag": "v1", "batchsize": 4})
    client.predict("update:wine", saved_wine.frame)

    updated = client.update_deployment("update:wine", retrained_wine.uri)

    assert updated["flavor"] == "sklearn"
    assert updated["model_uri"] == retrained_wine.uri
    assert (updated["tag"], updated["batchsize"]) == ("v1", 4)
    assert answers_as(client, "update:wine", retrained_wine)


def test_an_update_of_options_keeps_the_model(client: RedisAIClient, engine: Server, saved_wine: LoggedModel) -> None:
    created = client.create_deployment("suboptions:wine", saved_wine.uri, config={"tag": "v1"})
    blob = engine.client().execute_command("AI.MODELGET", "suboptions:wine", "BLOB")

    updated = client.update_deployment("suboptions:wine", config={"batchsize": "16", "timeout": 60_000})

    assert engine.client().execute_command("AI.MODELGET", "suboptions:wine", "BLOB") == blob
    changed = {"batchsize": 16, "timeout": 60_000, "created": updated["created"], "revision": created["revision"] + 1}
    assert updated == created | changed
    assert answers_as(client, "suboptions:wine", saved_wine)


def test_an_update_of_what_is_not_there_is_refused(
    client: RedisAIClient, engine: Server, saved_wine: LoggedModel
) -> None:
    expected = (
        "RESOURCE_DOES_NOT_EXIST",
        f"no model named 'nothing' is deployed on {where(engine)}; list the deployments to see which are",
    )

    assert refused(lambda: client.update_deployment("nothing", saved_wine.uri)) == expected
    assert refused(lambda: client.update_deployment("nothing", config={"tag": "x"})) == expected


def test_an_update_that_fails_leaves_the_old_model_serving(
    client: RedisAIClient, saved_wine: LoggedModel, unlike_pyfunc: LoggedModel, keys: Find
) -> None:
    client.create_deployment("stays:wine", saved_wine.uri)
    before = client.get_deployment("stays:wine")

    refused(lambda: client.update_deployment("stays:wine", unlike_pyfunc.uri))
    refused(lambda: client.update_deployment("stays:wine", "/no/such/folder"))
    refused(lambda: client.update_deployment("stays:wine", saved_wine.uri, config={"outputs": "nope"}))

    assert client.get_deployment("stays:wine") == before
    assert answers_as(client, "stays:wine", saved_wine)
    assert len(keys("stays:wine")) == 2


def test_an_update_of_nothing_or_of_half_is_refused(client: RedisAIClient, saved_wine: LoggedModel) -> None:
    client.create_deployment("half:wine", saved_wine.uri)

    assert refused(lambda: client.update_deployment("half:wine"))[1] == (
        "there is nothing to update; give a model URI, or options such as -C batchsize=8"
    )
    assert refused(lambda: client.update_deployment("half:wine", flavor="sklearn"))[1] == (
        "flavor 'sklearn' needs a model URI; add one, or omit the flavor"
    )
    assert refused(lambda: client.update_deployment("half:wine", config={"opset": 15}))[1] == (
        "option opset changes how a model is converted; add the model's URI, or omit the option"
    )


# -- delete ---------------------------------------------------------------------------------------


def test_a_deleted_deployment_is_gone(
    client: RedisAIClient, engine: Server, saved_wine: LoggedModel, keys: Find
) -> None:
    client.create_deployment("delete:wine", saved_wine.uri)
    client.predict("delete:wine", saved_wine.frame)

    assert client.delete_deployment("delete:wine") is None

    missing = (
        "RESOURCE_DOES_NOT_EXIST",
        f"no model named 'delete:wine' is deployed on {where(engine)}; list the deployments to see which are",
    )
    assert keys("delete:wine") == []
    assert refused(lambda: client.delete_deployment("delete:wine")) == missing
    assert refused(lambda: client.get_deployment("delete:wine")) == missing
    assert refused(lambda: client.predict("delete:wine", saved_wine.frame)) == missing
    assert "delete:wine" not in [row["name"] for row in client.list_deployments()]


def test_delete_takes_only_a_limit(client: RedisAIClient) -> None:
    assert refused(lambda: client.delete_deployment("x", config={"force": "yes"})) == (
        "INVALID_PARAMETER_VALUE",
        "delete has no option 'force'; the options are timeout",
    )


# -- list and get ---------------------------------------------------------------------------------


def test_models_of_others_list_get_predict_update_and_delete(client: RedisAIClient, engine: Server) -> None:
    store_foreign(engine, "foreign:mul", "mul.onnx", "TAG", "theirs")

    [listed] = [row for row in client.list_deployments() if row["name"] == "foreign:mul"]
    got = client.get_deployment("foreign:mul")
    left, right = np.array([[1.0, 2.0], [3.0, 4.0]]), np.full((2, 2), 10.0)
    predicted = client.predict("foreign:mul", {"a": left, "b": right})
    updated = client.update_deployment("foreign:mul", config={"batchsize": 4})

    assert listed == {
        "name": "foreign:mul",
        "flavor": None,
        "model_uri": None,
        "backend": "ONNX",
        "device": "CPU",
        "tag": "theirs",
    }
    assert (got["inputs"], got["outputs"], got["verification"]) == (["a", "b"], ["product"], None)
    assert predicted["predictions"].tolist() == (left * right).tolist()
    assert (updated["tag"], updated["batchsize"]) == ("theirs", 4)
    client.delete_deployment("foreign:mul")
    assert engine.client().exists("foreign:mul") == 0


def test_a_record_whose_model_somebody_replaced_is_ignored(
    client: RedisAIClient, engine: Server, saved_wine: LoggedModel
) -> None:
    """The client has cached the old record and must notice."""
    client.create_deployment("replaced:wine", saved_wine.uri)
    client.predict("replaced:wine", saved_wine.frame.head(1))

    store_foreign(engine, "replaced:wine")

    predicted = client.predict("replaced:wine", {"a": np.ones((1, 2)), "b": np.full((1, 2), 3.0)})
    assert predicted["predictions"].tolist() == [[3.0, 3.0]]
    assert client.get_deployment("replaced:wine")["flavor"] is None


def test_a_record_whose_model_somebody_deleted_is_ignored(
    client: RedisAIClient, engine: Server, saved_wine: LoggedModel, retrained_wine: LoggedModel, keys: Find
) -> None:
    client.create_deployment("orphan:wine", saved_wine.uri)
    client.predict("orphan:wine", saved_wine.frame.head(1))

    engine.client().delete("orphan:wine")

    assert refused(lambda: client.predict("orphan:wine", saved_wine.frame))[0] == "RESOURCE_DOES_NOT_EXIST"
    assert refused(lambda: client.get_deployment("orphan:wine"))[0] == "RESOURCE_DOES_NOT_EXIST"
    client.create_deployment("orphan:wine", retrained_wine.uri)
    assert answers_as(client, "orphan:wine", retrained_wine)
    engine.client().delete("orphan:wine")
    assert refused(lambda: client.delete_deployment("orphan:wine"))[0] == "RESOURCE_DOES_NOT_EXIST"
    assert keys("orphan:wine") == []


def test_a_record_of_a_later_version_is_told_and_can_be_deleted(
    client: RedisAIClient, engine: Server, saved_wine: LoggedModel, keys: Find
) -> None:
    client.create_deployment("later:wine", saved_wine.uri)
    engine.client().hset(record_key(b"later:wine"), "format", "99")

    code, message = refused(lambda: client.predict("later:wine", saved_wine.frame))
    [listed] = [row for row in client.list_deployments() if row["name"] == "later:wine"]

    assert code == "INVALID_STATE"
    assert listed == {"name": "later:wine", "error": message}
    client.delete_deployment("later:wine")
    assert keys("later:wine") == []


def test_get_tells_record_and_redisais_facts(client: RedisAIClient, saved_wine: LoggedModel) -> None:
    client.create_deployment("get:wine", saved_wine.uri)

    got = client.get_deployment(name="get:wine")

    assert got["name"] == "get:wine"
    assert got["model_uri"] == saved_wine.uri
    assert [column["name"] for column in json.loads(got["signature"]["inputs"])] == list(saved_wine.frame.columns)
    assert got["verification"]["rows"] == 5
    assert got["timeout"] == 30000
    assert got["input_example"]["dataframe_split"]["columns"] == list(saved_wine.frame.columns)
    shown = ["backend", "device", "tag", "batchsize", "minbatchsize", "minbatchtimeout", "inputs", "outputs"]
    assert [got[name] for name in shown] == ["ONNX", "CPU", "", 0, 0, 0, ["input"], ["label", "probabilities"]]


# -- predict --------------------------------------------------------------------------------------


def test_predictions_have_mlflows_methods(client: RedisAIClient, saved_wine: LoggedModel, tmp_path: Path) -> None:
    client.create_deployment("methods:wine", saved_wine.uri)

    predicted = client.predict(deployment_name="methods:wine", inputs=saved_wine.frame.head(2))

    assert isinstance(predicted, mlflow.deployments.PredictionsResponse)
    assert json.loads(predicted.to_json()) == {"predictions": ["class_0", "class_0"]}
    predicted.to_json(tmp_path / "answer.json")
    assert json.loads((tmp_path / "answer.json").read_text()) == {"predictions": ["class_0", "class_0"]}
    assert predicted.get_predictions("ndarray").tolist() == ["class_0", "class_0"]
    assert predicted.get_predictions("dataframe").shape == (2, 1)


@pytest.mark.parametrize("protocol", [2, 3])
def test_both_protocols_give_the_same(
    connect: Callable[..., RedisAIClient], saved_wine: LoggedModel, protocol: int
) -> None:
    client = connect(protocol=protocol)
    name = f"resp{protocol}:wine"
    client.create_deployment(name, saved_wine.uri, config={"tag": "t"})

    assert client.predict(name, saved_wine.frame)["predictions"].tolist() == saved_wine.expected().tolist()
    assert client.update_deployment(name, config={"tag": "u"})["tag"] == "u"
    assert name in [row["name"] for row in client.list_deployments()]
    client.delete_deployment(name)


def test_many_rows_go_in_chunks_and_come_back_in_order(client: RedisAIClient, saved_wine: LoggedModel) -> None:
    """About 14 MB of input: several commands, some of them at the same time."""
    frame = pd.concat([saved_wine.frame] * 800, ignore_index=True).sample(frac=1, random_state=0)
    client.create_deployment("chunks:wine", saved_wine.uri)

    predicted = client.predict("chunks:wine", frame)["predictions"]

    assert frame.to_numpy().nbytes > 3 * 4 * 1024 * 1024
    assert predicted.tolist() == saved_wine.pyfunc.predict(frame).tolist()


def test_input_that_breaks_the_signature_is_refused(client: RedisAIClient, saved_wine: LoggedModel) -> None:
    client.create_deployment("broken:wine", saved_wine.uri)

    code, message = refused(lambda: client.predict("broken:wine", saved_wine.frame.drop(columns="ash")))

    assert code == "INVALID_PARAMETER_VALUE"
    assert "ash" in message


def test_a_model_that_fails_is_told_with_the_servers_words(client: RedisAIClient, engine: Server) -> None:
    store_foreign(engine, "fails:mul")

    code, message = refused(lambda: client.predict("fails:mul", {"a": np.ones((2, 2)), "b": np.ones((3, 3))}))

    assert code == "BAD_REQUEST"
    assert message.startswith(f"the model failed on {where(engine)}: ")


def test_endpoints_are_refused_where_they_are_named(client: RedisAIClient, saved_wine: LoggedModel) -> None:
    expected = (
        "INVALID_PARAMETER_VALUE",
        "this target has no endpoints, got endpoint 'e'; omit it",
    )

    assert refused(lambda: client.create_deployment("x", saved_wine.uri, endpoint="e")) == expected
    assert refused(lambda: client.predict(inputs=saved_wine.frame, endpoint="e")) == expected
    assert refused(lambda: client.list_deployments(endpoint="e")) == expected


def test_predict_needs_a_name(client: RedisAIClient, saved_wine: LoggedModel) -> None:
    assert refused(lambda: client.predict(inputs=saved_wine.frame)) == (
        "INVALID_PARAMETER_VALUE",
        "a deployment's name must be a non-empty string, got None",
    )


# -- other behaviour ------------------------------------------------------------------------------


def test_every_method_has_mlflows_parameters() -> None:
    """MLflow's command line passes an argument only if the method's signature names it."""
    abstract = list(BaseDeploymentClient.__abstractmethods__)

    for name in abstract:
        base = list(inspect.signature(getattr(BaseDeploymentClient, name)).parameters)
        own = list(inspect.signature(getattr(RedisAIClient, name)).parameters)
        assert own == [*base, *(["params"] if name == "predict" else [])], name
    assert abstract


def test_mlflow_finds_the_client_for_every_form_of_the_target(engine: Server) -> None:
    targets = ["redisai", "redisai:/", f"redisai:/127.0.0.1:{engine.port}/0", f"redisai://127.0.0.1:{engine.port}"]

    clients = [mlflow.deployments.get_deploy_client(target) for target in targets]

    assert all(isinstance(client, RedisAIClient) for client in clients)


def test_a_client_opens_no_connection_before_it_needs_one() -> None:
    """MLflow's command line creates a client for every command."""
    assert repr(RedisAIClient("redisai://me:s3cr3t@no-such-host.invalid:1")) == (
        "RedisAIClient(Redis at no-such-host.invalid:1)"
    )

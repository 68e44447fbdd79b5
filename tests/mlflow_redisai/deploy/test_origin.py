"""Which model a URI means, by a real registry (sqlite), and what a deployment's record says of it."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from dataclasses import dataclass

import mlflow
import pytest

from mlflow_redisai import RedisAIClient
from mlflow_redisai.deploy.origin import Origin, origin_of
from redisai_engine.codec.record import record_key
from support.mlflow_models import LoggedModel, log_wine_classifier
from support.scraping import scrape
from support.servers import Server
from support.waiting import free_port, wait_until


@dataclass(frozen=True)
class Registered:
    """The registered model `moving`: its first two versions, each with its run."""

    first: LoggedModel
    runs: dict[str, str]


@pytest.fixture(scope="module")
def registered(mlflow_store: str) -> Registered:
    first = log_wine_classifier("moving")
    log_wine_classifier("moving", regularization=0.5)
    client = mlflow.MlflowClient()
    return Registered(first, {number: client.get_model_version("moving", number).run_id for number in ("1", "2")})


class TestUri:
    """Every form of a URI."""

    def test_an_alias_means_a_version_until_it_moves(self, registered: Registered) -> None:
        client = mlflow.MlflowClient()
        for number in ("1", "2"):
            client.set_registered_model_alias("moving", "champion", number)

            assert origin_of("models:/moving@champion") == Origin(
                f"models:/moving/{number}", number, registered.runs[number]
            )

    def test_a_version_means_itself(self, registered: Registered) -> None:
        assert origin_of("models:/moving/1") == Origin("models:/moving/1", "1", registered.runs["1"])

    def test_the_latest_version_is_a_version(self, registered: Registered) -> None:
        assert origin_of("models:/moving/latest") == Origin("models:/moving/2", "2", registered.runs["2"])

    @pytest.mark.parametrize("uri", ["runs:/0123/model", "/a/folder", "models:/missing/7", "models:/", "models:/a/b/c"])
    def test_of_others_the_registry_says_nothing(self, registered: Registered, uri: str) -> None:
        """Opening the model then says what is wrong."""
        assert origin_of(uri) == Origin(uri)


class TestDeployment:
    """What `get` shows."""

    def test_the_record_tells_version_run_revision_and_who(self, client: RedisAIClient, registered: Registered) -> None:
        registry = mlflow.MlflowClient()
        registry.set_registered_model_alias("moving", "champion", "1")
        created = client.create_deployment("told", "models:/moving@champion")
        registry.set_registered_model_alias("moving", "champion", "2")
        unchanged = client.get_deployment("told")
        updated = client.update_deployment("told", "models:/moving@champion")
        options = client.update_deployment("told", config={"tag": "v2"})
        client.delete_deployment("told")

        assert unchanged == created
        told = ("model_uri", "version", "run_id", "revision", "deployed_by")
        uri, who = "models:/moving@champion", getpass.getuser()
        assert [created[name] for name in told] == [uri, "1", registered.runs["1"], 1, who]
        assert [updated[name] for name in told] == [uri, "2", registered.runs["2"], 2, who]
        assert [options[name] for name in told] == [uri, "2", registered.runs["2"], 3, who]

    def test_metrics_have_the_version_as_a_label(
        self, new_engine: Callable[..., Server], registered: Registered
    ) -> None:
        port = free_port()
        engine = new_engine("--metrics-port", str(port))
        client = RedisAIClient(engine.target)
        rows = registered.first.frame.head(3)
        client.create_deployment("m", "models:/moving/1")
        client.predict("m", rows)
        wait_until(lambda: scrape(port).sum("redisai_requests_total", deployment="m", version="1") == 1, what="one")
        client.update_deployment("m", "models:/moving/2")
        client.predict("m", rows)
        client.predict("m", rows)

        wait_until(lambda: scrape(port).sum("redisai_requests_total", deployment="m", version="2") == 2, what="two")
        told = scrape(port)
        assert told.sum("redisai_requests_total", deployment="m") == 3
        assert told.values("redisai_requests_total", "deployment") == {"m"}

    def test_the_example_is_kept_as_json(self, client: RedisAIClient, engine: Server, registered: Registered) -> None:
        client.create_deployment("with:example", registered.first.uri)
        kept = engine.client().hget(record_key(b"with:example"), "example")
        example = json.loads(kept)
        frame = registered.first.frame.head(5)

        assert example["dataframe_split"]["columns"] == list(frame.columns)
        assert client.predict("with:example", example).get_predictions().tolist() == ["class_0"] * 5

"""The names that users import are few. They are listed here, and change only on purpose."""

from __future__ import annotations

import inspect

from mlflow.deployments import BaseDeploymentClient

import mlflow_redisai


def test_the_plugin_exports_what_mlflow_asks_for_and_its_version() -> None:
    assert sorted(mlflow_redisai.__all__) == ["RedisAIClient", "__version__", "run_local", "target_help"]


def test_mlflow_finds_exactly_one_client_class_in_the_plugin() -> None:
    """MLflow inspects the module's attributes and refuses a plugin with two client classes."""
    clients = [
        value
        for _, value in inspect.getmembers(mlflow_redisai, inspect.isclass)
        if issubclass(value, BaseDeploymentClient) and value is not BaseDeploymentClient
    ]

    assert clients == [mlflow_redisai.RedisAIClient]


def test_every_exported_name_says_what_it_is() -> None:
    for name in set(mlflow_redisai.__all__) - {"__version__"}:
        assert inspect.getdoc(getattr(mlflow_redisai, name)), name


def test_the_package_declares_its_entry_points() -> None:
    """MLflow finds the plugin through `mlflow.deployments`; `redisai-engine` starts the engine."""
    from importlib.metadata import entry_points

    assert [point.value for point in entry_points(group="mlflow.deployments", name="redisai")] == ["mlflow_redisai"]
    assert [point.value for point in entry_points(group="console_scripts", name="redisai-engine")] == [
        "redisai_engine.cli:main"
    ]

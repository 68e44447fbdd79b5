"""
MLflow's deployment plugin for Redis: the target `redisai` of `mlflow deployments`.

MLflow imports this module and inspects its names. It expects `run_local`, `target_help` and exactly one client class.
Heavy packages are imported only when a call needs them.
"""

from __future__ import annotations

from mlflow_redisai._version import __version__
from mlflow_redisai.client import RedisAIClient
from mlflow_redisai.help import target_help
from mlflow_redisai.local import run_local

__all__ = ["RedisAIClient", "__version__", "run_local", "target_help"]

"""
MLflow's deployment plugin for Redis: the target `redisai` of `mlflow deployments`.

MLflow loads this module and looks through its names: exactly one client class may stand here, beside `run_local` and
`target_help`. Nothing heavy is imported before a call needs it.
"""

from __future__ import annotations

from mlflow_redisai._version import __version__
from mlflow_redisai.client import RedisAIClient
from mlflow_redisai.help import target_help
from mlflow_redisai.local import run_local

__all__ = ["RedisAIClient", "__version__", "run_local", "target_help"]

"""
RedisAI's commands. Importing this package registers them in the table.

A command is a row (`commands.table`) and a body, which lives in the module of its family.
"""

from redisai_engine.commands.ai import admin, dag, model, run, script, script_run, tensor  # noqa: F401

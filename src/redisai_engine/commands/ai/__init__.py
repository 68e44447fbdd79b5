"""
The commands of RedisAI; importing this package enters them in the table.

A command is a row (`commands.table`) and a body, in the module of its family.
"""

from redisai_engine.commands.ai import admin, dag, model, run, script, script_run, tensor  # noqa: F401

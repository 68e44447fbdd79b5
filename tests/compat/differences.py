"""
The scenarios in which the engine differs from RedisAI 1.2.7 for good, each with the reason.

What the engine does instead is shown by the tests in `test_differences.py` that name the scenario.
"""

from __future__ import annotations

DIFFERENCES: dict[str, str] = {
    "admin/lua_tensor": "only a module inside Redis can be called from Lua",
    "admin/lua_modelexecute": "only a module inside Redis can be called from Lua",
    "admin/select_model": "RedisAI looks for models and inputs in database 0 whatever was selected",
    "admin/acl_categories": "stock Redis has no rights to AI commands; they follow those to the plain commands",
    "admin/acl_single_commands": "stock Redis has no rights to AI commands; they follow those to the plain commands",
    "admin/acl_modelexecute_keys": "RedisAI's AI._MODELSCAN shows models that the user has no right to",
    "admin/keyspace_events": "Redis tells of the SET in AI.TENSORSET; RedisAI tells of no write of its own",
    "tensor/other_commands_on_tensor": "a tensor is a string to Redis, so GET, APPEND and STRLEN take it",
    "dag/timeout_behind_slow": "RedisAI has one queue per device; here no model waits for another",
    "batching/timeout_behind_slow_run": "RedisAI has one queue per device; here no model waits for another",
    "model/type_rename_model": "RedisAI's AI._MODELSCAN and AI.INFO keep a model's name from before RENAME",
}

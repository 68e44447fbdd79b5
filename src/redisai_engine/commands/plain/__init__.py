"""
Plain commands that the engine must see although Redis answers them; importing this package enters them in the table.
"""

from redisai_engine.commands.plain import acl, command, lua, modules, plain, restore, scan  # noqa: F401

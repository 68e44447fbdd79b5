"""
The commands that the engine answers; importing this package enters all of them in the table.

A command is a row (`table.command`) and a body, in the module of its family.
"""

from redisai_engine.commands import (  # noqa: F401
    acl,
    admin,
    command,
    dag,
    lua,
    model,
    modules,
    plain,
    restore,
    run,
    scan,
    script,
    script_run,
    tensor,
)

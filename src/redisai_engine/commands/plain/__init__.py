"""
Plain commands that the engine must see although Redis answers them. Importing this package registers them in the table.
"""

from redisai_engine.commands.plain import (  # noqa: F401
    acl,
    command,
    connection,
    keys,
    lua,
    modules,
    restore,
    scan,
    streams,
    transactions,
)

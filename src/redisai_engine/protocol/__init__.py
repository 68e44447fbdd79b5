"""
What both halves of the project know about RedisAI: dtypes, tensors, replies and texts.

Does no I/O and imports no framework, so that the plugin may use it without an engine.
"""

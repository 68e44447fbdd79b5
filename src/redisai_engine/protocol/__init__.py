"""
What both halves of the project know about RedisAI: dtypes, tensors, requests, replies and error texts.

The package does no I/O and imports no framework, so the plugin can use it without an engine.
"""

"""Redis as the engine uses it: its address, connections to it, invalidation messages, and the format of stored keys."""

"""Redis as the engine uses it: where it is, connections to it, its tracking messages, and how our keys look there."""

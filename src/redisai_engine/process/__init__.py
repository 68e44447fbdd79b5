"""The life cycle of the engine's processes: start, serve, drain, exit; and worker processes that share a port."""

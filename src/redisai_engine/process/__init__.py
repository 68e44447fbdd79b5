"""The life of the engine's processes: start, serve, drain, leave; several workers behind one port."""

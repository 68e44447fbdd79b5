"""
Hosts: processes of their own in which models and scripts run that a thread can't stop and the engine doesn't trust.

`models.py` and `scripts.py` are what the engine sees: a backend like any other. `process.py` is one host, `parent.py`
the process that all hosts of a framework are forked from, both as the engine sees them. The programs on the other side
are `forking.py` and `worker.py`, with `limits.py` and `filter.py` for what a host may do. `frames.py` is what the two
sides send each other.
"""

"""
Hosts that several small models of one backend share, because a process of its own costs each more than the model does.

`models.py` is what the engine sees: a model that usually has a seat in such a host, and sometimes a host of its own.
`seats.py` is the shared host and its seats as the engine sees them. What runs in that process is `hosts/worker.py`.
"""

"""
Runs models: a queue for each device, batches formed from what waits, threads, and the event loop's run phase.

`job.py` has the data structures, `device_queue.py` and `batching.py` decide what runs next and together (no threads,
no clocks of their own), `threads.py` and `executor.py` run it.
"""

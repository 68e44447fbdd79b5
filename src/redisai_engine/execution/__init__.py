"""
Execution of models: a queue per device, batches formed from waiting requests, threads, and the event loop's run phase.

`job.py` has the data structures. `device_queue.py` and `batching.py` decide which jobs run next and which run together;
they have no threads and no clocks. `threads.py` and `executor.py` run the jobs.
"""

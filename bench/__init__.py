"""
Measurements: scenarios, each with a baseline, and the load generator that they share.

Results are in bench/results/.
"""

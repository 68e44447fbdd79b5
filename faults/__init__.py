"""
Faults: real processes that are killed, stopped, filled or cut off under load, and what their clients saw of it.

`scripts/test --faults` runs them all and writes `docs/reliability.md`. A scenario has failed if a write that was
acknowledged is lost, an answer is wrong, or the engine doesn't serve again.
"""

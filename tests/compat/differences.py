"""
The scenarios in which the engine differs from RedisAI 1.2.7 for good, each with the reason.

What the engine does instead is shown by tests in `test_differences.py` that name the scenario.
"""

from __future__ import annotations

DIFFERENCES: dict[str, str] = {}

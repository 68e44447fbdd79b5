"""
The commands that the engine handles itself: their tables, the steps that a body may yield, and the task that runs it.

The bodies are in `ai` and `plain`. Importing those packages registers their commands in the tables.
"""

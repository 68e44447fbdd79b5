"""
The commands that the engine sees: the table, what bodies may ask for, and what carries them out.

The bodies are in `ai` and `plain`; importing those enters their commands in the table.
"""

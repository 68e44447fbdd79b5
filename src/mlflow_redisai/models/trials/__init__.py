"""Trials of a conversion on this machine, before it is trusted."""

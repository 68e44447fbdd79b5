"""Environments for Python models: interpreters with the packages that a model wants, built where it will run."""

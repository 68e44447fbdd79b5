"""The version of the distribution. It is written nowhere else."""

__version__ = "0.1.0"

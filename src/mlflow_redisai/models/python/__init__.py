"""Models that run as Python: the folder that MLflow logged, as an archive, and the environment that it runs in."""

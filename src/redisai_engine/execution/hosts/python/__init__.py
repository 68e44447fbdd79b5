"""
Python models: any MLflow model, run by workers with the Python of the model's own environment.

`models.py` is what the engine sees. `archive.py` reads what a blob asks for, `workers.py` looks after the workers of
one model, `starting.py` starts them and knows them all. `program.py` is what a worker runs: the one file here that the
engine never imports.
"""

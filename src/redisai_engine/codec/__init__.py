"""
Frames, arrays and JSON → tensors and back, by a deployment's mapping. Does no I/O and knows nothing of MLflow.
"""

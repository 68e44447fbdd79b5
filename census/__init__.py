"""
The census: models of every kind, saved with MLflow, converted, and compared with `mlflow.pyfunc` on a thousand rows.

`scripts/census` runs it. It is not part of the package: it only uses it, as a user's model would.
"""

"""MLflow model → something the server runs; `choice` is where it begins."""

"""Conversion of MLflow models to what the server runs. It begins in `deploy.choice`."""

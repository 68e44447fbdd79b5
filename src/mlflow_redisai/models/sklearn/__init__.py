"""Estimators and pipelines of scikit-learn."""

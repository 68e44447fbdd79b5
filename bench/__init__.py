"""Measurements: scenarios with a baseline each, and the load generator they share. Results are in bench/results/."""

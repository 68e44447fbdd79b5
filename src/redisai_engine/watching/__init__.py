"""What an operator sees: metrics, health, and an hour of figures. Knows no HTTP beyond the port for Prometheus."""

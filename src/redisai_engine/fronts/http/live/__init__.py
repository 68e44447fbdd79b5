"""What is watched, over HTTP: metrics, health, statistics, and the live page."""

"""What the table of settings (`redisai_engine/config.py`) is made of."""

"""What all routes share: who asks, over which connection to Redis, and what an error is in HTTP."""

"""The tiny model behind each rival, in a few lines each. Each runs in its own environment."""

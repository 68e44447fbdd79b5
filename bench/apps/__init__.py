"""The tiny model behind each rival, a few lines each. They run in environments of their own."""

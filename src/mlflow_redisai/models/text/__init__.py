"""Models that take text: the client makes the tokens, the server runs the network."""

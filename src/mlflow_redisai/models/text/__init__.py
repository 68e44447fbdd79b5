"""Models that take text: the client tokenizes, the server runs the network."""

"""Redis' protocol: one session a connection, requests in, replies out, in order."""

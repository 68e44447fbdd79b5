"""The front for Redis' protocol: one session per connection, requests in, replies out, in order."""

"""A user's input → one request → pyfunc's answer."""

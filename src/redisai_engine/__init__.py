"""The engine: answers RedisAI's commands over Redis' protocol in front of any stock Redis or Valkey."""

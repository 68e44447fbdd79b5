"""The engine: a server that answers RedisAI's commands over RESP, in front of any stock Redis or Valkey."""

import os

# ONNX Runtime's official builds write a device id under ~/.cache and report to Microsoft, unless this variable is set
# before the first import. The plugin and everything else that may import ONNX Runtime imports this package first. A
# value that the user has set is kept.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

"""The engine: answers RedisAI's commands over Redis' protocol in front of any stock Redis or Valkey."""

import os

# ONNX Runtime's official builds write a device's id below ~/.cache and report to Microsoft, unless this stands in the
# environment before the first import. The plugin and everything else that may import it comes by here. A user's own
# value stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

"""Models that were logged as ONNX graphs."""

"""Models that are ONNX graphs already."""

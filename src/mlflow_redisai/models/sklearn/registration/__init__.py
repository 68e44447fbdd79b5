"""The registration of our own converters with skl2onnx."""

"""Changes to ONNX graphs that let an old ONNX Runtime load them and answer as a new one."""

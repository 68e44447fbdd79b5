"""Our own converters of scikit-learn's estimators, in place of those of skl2onnx that round or drop something."""

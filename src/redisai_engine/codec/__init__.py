"""
Conversion between DataFrames, arrays or JSON and tensors, by a deployment's mapping. Does no I/O, knows no MLflow.

In reading order: `mapping`; `encoder` with `envelopes`, `fields`, `values` and `tokens`; `answers`; `prediction`;
`compare`. A mapping is read from a `record`, or made by `onnx_types` if there is none.
"""

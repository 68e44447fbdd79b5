"""
Frames, arrays and JSON → tensors and back, by a deployment's mapping. Does no I/O and knows nothing of MLflow.

In reading order: `mapping`; `encoder` with `envelopes`, `fields`, `values` and `tokens`; `answers`; `prediction`;
`compare`. A mapping comes out of a `record`, or from `onnx_types` where there is none.
"""

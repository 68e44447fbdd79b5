"""Open Inference Protocol V2 (KServe, Triton): requests and answers, tensors, routes."""

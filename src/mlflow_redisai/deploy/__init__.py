"""From a model URI to a deployment that was seen to answer rightly."""

"""The front that speaks HTTP: Open Inference V2 and MLflow's scoring protocol."""

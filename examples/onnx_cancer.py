"""
Export a classifier to ONNX, log the ONNX model, deploy it, and check its answers against MLflow's own.

    python examples/onnx_cancer.py redisai://127.0.0.1:6379/0

An ONNX model keeps the names of its outputs: pyfunc's answer is a frame with a column for each, and so is the
deployment's. Exits with code 1 if a deployed model's answer differs from mlflow.pyfunc's.
"""

import logging
import sys

import mlflow
import numpy as np
from mlflow.deployments import get_deploy_client
from mlflow.models import infer_signature
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier

target = sys.argv[1]
for chatty in ("alembic", "mlflow"):
    logging.getLogger(chatty).setLevel(logging.ERROR)

# 569 tumours, 30 columns. Every other row is held out. The graph takes one tensor, named X.
data = load_breast_cancer()
rows = data.data.astype(np.float32)
# An odd number of trees: with an even number the votes could be tied, and rounding would decide.
forest = RandomForestClassifier(51, random_state=0).fit(rows[::2], data.target_names[data.target][::2])
graph = to_onnx(forest, rows[:1], options={"zipmap": False}, target_opset={"": 15, "ai.onnx.ml": 3})

example = {"X": rows[:4]}
info = mlflow.onnx.log_model(graph, name="cancer", signature=infer_signature(example), input_example=example)

client = get_deploy_client(target)
client.create_deployment("cancer", info.model_uri)
held_out = {"X": rows[1::2]}
served = client.predict("cancer", held_out).get_predictions()
expected = mlflow.pyfunc.load_model(info.model_uri).predict(held_out)
client.delete_deployment("cancer")

same = (served["label"] == expected["label"]).all()
difference = np.abs(served["probabilities"] - expected["probabilities"]).max()
print(f"{len(served['label'])} labels are {'the same' if same else 'NOT the same'} as mlflow.pyfunc's")
print(f"largest difference of a probability: {difference:.1e}")
sys.exit(not (same and difference < 1e-6))

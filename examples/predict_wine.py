"""
Predict with a deployed model from Python, and with MLflow's own pyfunc, and compare the answers.

    python examples/predict_wine.py redisai://127.0.0.1:6379/0 models:/wine@champion [answers.json]

If a file is given that `mlflow deployments predict -O` has written for the same rows, it is compared as well. Exits
with code 1 if any answer differs.
"""

import json
import sys

import mlflow
from mlflow.deployments import get_deploy_client
from sklearn.datasets import load_wine

target, model_uri, *files = sys.argv[1:]
wines = load_wine(as_frame=True).data

client = get_deploy_client(target)
answer = client.predict(deployment_name="wine", inputs=wines)
served = answer.get_predictions()

expected = mlflow.pyfunc.load_model(model_uri).predict(wines)

print(f"first answers: {served[:3].tolist()}")
answers = {"from Python": served.tolist()}
for file in files:
    with open(file) as opened:
        answers[f"in {file}"] = json.load(opened)["predictions"]

for where, given in answers.items():
    equal = sum(one == other for one, other in zip(given, expected, strict=True))
    print(f"{equal} of {len(expected)} predictions {where} equal mlflow.pyfunc's")
    if equal != len(expected):
        sys.exit(1)

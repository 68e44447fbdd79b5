"""
Train the same regression with XGBoost, LightGBM and CatBoost, deploy all three, and check their answers.

    python examples/boosted_diabetes.py redisai://127.0.0.1:6379/0

A fifth of all cells is empty. Each of the three libraries treats gaps in its own way, and so does the deployed model.
Exits with code 1 if a deployed model's answer differs from mlflow.pyfunc's.
"""

import logging
import sys

import catboost
import lightgbm
import mlflow
import numpy as np
import xgboost
from mlflow.deployments import get_deploy_client
from mlflow.models import infer_signature
from sklearn.datasets import load_diabetes

target = sys.argv[1]
for chatty in ("alembic", "mlflow"):
    logging.getLogger(chatty).setLevel(logging.ERROR)

# 442 patients, 10 columns. Every other row is held out.
data = load_diabetes(as_frame=True)
patients = data.data.mask(np.random.default_rng(0).random(data.data.shape) < 0.2)
held_out = patients[1::2]
models = {
    "xgboost": xgboost.XGBRegressor(n_estimators=50),
    "lightgbm": lightgbm.LGBMRegressor(n_estimators=50, verbose=-1),
    "catboost": catboost.CatBoostRegressor(n_estimators=50, verbose=0, allow_writing_files=False),
}

client = get_deploy_client(target)
equal = True
for name, model in models.items():
    model.fit(patients[::2], data.target[::2])
    # MLflow saves LightGBM's scikit-learn models as pickles only on request.
    options = {"serialization_format": "cloudpickle"} if name == "lightgbm" else {}
    log = getattr(mlflow, name).log_model
    info = log(model, name=name, signature=infer_signature(patients), input_example=patients[:4], **options)

    client.create_deployment(name, info.model_uri)
    served = client.predict(name, held_out).get_predictions()
    expected = mlflow.pyfunc.load_model(info.model_uri).predict(held_out)
    client.delete_deployment(name)

    difference = np.abs(served - expected).max() / np.abs(expected).max()
    equal &= difference < 1e-5
    print(f"{name}: {len(served)} patients, largest difference from mlflow.pyfunc {difference:.1e}")
sys.exit(not equal)

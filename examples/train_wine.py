"""
Train a classifier of wines and log it to MLflow, with everything that a deployment can use.

    python examples/train_wine.py [--regularization 1.0]

The model is registered as `wine`, and the alias `champion` is moved to the new version. Rows to predict are written to
rows.json (three rows) and all-rows.json.
"""

import argparse
import logging

import mlflow
from mlflow.models import infer_signature
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

parser = argparse.ArgumentParser()
parser.add_argument("--regularization", type=float, default=1.0, help="strength, as LogisticRegression's 1/C")
strength = parser.parse_args().regularization
for chatty in ("alembic", "mlflow"):
    logging.getLogger(chatty).setLevel(logging.ERROR)

# 178 wines, 13 named columns. The class of each wine is a word.
wines = load_wine(as_frame=True)
labels = wines.target_names[wines.target]
model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / strength)).fit(wines.data, labels)

# With the signature, the deployment checks and converts its inputs. The deployment is verified on the input example:
# the model takes its name only if its answer to these rows equals MLflow's own.
info = mlflow.sklearn.log_model(
    model,
    name="wine",
    signature=infer_signature(wines.data, model.predict(wines.data)),
    input_example=wines.data.head(5),
    registered_model_name="wine",
)
mlflow.MlflowClient().set_registered_model_alias("wine", "champion", info.registered_model_version)

wines.data.iloc[[0, 60, 140]].to_json("rows.json", orient="records")
wines.data.to_json("all-rows.json", orient="records")
print(
    f"models:/wine@champion is version {info.registered_model_version}, accuracy {model.score(wines.data, labels):.3f}"
)

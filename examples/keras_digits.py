"""
Train a Keras network on handwritten digits, log it to MLflow, deploy it, and compare the answers of both.

    python examples/keras_digits.py redisai://127.0.0.1:6379

The server runs ONNX by default, the TensorFlow graph with `--backend TF`, and a TensorFlow Lite model with `--backend
TFLITE`. Exits with code 1 if any answer differs.
"""

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import mlflow
import numpy as np
from mlflow.deployments import get_deploy_client
from mlflow.models import infer_signature
from sklearn.datasets import load_digits

parser = argparse.ArgumentParser()
parser.add_argument("target", help="where the model is to be served")
parser.add_argument("--backend", default="auto", help="auto, ONNX, TF or TFLITE")
arguments = parser.parse_args()

# 1797 images of 8 x 8 pixels. The last 500 are held out.
digits = load_digits()
images, labels = (digits.images / 16).astype(np.float32), digits.target
model = keras.Sequential(
    [
        keras.Input((8, 8)),
        keras.layers.Reshape((8, 8, 1)),
        keras.layers.Conv2D(16, 3, activation="gelu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, "softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(images[:-500], labels[:-500], epochs=5, verbose=0)

# The signature says that any number of images may come. The deployment is verified on the input example. (MLflow's
# flavor keras, mlflow.keras.log_model, works as well, but in MLflow 3.17 it fails on input examples.)
info = mlflow.tensorflow.log_model(
    model, name="digits", signature=infer_signature(images), input_example=images[:3], pip_requirements=["tensorflow"]
)

client = get_deploy_client(arguments.target)
deployed = client.create_deployment("keras-digits", info.model_uri, config={"backend": arguments.backend})
print(f"deployed with backend {deployed['backend']}")

served = client.predict("keras-digits", images[-500:]).get_predictions()
expected = mlflow.pyfunc.load_model(info.model_uri).predict(images[-500:])
difference = float(np.abs(served - expected).max())
print(f"{(served.argmax(1) == labels[-500:]).mean():.0%} of 500 digits recognized correctly")
print(f"largest difference from mlflow.pyfunc: {difference:.1e}")
client.delete_deployment("keras-digits")
sys.exit(difference > 1e-5)

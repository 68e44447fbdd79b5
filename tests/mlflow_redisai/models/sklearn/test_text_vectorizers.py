"""Text pipelines split, lower and count words as scikit-learn does, in any script, on lines not used in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlflow_redisai.errors import NotConvertible
from support.local_runs import Deployed, deploy, save_sklearn

# Words of one letter, capitals and letters of other scripts, and empty text.
HARD = [
    "a b",
    "",
    "x",
    "É a Élan VITAL ÜBER a  größe Москва 9",
    "über größe élan москва vital x_y ÀÉ",
    "...",
    "Δ δώρο ΔΏΡΟ",
]


def lines() -> tuple[np.ndarray, np.ndarray]:
    """Return the lines of scikit-learn's descriptions of its data sets, along with hard ones, and a label for each."""
    text, labels = list(HARD * 4), ["hard"] * len(HARD) * 4
    for load in (load_wine, load_breast_cancer, load_diabetes, load_iris, load_digits):
        found = [line.strip() for line in load().DESCR.splitlines() if line.strip()]
        text += found
        labels += [load.__name__] * len(found)
    return np.array(text), np.array(labels)


def deployed_of(vectorizer: Any, path: Path) -> Deployed:
    text, labels = lines()
    steps = [vectorizer] if isinstance(vectorizer, TfidfVectorizer) else [vectorizer, TfidfTransformer()]
    steps = [CountVectorizer(), vectorizer] if isinstance(vectorizer, TfidfTransformer) else steps
    model = make_pipeline(*steps, LogisticRegression()).fit(text[::2], labels[::2])
    return deploy(save_sklearn(path / "m", model, text, pyfunc_predict_fn="predict_proba"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "vectorizer",
    [
        TfidfVectorizer(),
        TfidfVectorizer(lowercase=False),
        TfidfVectorizer(ngram_range=(1, 2), min_df=2),
        TfidfVectorizer(stop_words="english", max_features=80),
        TfidfVectorizer(norm="l1", use_idf=False),
        TfidfVectorizer(sublinear_tf=True),
        TfidfVectorizer(norm=None, sublinear_tf=True),
        make_pipeline(CountVectorizer(), TfidfTransformer(sublinear_tf=True)),
        TfidfVectorizer(token_pattern=r"\w+"),
        TfidfVectorizer(token_pattern=r"(?u)\b\w+\b"),
        TfidfVectorizer(token_pattern=r"[a-zA-Z]+"),
        CountVectorizer(),
        CountVectorizer(binary=True),
    ],
    ids=str,
)
def test_words_are_found_as_scikit_learn_finds_them(vectorizer: Any, tmp_path: Path) -> None:
    deployed = deployed_of(vectorizer, tmp_path)

    deployed.assert_equals_pyfunc(lines()[0])


def test_text_as_objects(tmp_path: Path) -> None:
    """The values of a frame's column, which get a signature of one tensor of objects."""
    text, labels = lines()
    column = pd.Series(text, dtype=object)
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(column[::2], labels[::2])

    deployed = deploy(save_sklearn(tmp_path / "m", model, column.to_numpy()))

    for inputs in (column.to_numpy(), column, column.to_frame()):
        deployed.assert_equals_pyfunc_exactly(inputs)


def test_a_column_of_text_beside_numbers(tmp_path: Path) -> None:
    text, labels = lines()
    frame = pd.DataFrame({"text": text.astype(object), "length": [float(len(line)) for line in text]})
    columns = ColumnTransformer([("text", TfidfVectorizer(), "text"), ("numbers", StandardScaler(), ["length"])])
    model = make_pipeline(columns, LogisticRegression()).fit(frame[::2], labels[::2])

    deploy(save_sklearn(tmp_path / "m", model, frame)).assert_equals_pyfunc_exactly(frame)


def test_no_locale_of_a_language_is_asked_for(tmp_path: Path) -> None:
    """A small image has C.UTF-8, but not en_US.UTF-8, ONNX Runtime's default."""
    import onnx

    proto = onnx.load_from_string(deployed_of(TfidfVectorizer(), tmp_path).deployable.blob)

    [normalizer] = [node for node in proto.graph.node if node.op_type == "StringNormalizer"]
    assert [item.s for item in normalizer.attribute if item.name == "locale"] == [b"C.UTF-8"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("vectorizer", "reason"),
    [
        (TfidfVectorizer(analyzer="char"), "analyzer='char' can't be expressed in ONNX; use analyzer='word'"),
        (TfidfVectorizer(strip_accents="ascii"), "strip_accents='ascii' can't be expressed in ONNX"),
        (TfidfVectorizer(preprocessor=str.strip), "preprocessor=.* can't be expressed in ONNX"),
        (TfidfVectorizer(stop_words="english", ngram_range=(1, 2)), "stop_words and ngram_range together"),
        (TfidfVectorizer(token_pattern=r"a|ab|[a-z]+"), r"token_pattern='a\|ab\|\[a-z\]\+' may match differently"),
        (HashingVectorizer(n_features=64), "no ONNX operator hashes words; use TfidfVectorizer or CountVectorizer"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_what_a_graph_cannot_do_is_told_with_the_step(vectorizer: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(NotConvertible, match=rf"step \w+ \(\w+\): {reason}"):
        deployed_of(vectorizer, tmp_path)

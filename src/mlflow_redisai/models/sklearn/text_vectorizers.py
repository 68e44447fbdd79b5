"""
scikit-learn's text vectorizers in ONNX: which ones a graph computes exactly, and the options of skl2onnx for that.

By default, skl2onnx keeps words of one letter, knows only ASCII letters, and asks for the locale en_US.UTF-8, which
small images lack. A graph splits text with RE2, which finds the longest match and has no look-around. Patterns for
which that makes a difference are refused. So are steps before or after the splitting that have no ONNX operator.
"""

from __future__ import annotations

from typing import Any

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.sklearn.estimators import parts

# scikit-learn's default, and the same for RE2: words of at least two letters, digits or underscores of any script.
# Words of a single letter are the other pattern whose boundaries RE2 needs no sign for: both take all they can.
_PLAIN = {r"(?u)\b\w\w+\b": r"[\p{L}\p{N}_]{2,}", r"(?u)\b\w+\b": r"[\p{L}\p{N}_]+"}

# Classes in Python's patterns, and the same characters for RE2.
_CLASSES = {r"\w": r"[\p{L}\p{N}_]", r"\d": r"\p{Nd}"}
# Parts of patterns that RE2 may match differently from Python.
_DIFFERENT = ("(", ")", "|", r"\b", r"\B", "^", "$", "?")

# It lowers the capital letters of all scripts, and is part of every image with glibc.
_LOCALE = "C.UTF-8"


def vectorizer_options(estimator: Any) -> dict[int, dict[str, Any]]:
    """Return skl2onnx's options by the id of the step. Raise NotConvertible, naming a step that ONNX can't express."""
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer

    options = {}
    for path, step in parts(estimator):
        if not isinstance(step, (CountVectorizer, HashingVectorizer, TfidfTransformer)):
            continue
        reason = _why_not(step)
        if reason:
            raise NotConvertible(f"step {path or type(step).__name__} ({type(step).__name__}): {reason}")
        if not isinstance(step, TfidfTransformer):
            options[id(step)] = {"tokenexp": _expression(step.token_pattern), "locale": _LOCALE}
    return options


def _why_not(step: Any) -> str | None:
    # A TfidfTransformer only weights what other steps have counted.
    if not hasattr(step, "analyzer"):
        return None
    if not hasattr(step, "vocabulary_"):
        return "no ONNX operator hashes words; use TfidfVectorizer or CountVectorizer"
    for name in ("preprocessor", "tokenizer", "strip_accents"):
        if getattr(step, name) is not None:
            return f"{name}={getattr(step, name)!r} can't be expressed in ONNX"
    if step.analyzer != "word":
        return f"analyzer={step.analyzer!r} can't be expressed in ONNX; use analyzer='word'"
    if step.stop_words is not None and step.ngram_range != (1, 1):
        return "stop_words and ngram_range together can't be expressed in ONNX, which can't leave out stop words"
    return _why_not_pattern(step.token_pattern)


def _why_not_pattern(pattern: str) -> str | None:
    plain = pattern.removeprefix("(?u)")
    different = [each for each in _DIFFERENT if each in plain.replace("\\\\", "")]
    if pattern in _PLAIN or not different:
        return None
    return (
        f"token_pattern={pattern!r} may match differently in ONNX ({', '.join(different)}); "
        "use the default or a plain character class such as [a-z]+"
    )


def _expression(pattern: str) -> str:
    if pattern in _PLAIN:
        return _PLAIN[pattern]
    plain = pattern.removeprefix("(?u)")
    for ours, theirs in _CLASSES.items():
        plain = plain.replace(ours, theirs)
    return plain

"""
scikit-learn's text vectorizers as ONNX: which of them the graph computes exactly, and the options that make it so.

skl2onnx's own choices keep words of one letter, know ASCII letters only, and ask for the locale en_US.UTF-8, which
small images don't have. A graph splits with RE2, which finds the longest match and has no look-around; patterns where
that makes a difference are refused, and so is what happens to the text before or after splitting and has no operator.
"""

from __future__ import annotations

from typing import Any

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.sklearn.estimators import parts

# scikit-learn's default: words of two letters or more, where `\w` is any letter, digit or underscore of Unicode.
_DEFAULT = r"(?u)\b\w\w+\b"
_WORDS = r"[\p{L}\p{N}_]{2,}"

# What Python's patterns and RE2 read alike; anything else may be split differently.
_CLASSES = {r"\w": r"[\p{L}\p{N}_]", r"\d": r"\p{Nd}"}
_DIFFERENT = ("(", ")", "|", r"\b", r"\B", "^", "$", "?")

# Knows the capital letters of all scripts, and stands in every image of glibc.
_LOCALE = "C.UTF-8"


def vectorizer_options(estimator: Any) -> dict[int, dict[str, Any]]:
    """Return skl2onnx's options by step. Raise NotConvertible naming a step that no graph computes."""
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
    # skl2onnx takes the logarithm of other numbers than scikit-learn.
    if getattr(step, "sublinear_tf", False):
        return "sublinear_tf=True has no converter that is right"
    # A TfidfTransformer only weighs what others have counted.
    if not hasattr(step, "analyzer"):
        return None
    if not hasattr(step, "vocabulary_"):
        return "no ONNX operator hashes words; use TfidfVectorizer or CountVectorizer"
    for name in ("preprocessor", "tokenizer", "strip_accents"):
        if getattr(step, name) is not None:
            return f"{name}={getattr(step, name)!r} has no form in ONNX"
    if step.analyzer != "word":
        return f"analyzer={step.analyzer!r} has no form in ONNX; use analyzer='word'"
    if step.stop_words is not None and step.ngram_range != (1, 1):
        return "stop_words and ngram_range together have no form in ONNX, where stop words can't be left out"
    return _why_not_pattern(step.token_pattern)


def _why_not_pattern(pattern: str) -> str | None:
    plain = pattern.removeprefix("(?u)")
    different = [each for each in _DIFFERENT if each in plain.replace("\\\\", "")]
    if pattern == _DEFAULT or not different:
        return None
    return (
        f"token_pattern={pattern!r} may be read differently in ONNX ({', '.join(different)}); "
        "use the default or a plain class of characters, as [a-z]+"
    )


def _expression(pattern: str) -> str:
    if pattern == _DEFAULT:
        return _WORDS
    plain = pattern.removeprefix("(?u)")
    for ours, theirs in _CLASSES.items():
        plain = plain.replace(ours, theirs)
    return plain

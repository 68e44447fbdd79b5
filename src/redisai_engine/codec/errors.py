"""
The codec's errors: one tree that depends on no framework.

    CodecError
    ├── InputMismatch          the input doesn't match the model's signature
    ├── PackageNotInstalled    a package that is needed to encode this input isn't installed
    ├── UnreadableMapping      the mapping was written by a newer version
    ├── DamagedMapping         the mapping is none that this plugin has written
    ├── UnknownRecordFormat    the deployment's record was written by another version
    ├── UnusableOutput         an output of a model that another client stored is not a tensor
    └── AnswerMismatch         the server's tensors are not those of the deployed model
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redisai_engine.protocol.tensor import Tensor


class CodecError(ValueError):
    """Base class of all errors that the codec raises."""


class InputMismatch(CodecError):
    """The input doesn't match the model's signature. The message names the column or tensor."""


class PackageNotInstalled(CodecError):
    """A package that is needed to encode this input isn't installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f'{what} needs the package {package}, which isn\'t installed; pip install "mlflow-redisai[{extra}]"'
        )


class UnreadableMapping(CodecError):
    """The mapping was written by a newer version."""

    def __init__(self, found: object, newest: int) -> None:
        super().__init__(
            f"the record's mapping has format {found!r}, but this version reads formats up to {newest}; "
            "upgrade mlflow-redisai"
        )


class DamagedMapping(CodecError):
    """The mapping is none that this plugin has written: somebody else has changed the record."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the record's mapping is damaged: {reason}; deploy the model again")


class UnknownRecordFormat(CodecError):
    """The deployment's record was written by another version."""

    def __init__(self, found: object, known: int) -> None:
        super().__init__(
            f"the deployment's record has format {found!r}, but this version reads only format {known}; "
            "upgrade with pip install --upgrade mlflow-redisai"
        )


class UnusableOutput(CodecError):
    """An output of a model that another client stored is not a tensor."""

    def __init__(self, model: str, output: str) -> None:
        super().__init__(
            f"the model {model!r} can't be used for predictions: its output {output!r} is not a tensor; deploy it with "
            "mlflow-redisai, or convert it without ZipMap"
        )


class AnswerMismatch(CodecError):
    """The server's tensors are not those of the deployed model."""

    def __init__(self, tensors: Sequence[Tensor], reason: str) -> None:
        shown = ", ".join(f"{tensor.dtype.name} {tensor.shape}" for tensor in tensors)
        super().__init__(f"the server answered {shown}, which doesn't fit the deployment: {reason[:200]}")

"""
What can go wrong between a user's input and tensors: one tree of errors, of no framework.

    CodecError
    ├── InputMismatch          the input breaks the model's signature; the sentence names the column or tensor
    ├── PackageNotInstalled    a package that turns this input into tensors isn't installed
    ├── UnreadableMapping      the mapping was written by a newer version
    ├── UnknownRecordFormat    the deployment's record was written by another version
    └── UnusableOutput         an output of a model that somebody else stored is no tensor
"""

from __future__ import annotations


class CodecError(ValueError):
    """Base of everything that this package raises itself."""


class InputMismatch(CodecError):
    """The input breaks the model's signature; the sentence names the column or tensor."""


class PackageNotInstalled(CodecError):
    """A package that turns this input into tensors isn't installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f'{what} needs the package {package}, which isn\'t installed; pip install "mlflow-redisai[{extra}]"'
        )


class UnreadableMapping(CodecError):
    """The mapping was written by a newer version."""

    def __init__(self, found: object, newest: int) -> None:
        super().__init__(
            f"the record's mapping has format {found!r}, this version reads up to {newest}; upgrade mlflow-redisai"
        )


class UnknownRecordFormat(CodecError):
    """The deployment's record was written by another version."""

    def __init__(self, found: object, known: int) -> None:
        super().__init__(
            f"the deployment's record has format {found!r}, this mlflow-redisai knows {known}; "
            "upgrade with pip install --upgrade mlflow-redisai"
        )


class UnusableOutput(CodecError):
    """An output of a model that somebody else stored is no tensor."""

    def __init__(self, model: str, output: str) -> None:
        super().__init__(
            f"the model {model!r} can't be predicted with: its output {output!r} is no tensor; deploy it with "
            "mlflow-redisai, or convert it without ZipMap"
        )

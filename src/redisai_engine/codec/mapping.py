"""
The mapping: how a user's input becomes the model's tensors, and how its tensors become the answer.

It is made once, when a model is converted, and stored as JSON in the record. The rest of the codec follows it. `schema`
is MLflow's signature reduced to what encoding needs; each input names the fields that fill it.

Invariant: the mapping contains everything that a prediction needs to know about the model. So a prediction never opens
a model.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from redisai_engine.codec.errors import UnreadableMapping
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.dtypes import DType

# Written into every mapping. A reader refuses a newer format instead of guessing.
FORMAT = 1

# MLflow's column types for which there is a tensor type. Datetime, binary and nested types have none.
COLUMN_DTYPES: dict[str, DType] = {
    "boolean": dtypes.BOOL,
    "integer": dtypes.INT32,
    "long": dtypes.INT64,
    "float": dtypes.FLOAT,
    "double": dtypes.DOUBLE,
    "string": dtypes.STRING,
}

Shape = tuple[int | None, ...]
# "dataframe": a column for each part, flattened; "matrix": the only part as a frame with the input's index; "stack":
# all parts as one array; "ranking": a frame of dicts with one value of each part; "listed": a dict of lists; "cells":
# the same as a frame. The ones "like input" depend on the input: for a frame they are a "dataframe", "matrix" or
# "cells", otherwise a dict, an array or "listed".
Container = Literal[
    "ndarray",
    "dataframe",
    "matrix",
    "dict",
    "list",
    "stack",
    "ranking",
    "listed",
    "cells",
    "like input",
    "matrix like input",
    "cells like input",
]


@dataclass(frozen=True, slots=True)
class Field:
    """
    One column or tensor of the signature. `name` is None if its position identifies it. The `shape` of a column is ().

    `gaps` says whether the model accepts NaN and infinity. Most of scikit-learn's estimators refuse such rows.
    """

    name: str | None
    type: str
    dtype: DType
    shape: Shape = ()
    required: bool = True
    gaps: bool = True


@dataclass(frozen=True, slots=True)
class Schema:
    """MLflow's signature of the inputs: columns of a frame, or tensors."""

    kind: Literal["columns", "tensors"]
    fields: tuple[Field, ...]

    @property
    def named(self) -> bool:
        """Whether the fields have names."""
        return bool(self.fields) and self.fields[0].name is not None

    def names(self) -> tuple[str, ...]:
        return tuple(item.name for item in self.fields if item.name is not None)


@dataclass(frozen=True, slots=True)
class Input:
    """
    One input tensor of the model.

    `fields` are indexes into the schema. If `dtype` is None, the array keeps its own.
    """

    name: str
    dtype: DType | None
    shape: Shape | None = None
    fields: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """One output tensor of the model, as the server returns it."""

    name: str
    dtype: DType | None = None
    shape: Shape | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """
    What one fetched tensor becomes in the answer.

    `dtype` is numpy's name of the element type that pyfunc returns, or None to keep the tensor's. `shape` has -1 for
    the rows, and None keeps the tensor's. With `labels`, each row becomes a dict from label to number. With `choices`,
    the numbers are indexes into that list.
    """

    name: str
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    labels: tuple[int | str, ...] = ()
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The container that pyfunc returns, and its contents. The parts correspond to `Mapping.fetch`, in order."""

    container: Container
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """
    How text becomes tokens; see `tokens`.

    `tokenizer` is the JSON of the package tokenizers, `padding` is the id that pads short rows, and `prefix` is put
    before each text. `tensors` says what each of the model's inputs is, in order. Texts of more than `max_length`
    tokens are cut if `cut` is true, and refused otherwise. With `first`, only the first text is answered.
    """

    max_length: int
    prefix: str = ""
    cut: bool = True
    first: bool = False
    tokenizer: str = ""
    padding: int = 0
    tensors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mapping:
    """
    How inputs are encoded and answers decoded for one model.

    `batch` is the only number of rows that the model takes, or None for any number. `depth` is the number of operations
    in sequence, and `precision` the least precise type among them; they determine how far two correct answers may
    differ.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    fetch: tuple[int, ...]
    answer: Answer
    schema: Schema | None = None
    batch: int | None = None
    depth: int = 1
    precision: DType = dtypes.FLOAT
    text: Text | None = None

    @classmethod
    def generic(cls, model_inputs: list[str], model_outputs: list[str]) -> Mapping:
        """Return a mapping for a model that another client stored: arrays by position, floating point as FLOAT."""
        outputs = [name or f"output_{index}" for index, name in enumerate(model_outputs)]
        return cls(
            inputs=tuple(Input(name or f"input_{index}", None) for index, name in enumerate(model_inputs)),
            outputs=tuple(Output(name) for name in outputs),
            fetch=tuple(range(len(outputs))),
            answer=Answer("ndarray" if len(outputs) == 1 else "dict", tuple(Part(name) for name in outputs)),
        )

    def has_rows(self, item: Input) -> bool:
        """Return whether the first axis of an input counts rows. False if the shape is unknown."""
        # A free first axis and a free batch are both None.
        return item.shape is not None and len(item.shape) > 0 and item.shape[0] == self.batch

    def to_json(self) -> dict[str, Any]:
        """Return the mapping as plain dicts, lists, strings and numbers."""
        return {
            "format": FORMAT,
            "inputs": [_input_to_json(item) for item in self.inputs],
            "outputs": [
                {"name": item.name, "dtype": _dtype_name(item.dtype), "shape": _listed(item.shape)}
                for item in self.outputs
            ],
            "fetch": list(self.fetch),
            "answer": {
                "container": self.answer.container,
                "parts": [_part_to_json(part) for part in self.answer.parts],
            },
            "schema": None if self.schema is None else _schema_to_json(self.schema),
            "batch": self.batch,
            "depth": self.depth,
            "precision": self.precision.name,
            "text": None if self.text is None else asdict(self.text),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Mapping:
        """Read what to_json() returned. Raise UnreadableMapping for a newer format."""
        version = data.get("format")
        if not isinstance(version, int) or version > FORMAT:
            raise UnreadableMapping(version, FORMAT)
        return cls(
            inputs=tuple(_input_from_json(item) for item in data["inputs"]),
            outputs=tuple(
                Output(item["name"], _dtype(item["dtype"]), _shape(item["shape"])) for item in data["outputs"]
            ),
            fetch=tuple(data["fetch"]),
            answer=Answer(
                data["answer"]["container"], tuple(_part_from_json(part) for part in data["answer"]["parts"])
            ),
            schema=None if data["schema"] is None else _schema_from_json(data["schema"]),
            batch=data["batch"],
            depth=data["depth"],
            precision=_known_dtype(data["precision"]),
            text=None if data["text"] is None else _text_from_json(data["text"]),
        )


# -- JSON of the pieces ---------------------------------------------------------------------------


def _input_to_json(item: Input) -> dict[str, Any]:
    return {
        "name": item.name,
        "dtype": _dtype_name(item.dtype),
        "shape": _listed(item.shape),
        "fields": list(item.fields),
    }


def _input_from_json(data: dict[str, Any]) -> Input:
    return Input(data["name"], _dtype(data["dtype"]), _shape(data["shape"]), tuple(data["fields"]))


def _part_to_json(part: Part) -> dict[str, Any]:
    return {
        "name": part.name,
        "dtype": part.dtype,
        "shape": _listed(part.shape),
        "labels": list(part.labels),
        "choices": list(part.choices),
    }


def _part_from_json(data: dict[str, Any]) -> Part:
    shape = None if data["shape"] is None else tuple(data["shape"])
    return Part(data["name"], data["dtype"], shape, tuple(data["labels"]), tuple(data["choices"]))


def _text_from_json(data: dict[str, Any]) -> Text:
    return Text(**{**data, "tensors": tuple(data["tensors"])})


def _schema_to_json(schema: Schema) -> dict[str, Any]:
    return {
        "kind": schema.kind,
        "fields": [
            {
                "name": item.name,
                "type": item.type,
                "dtype": item.dtype.name,
                "shape": list(item.shape),
                "required": item.required,
                "gaps": item.gaps,
            }
            for item in schema.fields
        ],
    }


def _schema_from_json(data: dict[str, Any]) -> Schema:
    return Schema(
        data["kind"],
        tuple(
            Field(
                item["name"],
                item["type"],
                _known_dtype(item["dtype"]),
                tuple(item["shape"]),
                item["required"],
                item["gaps"],
            )
            for item in data["fields"]
        ),
    )


def _listed(shape: tuple[int | None, ...] | None) -> list[int | None] | None:
    return None if shape is None else list(shape)


def _shape(data: list[int | None] | None) -> Shape | None:
    return None if data is None else tuple(data)


def _dtype_name(dtype: DType | None) -> str | None:
    return None if dtype is None else dtype.name


def _dtype(name: str | None) -> DType | None:
    return None if name is None else _known_dtype(name)


def _known_dtype(name: str) -> DType:
    found = dtypes.by_name(name)
    if found is None:
        raise UnreadableMapping(name, FORMAT)
    return found

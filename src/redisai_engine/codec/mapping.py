"""
The mapping: how a user's input becomes the model's tensors, and how its tensors become the answer.

It is made once, when a model is converted, and stored as JSON in the record. The rest of the codec follows it. `schema`
is MLflow's signature reduced to what encoding needs; each input names the fields that fill it.

Invariant: the mapping contains everything that a prediction needs to know about the model. So a prediction never opens
a model.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from redisai_engine.codec.errors import CodecError, DamagedMapping, UnreadableMapping
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.dtypes import DType

# Written into every mapping. A reader refuses a newer format instead of guessing. A mapping is written in the oldest
# format whose readers overlook nothing of it.
FORMAT = 3
_FIRST_FORMAT, _CONTRACTS_FORMAT = 1, 2

_SHOWN = 200  # characters of what is wrong with a mapping
_MOST_AXES = 32

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
Name = str | int
Known = str | int | float | bool
# The values that stand for missing text in a frame. A tensor of strings has a reserved text for each.
Missing = Literal["None", "NaN"]
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
    One column or tensor of the signature, and which of its values the model accepts.

    `name` is None if its position identifies it. A `numbered` column is named by a number in a frame, and `name` is its
    text. The `shape` of a column is (). A column with `used` false must be there, but the model doesn't read it: it
    isn't encoded, may hold anything, and its `dtype` means nothing.

    The rest is the contract: where the model itself raises an error, the row is refused. Numbers: `gaps` accepts NaN,
    `infinite` infinity, no number may be larger than `largest`, whatever its sign, nor smaller than `least`. Text:
    `missing` lists which marks of missing text are accepted, and `null` is the one that a None next to text in a list
    stands for: since version 3, pandas makes NaN of it. Both: `known` are the only values accepted, apart from missing
    ones. A tensor: `sparse` accepts scipy's matrices, because the model reads the zeros that they don't store as zeros.
    """

    name: str | None
    type: str
    dtype: DType
    shape: Shape = ()
    required: bool = True
    gaps: bool = True
    infinite: bool = True
    largest: float | None = None
    least: float | None = None
    missing: tuple[Missing, ...] = ()
    null: Missing = "None"
    known: tuple[Known, ...] | None = None
    used: bool = True
    numbered: bool = False
    sparse: bool = True

    @property
    def label(self) -> Name | None:
        """The name of a column as a frame has it: a number if it is numbered."""
        return int(self.name) if self.numbered and self.name is not None else self.name


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

    def labels(self) -> tuple[Name, ...]:
        """Return the names as a frame has them: some may be numbers."""
        return tuple(item.label for item in self.fields if item.label is not None)


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
    differ. With `independent` false, a row's answer depends on the other rows, so they are never sent apart. `params`
    are the parameters of the signature, each with the only value that the deployment answers for: its default. With
    `parcel`, the only tensors are parcels: the input as it is, and the answer as it is.
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
    independent: bool = True
    params: tuple[tuple[str, Any], ...] = ()
    parcel: bool = False

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
        newer = self._newer()
        return {
            "format": FORMAT if self.parcel else _CONTRACTS_FORMAT if newer else _FIRST_FORMAT,
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
            **newer,
        }

    def _newer(self) -> dict[str, Any]:
        """Return what formats 2 and 3 add, or nothing if there is nothing to add."""
        contracts = [_contract_to_json(item) for item in self.schema.fields] if self.schema is not None else []
        if self.independent and not self.params and not any(contracts) and not self.parcel:
            return {}
        added = {"independent": self.independent, "params": dict(self.params), "contracts": contracts}
        return {**added, "parcel": True} if self.parcel else added

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Mapping:
        """Read what to_json() returned. Raise UnreadableMapping for a newer format, DamagedMapping for other JSON."""
        try:
            version = data.get("format")
            if not isinstance(version, int) or version > FORMAT:
                raise UnreadableMapping(version, FORMAT)
            mapping = cls._read(data)
            _check_types(mapping)
            _check_rules(mapping)
        # Whatever the JSON holds, reading it fails in one of these ways.
        except (LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise DamagedMapping(f"{type(error).__name__}: {error}"[:_SHOWN]) from None
        except CodecError:
            raise
        except ValueError as error:
            raise DamagedMapping(str(error)[:_SHOWN]) from None
        return mapping

    @classmethod
    def _read(cls, data: dict[str, Any]) -> Mapping:
        return cls(
            inputs=tuple(_input_from_json(item) for item in data["inputs"]),
            outputs=tuple(
                Output(item["name"], _dtype(item["dtype"]), _shape(item["shape"])) for item in data["outputs"]
            ),
            fetch=tuple(data["fetch"]),
            answer=Answer(
                data["answer"]["container"], tuple(_part_from_json(part) for part in data["answer"]["parts"])
            ),
            schema=None if data["schema"] is None else _schema_from_json(data["schema"], data.get("contracts") or ()),
            batch=data["batch"],
            depth=data["depth"],
            precision=_known_dtype(data["precision"]),
            text=None if data["text"] is None else _text_from_json(data["text"]),
            independent=data.get("independent", True),
            params=tuple(data.get("params", {}).items()),
            parcel=data.get("parcel", False),
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


def _schema_from_json(data: dict[str, Any], contracts: Sequence[dict[str, Any]]) -> Schema:
    fields = tuple(_field_from_json(item) for item in data["fields"])
    if contracts:
        fields = tuple(_with_contract(item, added) for item, added in zip(fields, contracts, strict=True))
    return Schema(data["kind"], fields)


def _field_from_json(item: dict[str, Any]) -> Field:
    shape, gaps = tuple(item["shape"]), item["gaps"]
    # Format 1 has one word for NaN and infinity.
    return Field(item["name"], item["type"], _known_dtype(item["dtype"]), shape, item["required"], gaps, gaps)


def _contract_to_json(item: Field) -> dict[str, Any]:
    """Return what format 1 can't say about a field, each only if it differs from what a reader assumes."""
    found: dict[str, Any] = {}
    if item.infinite != item.gaps:
        found["infinite"] = item.infinite
    if item.largest is not None:
        found["largest"] = item.largest
    if item.least is not None:
        found["least"] = item.least
    if item.missing:
        found["missing"] = list(item.missing)
    if item.missing or item.null != "None":
        found["null"] = item.null
    if item.known is not None:
        found["known"] = list(item.known)
    if not item.used:
        found["used"] = False
    if item.numbered:
        found["numbered"] = True
    if not item.sparse:
        found["sparse"] = False
    return found


def _with_contract(item: Field, added: dict[str, Any]) -> Field:
    lists: dict[str, Any] = {name: tuple(added[name]) for name in ("missing", "known") if name in added}
    return replace(item, **{**added, **lists})


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


# -- what a mapping read from JSON must be: anyone who may write to Redis may have changed it ------


def _check_types(value: Any) -> None:
    """Raise DamagedMapping if a field of a dataclass, or of one in it, isn't of its annotated type."""
    for name, hint in _hints(value.__class__).items():
        if not _fits(getattr(value, name), hint):
            raise DamagedMapping(f"{type(value).__name__.lower()} has {name} {getattr(value, name)!r}"[:_SHOWN])


def _fits(value: Any, hint: Any) -> bool:
    kinds = get_args(hint)
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, kind) for kind in kinds)
    if origin is Literal:
        return isinstance(value, str) and value in kinds
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if hint is float and isinstance(value, int):
        return True
    if not (hint is Any or isinstance(value, hint)):
        return False
    if is_dataclass(value) and not isinstance(value, DType):
        _check_types(value)
    return True


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind)


def _check_rules(mapping: Mapping) -> None:
    """Raise DamagedMapping if indexes, names, types and shapes contradict each other."""
    fields = mapping.schema.fields if mapping.schema is not None else ()
    shaped: list[Input | Output | Field] = [*mapping.inputs, *mapping.outputs, *fields]
    shapes = [item.shape for item in shaped if item.shape is not None]
    rules = {
        "fetch": all(0 <= index < len(mapping.outputs) for index in mapping.fetch),
        "the answer's parts": 0 < len(mapping.answer.parts) == len(mapping.fetch),
        "the fields of the inputs": all(0 <= index < len(fields) for item in mapping.inputs for index in item.fields),
        "batch": mapping.batch is None or mapping.batch > 0,
        "precision": mapping.precision.is_float,
        "a shape": all(len(shape) <= _MOST_AXES and min((n or 0 for n in shape), default=0) >= 0 for shape in shapes),
        "the schema": mapping.schema is None
        or mapping.parcel
        or _is_consistent(mapping.schema, mapping.inputs, mapping.text),
        "the parcel": not mapping.parcel or len(mapping.inputs) == len(mapping.outputs) == 1,
        "the text": mapping.text is None or _is_text(mapping),
    }
    wrong = [what for what, right in rules.items() if not right]
    if wrong:
        raise DamagedMapping(f"{wrong[0]} can't be right")


def _is_consistent(schema: Schema, inputs: tuple[Input, ...], text: Text | None) -> bool:
    fields = schema.fields
    if not fields or len({item.name is None for item in fields}) > 1:
        return False
    if any(item.numbered and not (item.name or "").lstrip("-").isdecimal() for item in fields):
        return False
    numbers = [item for item in fields if item.dtype.numpy.kind in "iuf"]
    if any(item not in numbers and (item.largest, item.least) != (None, None) for item in fields):
        return False
    if schema.kind == "columns":
        return text is not None or all(item.fields for item in inputs)
    return (schema.named or len(fields) == 1) and all(len(item.fields) == 1 for item in inputs)


def _is_text(mapping: Mapping) -> bool:
    if mapping.text is None or mapping.schema is None or mapping.schema.kind != "columns":
        return False
    return len(mapping.text.tensors) == len(mapping.inputs) and mapping.text.max_length > 0

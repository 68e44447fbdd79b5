"""
Unpacking: nodes and buffers become the value again.

Each method of the reader makes values of one type. `writing` is its mirror. Nothing that arrives is believed: lengths
must fit, and a type must be in a table. Libraries raise whatever they like here; `unpack` makes a ValueError of it.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import math
import re
import uuid
from typing import Any, Callable, Dict  # noqa: UP035 (Python 3.9)

import numpy as np

from .limits import DEEPEST, MOST_BARE_ROWS, MOST_PARTS, TAG, Node, name_of

_DTYPE = re.compile(r"[<>|](?:[biufc]\d{1,2}|[SU]\d{1,9}|[mM]8(?:\[\d{0,6}[A-Za-zμ]{1,3}\])?)")
_LAST_CHARACTER = 0x10FFFF


class ParcelReader:
    """Makes values of nodes. `place` is where the next buffer may start."""

    def __init__(self, data: memoryview, place: int) -> None:
        self._data = data
        self.place = place
        self._depth = 0
        self._parts = 0

    def read(self, node: Node) -> Any:
        kind = type(node)
        if kind is list:
            return self.items(node)
        if kind is not dict:
            return node
        tag = node.get(TAG)
        if tag is None:
            self._deeper()
            found = {key: self.read(item) for key, item in node.items()}
        else:
            self._deeper()
            found = _READERS[tag](self, node)
        self._depth -= 1
        return found

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > 2 * DEEPEST:
            raise ValueError("it is nested too deep")

    def items(self, nodes: Any) -> list[Any]:
        self._deeper()
        found = [self.read(node) for node in nodes]
        self._depth -= 1
        return found

    def part(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise ValueError(f"it has more than {MOST_PARTS} arrays, frames and columns")

    def buffer(self, length: int) -> memoryview:
        start = self.place + -self.place % 8
        if start + length > len(self._data):
            raise ValueError(f"an array should have {length} bytes, and only {len(self._data) - start} follow")
        self.place = start + length
        return self._data[start : self.place]

    def array(self, node: Node) -> Any:
        self.part()
        dtype, shape = _dtype(node["dtype"]), _shape(node["shape"])
        length = dtype.itemsize * math.prod(shape)
        # An array without elements has no bytes, not even padding.
        buffer = self.buffer(length) if length else memoryview(b"")
        # A copy: it may be written to, is aligned, and doesn't keep the parcel in memory.
        found = np.ndarray(shape, dtype, buffer).copy()
        if dtype.kind == "b":
            return np.asarray(found.view(np.uint8) != 0)
        if dtype.kind == "U" and found.size:
            codes = found.reshape(-1).view(dtype.str[0] + "u4")
            if int(codes.max()) > _LAST_CHARACTER:
                raise ValueError("a text has a character that doesn't exist")
        return found

    def objects(self, node: Node) -> Any:
        self.part()
        items, shape = self.items(node["items"]), _shape(node["shape"])
        if math.prod(shape) != len(items):
            raise ValueError(f"an array of the shape {shape} has {len(items)} objects")
        found = np.empty(len(items), object)
        for place, item in enumerate(items):  # a slice would take lists for rows
            found[place] = item
        return found.reshape(shape)

    def scalar(self, node: Node) -> Any:
        dtype, raw = _dtype(node["dtype"]), bytes.fromhex(node["bytes"])
        if len(raw) != dtype.itemsize or dtype.kind in "SU":
            raise ValueError(f"a scalar of {dtype} has {len(raw)} bytes")
        return np.frombuffer(raw, dtype)[0] if dtype.kind != "b" else np.bool_(raw != b"\0")

    # -- pandas

    def frame(self, node: Node) -> Any:
        import pandas as pd

        self.part()
        rows, columns = _count(node["rows"]), self.read(node["columns"])
        index = self.rows(node["index"], rows)
        if "matrix" in node:
            matrix = self.read(node["matrix"])
            if matrix.shape != (len(columns), rows):
                raise ValueError(
                    f"a frame of {rows} rows and {len(columns)} columns has the shape {matrix.shape[::-1]}"
                )
            return pd.DataFrame(matrix.T, index=index, columns=columns, copy=False)
        arrays = [self.column(each, rows) for each in node["arrays"]]
        if not arrays and rows > MOST_BARE_ROWS:
            raise ValueError(f"a frame without columns has {rows} rows")
        # By position: labels may occur twice. In version 3, pandas makes text of objects unless told their type.
        typed = [pd.Series(each, dtype=object) if each.dtype == object else each for each in arrays]
        found = pd.DataFrame(dict(enumerate(typed)), index=None if arrays else index)
        found.index, found.columns = index, columns
        return found

    def series(self, node: Node) -> Any:
        import pandas as pd

        self.part()
        name, index = self.read(node["name"]), node["index"]
        # The index is met before the values, whose number only they tell.
        labels = None if index is None else self.read(index)
        values = self.column(node["array"], None)
        rows = len(values)
        if labels is not None and len(labels) != rows:
            raise ValueError(f"{rows} values have {len(labels)} labels")
        return pd.Series(values, index=pd.RangeIndex(rows) if labels is None else labels, dtype=values.dtype, name=name)

    def rows(self, node: Node, count: int) -> Any:
        import pandas as pd

        found = pd.RangeIndex(count) if node is None else self.read(node)
        if not isinstance(found, pd.Index) or len(found) != count:
            raise ValueError(f"{count} rows have another number of labels")
        return found

    def column(self, node: Node, count: int | None) -> Any:
        """Return a column's values. Nothing else is ever repeated by pandas to fit the rows."""
        import pandas as pd

        self.part()
        found = self.read(node)
        if not isinstance(found, (np.ndarray, pd.api.extensions.ExtensionArray)) or found.ndim != 1:
            raise ValueError(f"a column is a {name_of(found)}")
        if count is not None and len(found) != count:
            raise ValueError(f"a column has {len(found)} values in {count} rows")
        return found

    def vector(self, node: Node) -> Any:
        """Return an array of NumPy's. With another number of dimensions pandas makes arrays that end the process."""
        found = self.read(node)
        if not isinstance(found, np.ndarray) or found.ndim != 1:
            raise ValueError(f"a column is made of a {name_of(found)}")
        return found

    def index(self, node: Node) -> Any:
        import pandas as pd

        self.part()
        name, values, every = self.read(node["name"]), self.column(node["array"], None), node.get("every")
        found = pd.Index(values, dtype=values.dtype, name=name, tupleize_cols=False)
        if every is not None:
            # pandas has changed the names of frequencies. The labels are the same without.
            with contextlib.suppress(ValueError):
                found.freq = every
        return found

    def range(self, node: Node) -> Any:
        import pandas as pd

        found = pd.RangeIndex(node["start"], node["stop"], node["step"], name=self.read(node["name"]))
        len(found)  # OverflowError
        return found

    def levels(self, node: Node) -> Any:
        import pandas as pd

        self.part()
        levels = [self.read(each) for each in node["levels"]]
        codes = [self.vector(each) for each in node["codes"]]
        return pd.MultiIndex(levels, codes, names=self.items(node["names"]))

    def masked(self, node: Node) -> Any:
        import pandas as pd

        values, mask = self.vector(node["values"]), self.vector(node["mask"])
        kinds: Any = {"b": "BooleanArray", "f": "FloatingArray", "i": "IntegerArray", "u": "IntegerArray"}
        return getattr(pd.arrays, kinds[values.dtype.kind])(values, mask)

    def strings(self, node: Node) -> Any:
        items = self.items(node["items"])
        dtype = _string_dtype(str(node["storage"]), nan=bool(node["nan"]))
        if dtype is not None:
            import pandas as pd

            return pd.array(items, dtype=dtype)
        # Before version 3, pandas keeps text as objects.
        return self.objects({"shape": [len(items)], "items": [math.nan if item is None else item for item in items]})

    def category(self, node: Node) -> Any:
        import pandas as pd

        dtype = pd.CategoricalDtype(self.read(node["categories"]), ordered=bool(node["ordered"]))
        return pd.Categorical.from_codes(self.vector(node["codes"]), dtype=dtype)

    def times(self, node: Node) -> Any:
        import pandas as pd

        zone = _zone(node["zone"])
        return pd.DatetimeIndex(self.vector(node["values"])).tz_localize("UTC").tz_convert(zone).array

    def periods(self, node: Node) -> Any:
        import pandas as pd

        kind: Any = pd.arrays.PeriodArray
        return kind(self.vector(node["values"]), dtype=pd.PeriodDtype.construct_from_string(node["dtype"]))

    def intervals(self, node: Node) -> Any:
        import pandas as pd

        left, right = self.read(node["left"]), self.read(node["right"])
        return pd.arrays.IntervalArray.from_arrays(left, right, closed=node["closed"])

    def timestamp(self, node: Node) -> Any:
        import pandas as pd

        value, zone = self.read(node["value"]), _zone(node["zone"])
        if node[TAG] == "duration":
            return pd.Timedelta(value)
        found = pd.Timestamp(value)
        return found if zone is None else found.tz_localize("UTC").tz_convert(zone)

    def moment(self, node: Node) -> Any:
        zone = _zone(node["zone"])
        found = datetime.datetime.fromisoformat(node["value"]).replace(fold=node["fold"])
        if zone is not None and type(zone).__module__.startswith("pytz"):
            return zone.fromutc(found)
        return found.replace(tzinfo=zone)


Read = Callable[[ParcelReader, Node], Any]

_READERS: Dict[str, Read] = {  # noqa: UP006
    "dict": lambda reader, node: dict(_pairs(reader.items(node["keys"]), reader.items(node["items"]))),
    "tuple": lambda reader, node: tuple(reader.items(node["items"])),
    "set": lambda reader, node: set(reader.items(node["items"])),
    "frozenset": lambda reader, node: frozenset(reader.items(node["items"])),
    "bytes": lambda _, node: bytes.fromhex(node["value"]),
    "bytearray": lambda _, node: bytearray.fromhex(node["value"]),
    "complex": lambda _, node: complex(*node["parts"]),
    "decimal": lambda _, node: decimal.Decimal(node["value"]),
    "uuid": lambda _, node: uuid.UUID(hex=node["value"]),
    "datetime": ParcelReader.moment,
    "date": lambda _, node: datetime.date.fromisoformat(node["value"]),
    "time": lambda _, node: datetime.time.fromisoformat(node["value"]),
    "timedelta": lambda _, node: datetime.timedelta(*node["parts"]),
    "array": ParcelReader.array,
    "objects": ParcelReader.objects,
    "scalar": ParcelReader.scalar,
    "numpy text": lambda _, node: np.str_(node["value"]),
    "numpy bytes": lambda _, node: np.bytes_(bytes.fromhex(node["value"])),
    "frame": ParcelReader.frame,
    "series": ParcelReader.series,
    "index": ParcelReader.index,
    "range": ParcelReader.range,
    "levels": ParcelReader.levels,
    "masked": ParcelReader.masked,
    "strings": ParcelReader.strings,
    "category": ParcelReader.category,
    "times": ParcelReader.times,
    "periods": ParcelReader.periods,
    "intervals": ParcelReader.intervals,
    "timestamp": ParcelReader.timestamp,
    "duration": ParcelReader.timestamp,
    "NA": lambda _reader, _node: _of_pandas("NA"),
    "NaT": lambda _reader, _node: _of_pandas("NaT"),
}


def _of_pandas(name: str) -> Any:
    import pandas as pd

    return getattr(pd, name)


def _pairs(keys: list[Any], items: list[Any]) -> Any:
    if len(keys) != len(items):
        raise ValueError(f"an object has {len(keys)} keys and {len(items)} values")
    return zip(keys, items)


def _dtype(text: Any) -> np.dtype[Any]:
    # Not whatever NumPy takes for a type: objects, for instance, would be pointers.
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise ValueError(f"{text!r:.80} is no type of an array")
    found = np.dtype(text)
    if found.itemsize == 0:
        raise ValueError(f"{text!r} has elements without bytes")
    return found


def _shape(sizes: Any) -> tuple[int, ...]:
    return tuple(_count(size) for size in sizes)


def _count(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"{number!r:.80} is no number of rows")
    return number


def _string_dtype(storage: str, *, nan: bool) -> Any:
    """Return pandas' type for text, or None if this pandas has none that says NaN for missing text."""
    import pandas as pd

    kind: Any = pd.StringDtype
    for kept in (storage, "python"):
        try:
            return kind(kept, na_value=math.nan) if nan else kind(kept)
        except ImportError:  # pyarrow isn't installed
            continue
        except TypeError:
            break
    return None


def _zone(node: Node) -> Any:
    if node is None:
        return None
    if isinstance(node, (int, float)):
        return datetime.timezone(datetime.timedelta(seconds=node))
    module, name = node
    if module == "pytz":
        try:
            import pytz  # type: ignore[import-untyped, unused-ignore]

            return pytz.timezone(name)
        except ImportError:
            pass  # pandas has it up to version 2
    import zoneinfo

    return zoneinfo.ZoneInfo(name)

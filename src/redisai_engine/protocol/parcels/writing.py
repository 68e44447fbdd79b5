"""
Packing: a value becomes a tree of nodes, which JSON can hold, and the buffers of its arrays.

Each method of the writer returns the node of one type. `reading` is its mirror.
"""

from __future__ import annotations

import datetime
import decimal
import sys
import uuid
from typing import Any, Callable, Dict, List  # noqa: UP035 (Python 3.9)

import numpy as np

from .limits import DEEPEST, MOST_BITS, MOST_PARTS, TAG, Node, name_of

Path = List[str]  # noqa: UP006


class _NotPackable(Exception):
    """What can't be packed, and the way to it, the innermost step first."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.way: Path = []


def _tagged(tag: str, **fields: Any) -> Node:
    return {TAG: tag, **fields}


class ParcelWriter:
    """Makes nodes. `buffers` are the arrays that they refer to, in order."""

    def __init__(self) -> None:
        self.buffers: list[Any] = []
        self._depth = 0
        self._parts = 0

    def at(self, what: str, value: Any) -> Node:
        try:
            return self.node(value)
        except _NotPackable as refused:
            where = what + "".join(reversed(refused.way))
            raise TypeError(f"{where} is {refused.what}, which can't be sent") from None

    def node(self, value: Any) -> Node:
        kind = type(value)
        if value is None or kind is str or kind is bool or kind is float:
            return value
        write = _WRITERS.get(kind)
        if write is None:
            write = _writer_of(value)
        return write(self, value)

    def within(self, step: str, value: Any) -> Node:
        try:
            return self.node(value)
        except _NotPackable as refused:
            refused.way.append(step)
            raise

    def nodes(self, values: Any) -> list[Node]:
        self._depth += 1
        if self._depth > DEEPEST:
            raise _NotPackable(f"nested more than {DEEPEST} levels deep")
        found = []
        for value in values:
            # The commonest values, without a call.
            kind = type(value)
            if value is None or kind is str or kind is bool or kind is float:
                found.append(value)
            else:
                found.append(self.within(f"[{len(found)}]", value))
        self._depth -= 1
        return found

    def object(self, value: dict[Any, Any]) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise _NotPackable(f"nested more than {DEEPEST} levels deep")
        if TAG not in value and all(type(key) is str for key in value):
            found: Node = {key: self.within(f"[{key!r:.80}]", item) for key, item in value.items()}
        else:
            keys = [self.within(f" (key {key!r:.80})", key) for key in value]
            items = [self.within(f"[{key!r:.80}]", item) for key, item in value.items()]
            found = _tagged("dict", keys=keys, items=items)
        self._depth -= 1
        return found

    def whole(self, value: int) -> Node:
        if value.bit_length() > MOST_BITS:
            raise _NotPackable(f"an integer of more than {MOST_BITS} bits")
        return int(value)

    # -- numpy

    def part(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise _NotPackable(f"one of more than {MOST_PARTS} arrays, frames and columns")

    def array(self, value: Any) -> Node:
        self.part()
        if type(value) not in (np.ndarray, np.memmap):
            raise _NotPackable(f"a {name_of(value)}")
        if value.dtype.kind == "O":
            return _tagged("objects", shape=list(value.shape), items=self.nodes(value.ravel().tolist()))
        if value.dtype.kind not in "biufcmMSU":
            raise _NotPackable(f"an array of {value.dtype}")
        if value.dtype.itemsize == 0:
            value = value.astype(value.dtype.kind + "1")
        flat = np.ascontiguousarray(value).reshape(-1)
        if len(flat):
            self.buffers.append(flat.view(np.uint8))
        return _tagged("array", dtype=value.dtype.str, shape=list(value.shape))

    def scalar(self, value: Any) -> Node:
        if isinstance(value, (np.str_, np.bytes_)):
            plain = str(value) if isinstance(value, np.str_) else bytes(value).hex()
            return _tagged("numpy text" if isinstance(value, np.str_) else "numpy bytes", value=plain)
        if value.dtype.kind not in "biufcmM":
            raise _NotPackable(f"a {name_of(value)}")
        return _tagged("scalar", dtype=value.dtype.str, bytes=value.tobytes().hex())

    # -- pandas

    def frame(self, value: Any) -> Node:
        self.part()
        dtypes = set(value.dtypes)
        columns = self.within(" (its column names)", value.columns)
        found = _tagged("frame", columns=columns, index=self.rows(value.index), rows=len(value))
        if len(dtypes) == 1 and isinstance(next(iter(dtypes)), np.dtype) and next(iter(dtypes)).kind != "O":
            # One matrix is read back in a fraction of the time that its columns take.
            found["matrix"] = self.array(value.to_numpy().T)
        else:
            items = value.items()
            found["arrays"] = [self._column(f", column {name!r:.80}", each) for name, each in items]
        return found

    def series(self, value: Any) -> Node:
        self.part()
        name = self.within(" (its name)", value.name)
        return _tagged("series", name=name, index=self.rows(value.index), array=self._column("", value))

    def rows(self, index: Any) -> Node:
        """Return None for the index that a frame has if nobody gives it one."""
        import pandas as pd

        if type(index) is pd.RangeIndex and index.name is None and index.start == 0 and index.step == 1:
            return None
        return self.within(" (its index)", index)

    def _column(self, step: str, values: Any) -> Node:
        """Return the node of the values of a Series or an Index."""
        plain = isinstance(values.dtype, np.dtype)
        return self.within(step, values.to_numpy() if plain else values.array)

    def index(self, value: Any) -> Node:
        import pandas as pd

        self.part()
        if type(value) is pd.RangeIndex:
            name = self.node(value.name)
            return _tagged("range", start=value.start, stop=value.stop, step=value.step, name=name)
        if isinstance(value, pd.MultiIndex):
            levels = [self.node(level) for level in value.levels]
            codes = [self.array(np.asarray(each)) for each in value.codes]
            return _tagged("levels", levels=levels, codes=codes, names=self.nodes(value.names))
        every = getattr(value, "freqstr", None) if isinstance(value.dtype, np.dtype) or hasattr(value, "tz") else None
        return _tagged("index", name=self.node(value.name), array=self._column("", value), every=every)

    def extension(self, value: Any) -> Node:
        """Return the node of an array of one of pandas' own types."""
        self.part()
        for name, write in _EXTENSIONS.items():
            if any(kind.__name__ == name for kind in type(value).__mro__):
                return write(self, value)
        raise _NotPackable(f"a column of {value.dtype}")

    def masked(self, value: Any) -> Node:
        kind = value.dtype.numpy_dtype
        values = value.to_numpy(dtype=kind, na_value=kind.type(0))
        return _tagged("masked", values=self.array(values), mask=self.array(np.asarray(value.isna())))

    def strings(self, value: Any) -> Node:
        dtype = value.dtype
        items = value.to_numpy(dtype=object, na_value=None).tolist()
        return _tagged("strings", storage=dtype.storage, nan=_says_nan(dtype), items=self.nodes(items))

    def category(self, value: Any) -> Node:
        categories = self.index(value.categories)
        return _tagged("category", categories=categories, codes=self.array(value.codes), ordered=bool(value.ordered))

    def times(self, value: Any) -> Node:
        import pandas as pd

        if getattr(value, "tz", None) is None:
            return self.array(np.asarray(value))
        utc = pd.DatetimeIndex(value).tz_convert("UTC").tz_localize(None)
        return _tagged("times", zone=self.zone(value.tz), values=self.array(utc.to_numpy()))

    def periods(self, value: Any) -> Node:
        return _tagged("periods", dtype=value.dtype.name, values=self.array(np.asarray(value.asi8)))

    def intervals(self, value: Any) -> Node:
        return _tagged("intervals", closed=value.closed, left=self.index(value.left), right=self.index(value.right))

    def timestamp(self, value: Any) -> Node:
        kind = "timestamp" if hasattr(value, "to_pydatetime") else "duration"
        zone = self.zone(getattr(value, "tzinfo", None))
        return _tagged(kind, value=self.scalar(value.asm8), zone=zone)

    # -- Python's own

    def zone(self, value: Any) -> Node:
        if value is None:
            return None
        if type(value) is datetime.timezone:
            return value.utcoffset(None).total_seconds()
        module = type(value).__module__.partition(".")[0]
        if module == "pytz" and hasattr(value, "_minutes"):
            return float(value._minutes * 60)
        key = {"zoneinfo": "key", "pytz": "zone"}.get(module)
        name = None if key is None else getattr(value, key, None)
        if not isinstance(name, str):
            raise _NotPackable(f"a time in the zone {value!r:.80}")
        return [module, name]

    def moment(self, value: datetime.datetime) -> Node:
        zone = self.zone(value.tzinfo)
        if zone is not None and type(value.tzinfo).__module__.startswith("pytz"):
            value = value.astimezone(datetime.timezone.utc)
        return _tagged("datetime", value=value.replace(tzinfo=None).isoformat(), fold=value.fold, zone=zone)

    def time(self, value: datetime.time) -> Node:
        if value.tzinfo is not None:
            raise _NotPackable("a time of day in a zone")
        return _tagged("time", value=value.isoformat())


def _says_nan(dtype: Any) -> bool:
    """Return whether missing text of a column is NaN. It is NA unless pandas is of version 3."""
    return isinstance(getattr(dtype, "na_value", None), float)


Write = Callable[[ParcelWriter, Any], Node]

_WRITERS: Dict[type, Write] = {  # noqa: UP006
    int: ParcelWriter.whole,
    dict: ParcelWriter.object,
    list: ParcelWriter.nodes,
    tuple: lambda writer, value: _tagged("tuple", items=writer.nodes(value)),
    set: lambda writer, value: _tagged("set", items=writer.nodes(value)),
    frozenset: lambda writer, value: _tagged("frozenset", items=writer.nodes(value)),
    bytes: lambda _, value: _tagged("bytes", value=value.hex()),
    bytearray: lambda _, value: _tagged("bytearray", value=value.hex()),
    complex: lambda _, value: _tagged("complex", parts=[value.real, value.imag]),
    decimal.Decimal: lambda _, value: _tagged("decimal", value=str(value)),
    uuid.UUID: lambda _, value: _tagged("uuid", value=value.hex),
    datetime.datetime: ParcelWriter.moment,
    datetime.date: lambda _, value: _tagged("date", value=value.isoformat()),
    datetime.time: ParcelWriter.time,
    datetime.timedelta: lambda _, value: _tagged("timedelta", parts=[value.days, value.seconds, value.microseconds]),
    np.ndarray: ParcelWriter.array,
}
_EXTENSIONS: Dict[str, Write] = {  # noqa: UP006
    "BaseMaskedArray": ParcelWriter.masked,
    "BaseStringArray": ParcelWriter.strings,
    "StringArray": ParcelWriter.strings,
    "ArrowStringArray": ParcelWriter.strings,
    "Categorical": ParcelWriter.category,
    "DatetimeArray": ParcelWriter.times,
    "TimedeltaArray": ParcelWriter.times,
    "PeriodArray": ParcelWriter.periods,
    "IntervalArray": ParcelWriter.intervals,
}


def _writer_of(value: Any) -> Write:
    """Return what writes a value whose type isn't in the table: NumPy's, pandas', or a subclass of Python's own."""
    if isinstance(value, np.generic):
        return ParcelWriter.scalar
    if isinstance(value, np.ndarray):
        return ParcelWriter.array
    pd: Any = sys.modules.get("pandas")
    if pd is not None:
        if value is pd.NA or value is pd.NaT:
            return lambda _, value: _tagged("NaT" if value is pd.NaT else "NA")
        for kind, write in (
            (pd.DataFrame, ParcelWriter.frame),
            (pd.Series, ParcelWriter.series),
            (pd.Index, ParcelWriter.index),
            ((pd.Timestamp, pd.Timedelta), ParcelWriter.timestamp),
            (pd.api.extensions.ExtensionArray, ParcelWriter.extension),
        ):
            if isinstance(value, kind):
                return write
    if isinstance(value, str):
        return lambda _, value: str.__str__(value)
    if isinstance(value, float):
        return lambda _, value: float(value)
    for own in (int, dict, list, tuple):
        if isinstance(value, own):
            return _WRITERS[own]
    raise _NotPackable(f"a {name_of(value)}")

"""
What a Python model takes and gives comes out of a parcel as it went in: same type, same dtypes, same values.

Whatever is changed in a parcel, reading it gives a value or a ValueError, and takes no more memory than its length
explains.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import json
import math
import struct
import subprocess
import sys
import tracemalloc
import uuid
import zoneinfo
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from redisai_engine.protocol import parcels
from redisai_engine.protocol.parcels import pack, unpack

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
DAYS = pd.date_range("2026-01-01", periods=3, freq="D")


def equal(left: Any, right: Any) -> bool:
    """Return whether two values are the same, down to types, dtypes and the places of missing values."""
    if type(left) is not type(right):
        return False
    if isinstance(left, pd.DataFrame):
        pd.testing.assert_frame_equal(left, right, check_exact=True, check_freq=True)
        return equal(left.columns, right.columns) and equal(left.index, right.index) and _same_cells(left, right)
    if isinstance(left, pd.Series):
        pd.testing.assert_series_equal(left, right, check_exact=True, check_freq=True)
        return equal(left.index, right.index) and _same_values(left, right)
    if isinstance(left, pd.Index):
        pd.testing.assert_index_equal(left, right, exact=True)
        return getattr(left, "freq", None) == getattr(right, "freq", None) and list(left.names) == list(right.names)
    if isinstance(left, np.ndarray):
        if (left.dtype, left.shape) != (right.dtype, right.shape):
            return False
        if left.dtype.kind == "O":
            return all(map(equal, left.ravel().tolist(), right.ravel().tolist()))
        return np.ascontiguousarray(left).tobytes() == np.ascontiguousarray(right).tobytes()
    if isinstance(left, dict):
        return equal(list(left), list(right)) and equal(list(left.values()), list(right.values()))
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, float):
        return (left == right and math.copysign(1, left) == math.copysign(1, right)) or math.isnan(left + right)
    if isinstance(left, decimal.Decimal):
        return str(left) == str(right)
    if isinstance(left, np.generic):
        return left.dtype == right.dtype and left.tobytes() == right.tobytes()
    return left is right or bool(left == right)


def _same_cells(left: pd.DataFrame, right: pd.DataFrame) -> bool:
    return all(_same_values(a, b) for (_, a), (_, b) in zip(left.items(), right.items(), strict=True))


def _same_values(left: pd.Series, right: pd.Series) -> bool:
    return left.dtype == right.dtype and (left.dtype != object or equal(left.to_numpy(), right.to_numpy()))


def assert_round_trip(value: Any, params: Any = None) -> None:
    found, found_params = unpack(pack(value, params))

    assert equal(value, found), f"{value!r} became {found!r}"
    assert equal(params, found_params)


# -- frames ---------------------------------------------------------------------------------------

COLUMNS: dict[str, Any] = {
    "int8": np.array([1, -2, 3], np.int8),
    "uint64": np.array([1, 2**64 - 1, 3], np.uint64),
    "float32": np.array([1.5, np.nan, -np.inf], np.float32),
    "float64": np.array([-0.0, 1e-320, np.nan]),
    "complex": np.array([1 + 2j, 0, np.nan]),
    "bool": np.array([True, False, True]),
    "Int64": pd.array([1, None, 3], dtype="Int64"),
    "UInt8": pd.array([1, None, 3], dtype="UInt8"),
    "Float32": pd.array([1.5, None, 3], dtype="Float32"),
    "boolean": pd.array([True, None, False], dtype="boolean"),
    "text": ["a", "ä", ""],
    "missing text": pd.Series(["a", None, "c"]),
    "string": pd.array(["a", None, "c"], dtype=pd.StringDtype("python")),
    "arrow string": pd.array(["a", None, "c"], dtype=pd.StringDtype("pyarrow")),
    "category": pd.Categorical(["b", "a", None], categories=["b", "a", "z"], ordered=True),
    "numbers as categories": pd.Categorical([3, 1, 3]),
    "times": DAYS,
    "seconds": pd.DatetimeIndex(["2026-01-01", "NaT", "2400-01-01"]).as_unit("s"),
    "times in a zone": DAYS.tz_localize(BERLIN),
    "times with an offset": DAYS.tz_localize(datetime.timezone(datetime.timedelta(hours=-3.5))),
    "UTC": DAYS.tz_localize("UTC"),
    "durations": pd.to_timedelta([1, None, 3], unit="s"),
    "periods": pd.period_range("2026-01", periods=3, freq="M"),
    "intervals": pd.interval_range(0, 3, closed="left"),
    "objects": pd.Series([{"a": [1, 2.5, None]}, "text", b"\0\xff"], dtype=object),
    "lists": pd.Series([[1], [2, 3], []], dtype=object),
    "arrays": pd.Series([np.arange(3), np.zeros((0, 2), np.float32), np.array("x")], dtype=object),
    "gaps": pd.Series([None, np.nan, pd.NA], dtype=object),
    "decimals": pd.Series([decimal.Decimal("1.10"), decimal.Decimal("NaN"), 1], dtype=object),
    "days": pd.Series([datetime.date(2026, 1, 1), None, pd.NaT], dtype=object),
    "strings as objects": pd.Series(["a", "b\ud800", "c"], dtype=object),
    "tuples": pd.Series([(1, "a"), (2,), ()], dtype=object),
}


@pytest.mark.parametrize("values", COLUMNS.values(), ids=COLUMNS.keys())
def test_a_column_of_every_type(values: Any):
    series = pd.Series(values, name="x")

    assert_round_trip(series)
    assert_round_trip(pd.DataFrame({"x": values}))
    assert_round_trip(pd.DataFrame({"x": values, "y": [1, 2, 3]}))
    assert_round_trip(pd.DataFrame({"x": values, "y": [1, 2, 3]}).iloc[:0])
    assert_round_trip(series.iloc[:0])


INDEXES: dict[str, Any] = {
    "of one's own": [7, 5, 7],
    "text": ["a", "b", "b"],
    "a range": pd.RangeIndex(10, 4, -2, name="places"),
    "a named range": pd.RangeIndex(3, name=("a", 1)),
    "days": pd.date_range("2026-01-01", periods=3, freq="D", tz="Europe/Berlin", name="day"),
    "hours": pd.timedelta_range("1h", periods=3, freq="h"),
    "months": pd.period_range("2026-01", periods=3, freq="M"),
    "categories": pd.CategoricalIndex(["x", "y", "x"]),
    "mixed objects": pd.Index([1, "a", None], dtype=object),
    "tuples": pd.Index([(1, 2), (3, 4), (5, 6)], tupleize_cols=False),
    "levels": pd.MultiIndex.from_tuples([(1, "a"), (1, "b"), (2, None)], names=["n", None]),
    "small floats": pd.Index([0.5, np.nan, 2], dtype=np.float32),
}


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES.keys())
def test_rows_and_columns_with_every_kind_of_label(index: Any):
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": ["a", "b", "c"]}, index=index)

    assert_round_trip(frame)
    assert_round_trip(frame.T)
    assert_round_trip(frame[["x"]].T)
    assert_round_trip(frame["x"])


def test_labels_that_occur_twice_and_labels_of_any_type():
    frame = pd.DataFrame([[1, "a", 2.5]])
    frame.columns = pd.Index(["x", "x", 3], dtype=object)
    assert_round_trip(frame)
    frame.columns = pd.Index(["x", "x", "y"], name="names")
    assert_round_trip(frame)
    assert_round_trip(pd.DataFrame(np.eye(3)))
    assert_round_trip(pd.DataFrame())
    assert_round_trip(pd.DataFrame(index=pd.RangeIndex(4)))
    assert_round_trip(pd.DataFrame({"x": []}))
    assert_round_trip(pd.DataFrame(columns=["a", "b"]))


def test_a_frame_that_was_read_can_be_written_to():
    """Models add columns to their input, and change it in place."""
    frame, _ = unpack(pack(pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0]})))
    array, _ = unpack(pack(np.arange(3)))

    frame.iloc[0, 0] = 9.0
    array[0] = 9

    assert frame["x"].tolist() == [9.0, 2.0]
    assert array.tolist() == [9, 1, 2]


@settings(max_examples=60)
@given(st.data())
def test_frames_of_any_columns(data: st.DataObject):
    rows = data.draw(st.integers(0, 4))
    names = data.draw(st.lists(st.text() | st.integers(0, 5), max_size=5))
    chosen = [data.draw(st.sampled_from(list(COLUMNS))) for _ in names]
    picked = data.draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows))
    frame = pd.DataFrame(
        {n: pd.Series(COLUMNS[kind]).iloc[picked].reset_index(drop=True) for n, kind in enumerate(chosen)}
    )
    frame.columns = pd.Index(names, dtype=object)

    assert_round_trip(frame)


# -- arrays and scalars -----------------------------------------------------------------------------

_TIMES = st.sampled_from(["D", "s", "ms", "us", "ns", "Y"])
DTYPES = st.one_of(
    st_numpy.boolean_dtypes(),
    st_numpy.integer_dtypes(endianness="?"),
    st_numpy.unsigned_integer_dtypes(),
    st_numpy.floating_dtypes(),
    st_numpy.complex_number_dtypes(),
    st_numpy.unicode_string_dtypes(min_len=1, max_len=9),
    st_numpy.byte_string_dtypes(min_len=1, max_len=9),
    _TIMES.map(lambda unit: np.dtype(f"M8[{unit}]")),
    _TIMES.map(lambda unit: np.dtype(f"m8[{unit}]")),
)
SHAPES = st_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@settings(max_examples=150)
@given(DTYPES.flatmap(lambda dtype: st_numpy.arrays(dtype, SHAPES)))
def test_arrays_of_any_type_and_shape(array: np.ndarray[Any, Any]):
    assert_round_trip(array)
    assert_round_trip(array.T)
    if array.size:
        assert_round_trip(array.ravel()[0])


def test_arrays_with_gaps_between_their_elements_and_arrays_of_objects():
    assert_round_trip(np.arange(20).reshape(4, 5)[::2, ::-1])
    assert_round_trip(np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    assert_round_trip(np.array([[{"a": 1}, None], [[1, 2], "x"]], dtype=object))
    assert_round_trip(np.array([[1], [2]], dtype=object))
    assert_round_trip(np.array(["a", ""], dtype="U"))
    assert_round_trip(np.array([b""], dtype="S1"))


# -- trees ----------------------------------------------------------------------------------------

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=True),
    st.text(st.characters(exclude_categories=())),
    st.binary(),
    st.complex_numbers(allow_nan=False),
    st.decimals(allow_nan=False),
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(BERLIN) | st.just(datetime.UTC)),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.sampled_from([pd.NA, pd.NaT, np.float32(1.5), np.int8(-3), np.str_("a"), np.bytes_(b"x"), np.bool_(1)]),
)
KEYS = st.text() | st.integers() | st.booleans() | st.none() | st.just("!") | st.tuples(st.text(), st.integers())
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(KEYS, inner, max_size=4),
        st.frozensets(st.text() | st.integers(), max_size=3),
        st_numpy.arrays(np.float32, SHAPES),
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(TREES, st.none() | st.dictionaries(st.text(), LEAVES, max_size=3))
def test_trees_and_params(tree: Any, params: Any):
    assert_round_trip(tree, params)


def test_values_inside_of_others():
    frame = pd.DataFrame({"x": [1, 2], "y": ["a", None]})
    stamp = pd.Timestamp("2026-10-25 01:30", tz="UTC").tz_convert(BERLIN)  # the second 02:30 of that night

    assert_round_trip({"rows": [frame, frame["x"]], "index": frame.index, "when": [stamp, stamp.to_pydatetime()]})
    assert_round_trip([pd.Timedelta("1h"), pd.Timestamp(5), 10**4000, bytearray(b"x"), {1, 2}, -0.0, math.inf])
    assert_round_trip(datetime.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1))


def test_subclasses_come_back_as_what_they_extend():
    class Words(dict):  # type: ignore[type-arg]
        """A dict with a name."""

    assert unpack(pack(Words(a=[np.float64(1)])))[0] == {"a": [1.0]}
    assert type(unpack(pack(Words()))[0]) is dict


class Unknown:
    """A class of the model's own."""


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Unknown(), "the value is a {here}.Unknown"),
        ({"messages": [{"role": 1}, {"role": Unknown()}]}, "the value['messages'][1]['role'] is a {here}.Unknown"),
        (pd.DataFrame({"a": [1, 2], "b": ["x", Unknown()]}), "the value, column 'b'[1] is a {here}.Unknown"),
        ([np.zeros(2, "i4,f4")], "the value[0] is an array of [('f0', '<i4'), ('f1', '<f4')]"),
        (np.ma.masked_array([1, 2]), "the value is a numpy.ma.MaskedArray"),
        ([10**5000], "the value[0] is an integer of more than 14000 bits"),
        (pd.Series([1, 0, 0], dtype="Sparse[int64]"), "the value is a column of Sparse[int64, 0]"),
    ],
)
def test_what_cannot_be_packed_is_named_with_its_place(value: Any, message: str):
    with pytest.raises(TypeError) as error:
        pack(value)

    assert str(error.value) == f"{message.format(here=__name__)}, which can't be sent"


def test_a_list_in_itself_cannot_be_packed():
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(TypeError, match="is nested more than 100 levels deep, which can't be sent"):
        pack(endless)


# -- bytes that nobody packed -------------------------------------------------------------------------


def samples() -> list[bytes]:
    mixed = pd.DataFrame({name: pd.Series(values) for name, values in COLUMNS.items()})
    values: list[Any] = [mixed, pd.DataFrame(np.eye(3), columns=list("abc")), {"a": [np.arange(4), (1, "x")]}]
    values += [pd.Series([1, 2, 3], index=index) for index in INDEXES.values()]
    return [pack(value, {"temperature": 0.5}) for value in values]


SAMPLES = samples()


def read(parcel: bytes) -> None:
    with contextlib.suppress(ValueError):
        unpack(parcel)


@settings(max_examples=400)
@given(st.sampled_from(SAMPLES), st.data())
def test_whatever_is_changed_is_a_value_or_a_value_error(parcel: bytes, data: st.DataObject):
    changed = bytearray(parcel)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(8, len(changed) - 1))
        kind = data.draw(st.sampled_from(["one byte", "cut", "doubled", "number"]))
        if kind == "one byte":
            changed[place] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del changed[place : place + data.draw(st.integers(1, 40))]
        elif kind == "doubled":
            changed[place:place] = changed[place : place + 20]
        else:
            changed[place : place + 1] = b"9" * data.draw(st.integers(1, 30))
        if len(changed) < 12:
            break

    read(bytes(changed))


def nodes(node: Any) -> list[Any]:
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    return [node, *(found for each in inner for found in nodes(each))]


@settings(max_examples=400)
@given(st.sampled_from(SAMPLES), st.data())
def test_whatever_node_stands_elsewhere_is_a_value_or_a_value_error(parcel: bytes, data: st.DataObject):
    """The JSON stays JSON here, and so gets as far as what reads the nodes."""
    [length] = struct.unpack_from("<I", parcel, 8)
    document = json.loads(str(parcel[12 : 12 + length], "utf-8", "surrogatepass"))
    every = nodes(document)
    target = data.draw(st.sampled_from([node for node in every if isinstance(node, (dict, list)) and node]))
    odd = st.sampled_from([*every, 2**62, -1, 10**18, 0.5, "x", None, [], {}, {"!": "frame"}, True, "<O8", "|V8"])
    place = data.draw(st.sampled_from(list(target) if isinstance(target, dict) else range(len(target))))
    target[place] = data.draw(odd)
    try:
        text = json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
    except ValueError:
        return  # a node inside itself

    read(parcel[:8] + struct.pack("<I", len(text)) + text + parcel[12 + length :])


def shapes_of(node: Any) -> list[list[Any]]:
    return [each["shape"] for each in nodes(node) if isinstance(each, dict) and isinstance(each.get("shape"), list)]


@pytest.mark.parametrize("parcel", SAMPLES)
def test_an_array_of_other_dimensions_never_gets_into_pandas(parcel: bytes):
    """Columns of none or two dimensions have made pandas read memory that isn't theirs."""
    [length] = struct.unpack_from("<I", parcel, 8)
    text = str(parcel[12 : 12 + length], "utf-8", "surrogatepass")
    for place in range(len(shapes_of(json.loads(text)))):
        for other in ([], [1, 1], [3, 1], [0, 0]):
            document = json.loads(text)
            shapes_of(document)[place][:] = other
            changed = json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
            read(parcel[:8] + struct.pack("<I", len(changed)) + changed + parcel[12 + length :])


def with_text(document: Any, rest: bytes = b"") -> bytes:
    text = document if isinstance(document, bytes) else json.dumps({"params": None, **document}).encode()
    return parcels.MAGIC + struct.pack("<I", len(text)) + text + rest


HUGE = [2**40]
BOMBS = {
    "an array without its bytes": {"value": {"!": "array", "dtype": "<f8", "shape": HUGE}},
    "elements without bytes": {"value": {"!": "array", "dtype": "<U0", "shape": HUGE}},
    "pointers": {"value": {"!": "array", "dtype": "|O8", "shape": [1]}},
    "objects": {"value": {"!": "array", "dtype": "O", "shape": [1]}},
    "a frame of nothing": {"value": {"!": "frame", "columns": [], "index": None, "rows": 2**40, "arrays": []}},
    "one value for all rows": {
        "value": {
            "!": "frame",
            "columns": {"!": "range", "start": 0, "stop": 1, "step": 1, "name": None},
            "index": None,
            "rows": 2**40,
            "arrays": [{"!": "array", "dtype": "|i1", "shape": []}],
        }
    },
    "lists in lists": b'{"params":null,"value":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "objects in objects": b'{"params":null,"value":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
    "a number without end": b'{"params":null,"value":' + b"9" * 100_000 + b"}",
    "no value": {},
    "an unknown node": {"value": {"!": "pickle"}},
    "a zone outside of the database": {
        "value": {"!": "datetime", "value": "2026-01-01T00:00:00", "fold": 0, "zone": ["zoneinfo", "../../etc/passwd"]}
    },
    "columns without end": {"value": [{"!": "array", "dtype": "|i1", "shape": [0]}] * 100_001},
}


@pytest.mark.parametrize("document", BOMBS.values(), ids=BOMBS.keys())
def test_a_parcel_takes_no_memory_that_its_length_does_not_explain(document: Any):
    parcel = with_text(document, bytes(8))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"^the parcel is damaged: "):
            unpack(parcel)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 60 * len(parcel) + 4_000_000


@pytest.mark.parametrize("parcel", [b"", b"\x93RAIPF\x01", b"\x93NUMPY\x01\x00" + bytes(40)])
def test_other_bytes_are_no_parcel(parcel: bytes):
    assert not parcels.is_parcel(parcel)
    with pytest.raises(ValueError, match=r"^the bytes are no parcel: they don't begin with its magic number$"):
        unpack(parcel)


def test_a_parcel_is_read_by_its_folder_alone():
    """So the worker reads it, in an environment that has none of our packages."""
    folder = Path(parcels.__file__).parent
    program = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("parcels", {str(folder / "__init__.py")!r},
                                              submodule_search_locations=[{str(folder)!r}])
module = sys.modules["parcels"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
value, params = module.unpack(sys.stdin.buffer.read())
assert not [name for name in sys.modules if name.startswith(("redisai_engine", "pandas"))]
sys.stdout.buffer.write(module.pack([value, params]))
"""
    value = {"a": [1, 2.5, np.float32(3)]}
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], input=pack(value, {"k": 1}), stdout=subprocess.PIPE, check=True
    )

    assert equal(unpack(done.stdout)[0], [value, {"k": 1}])


def test_uuids_are_no_text():
    assert_round_trip(uuid.UUID(int=5))

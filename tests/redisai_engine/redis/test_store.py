"""Tensors and models as values of Redis keys: what is written can be read, and nothing else is mistaken for them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redisai_engine.errors import CommandError, UpstreamError, WrongType
from redisai_engine.protocol.dtypes import DTYPES
from redisai_engine.protocol.frames import ReplyError
from redisai_engine.protocol.tensor import Tensor, element_count
from redisai_engine.redis import store

shapes = st.lists(st.integers(0, 3), max_size=6).map(tuple)


def blob_of(dtype, shape: tuple[int, ...]) -> bytes:
    count = element_count(shape)
    return b"ab\0" * count if dtype.is_string else bytes(range(256))[: dtype.size] * count


def check_readable(value: bytes) -> None:
    """A string is read whole, elements included, or refused."""
    try:
        tensor = store.parse_tensor(value)
    except CommandError:
        return
    assert tensor.array().shape == tensor.shape
    assert tensor.dtype.is_string or len(tensor.blob) == tensor.dtype.size * element_count(tensor.shape)


class TestTensors:
    """A tensor is a string with a header of its own."""

    @settings(deadline=None)
    @given(st.sampled_from(DTYPES), shapes)
    def test_what_is_written_can_be_read(self, dtype, shape: tuple[int, ...]):
        tensor = Tensor(dtype, shape, blob_of(dtype, shape))

        value = store.tensor_value(tensor)
        read = store.parse_tensor(value)

        assert (read.dtype, read.shape, bytes(read.blob)) == (tensor.dtype, tensor.shape, tensor.blob)
        assert store.parse_shape(value[:4096]) == (tensor.dtype, tensor.shape)
        assert store.is_tensor(value[:8])

    def test_the_elements_are_aligned_and_never_embedded(self):
        """Redis embeds strings of up to 44 bytes; NumPy reads aligned numbers faster."""
        for dimensions in range(40):
            tensor = Tensor.from_array(np.zeros((1,) * dimensions, np.float64))
            header = len(store.tensor_value(tensor)) - 8
            assert header % 16 == 0
            assert header >= 48

    @pytest.mark.parametrize(
        "value",
        [b"", b"x", b"x" * 100, store.TENSOR_MAGIC, b"\x00AITENS\x02" + bytes(60), store.TENSOR_MAGIC + b"x" * 39],
    )
    def test_other_strings_are_of_the_wrong_type(self, value: bytes):
        with pytest.raises(WrongType):
            store.parse_tensor(value)

    @pytest.mark.parametrize("change", [lambda value: value[:-1], lambda value: value + b"x"])
    def test_a_tensor_that_somebody_wrote_into_is_of_the_wrong_type(self, change):
        value = store.tensor_value(Tensor.from_array(np.zeros(3, np.float32)))

        with pytest.raises(WrongType):
            store.parse_tensor(change(value))

    @settings(deadline=None)
    @given(
        st.sampled_from(DTYPES),
        st.lists(st.sampled_from([0, 1, 2, 3, 2**16, 2**31, 2**32, 2**61, 2**62, 2**63 - 1]), max_size=6),
        st.binary(max_size=16),
    )
    @example(DTYPES[0], [0, 2**62], b"")
    @example(DTYPES[0], [2**32, 2**32], b"")
    @example(DTYPES[9], [0, 2**63 - 1], b"")
    def test_a_header_whose_shape_lies_is_of_the_wrong_type(self, dtype, shape: list[int], blob: bytes):
        """Products are exact: 2**32 times 2**32 isn't zero elements, as it is in C."""
        check_readable(store.tensor_value(Tensor(dtype, tuple(shape), blob)))

    @settings(deadline=None)
    @given(st.binary(max_size=200))
    @example(bytes(40))
    @example(b"\x00\x05" + bytes(5) + b"\x01" + bytes(32))
    def test_any_bytes_behind_the_magic_are_a_tensor_or_the_wrong_type(self, rest: bytes):
        check_readable(store.TENSOR_MAGIC + rest)

    @settings(deadline=None)
    @given(
        dtype=st.integers(0, 255),
        shape=st.lists(st.integers(-2, 3), max_size=40),
        dimensions=st.none() | st.integers(0, 255),
        size=st.none() | st.integers(0, 2**32 - 1),
        blob=st.binary(max_size=30),
    )
    def test_any_header_is_a_tensor_or_the_wrong_type(
        self, dtype: int, shape: list[int], dimensions: int | None, size: int | None, blob: bytes
    ):
        """Whoever may write a string may write this one: it must fail alone and say so."""
        needed = max(48, -(-(16 + 8 * len(shape)) // 16) * 16)
        given_size = needed if size is None else size
        count = len(shape) if dimensions is None else dimensions
        fixed = struct.pack("<8sBBHI", store.TENSOR_MAGIC, dtype, count, 0, given_size)

        check_readable((fixed + struct.pack(f"<{len(shape)}q", *shape)).ljust(needed, b"\0") + blob)

    def test_the_head_of_a_key_tells_what_it_holds(self):
        store.check_tensor_head(b"")
        store.check_tensor_head(store.TENSOR_MAGIC)
        with pytest.raises(WrongType):
            store.check_tensor_head(b"some te")
        with pytest.raises(UpstreamError, match="NOPERM no"):
            store.check_tensor_head(ReplyError("NOPERM no"))

    def test_no_shape_without_a_key(self):
        with pytest.raises(CommandError, match="tensor key is empty"):
            store.parse_shape(b"")
        with pytest.raises(WrongType):
            store.parse_shape(b"text")


class TestModels:
    """A model is a hash: marker, id, metadata, and the blob in pieces."""

    META = store.ModelInfo(
        backend="TF",
        device="CPU:1",
        tag="caf\u00e9 \udcff",
        batch_size=8,
        min_batch_size=2,
        min_batch_timeout_ms=5,
        inputs=("a", "b"),
        outputs=("y",),
        blob_size=3,
    )

    def test_what_is_written_can_be_read(self):
        fields = store.model_fields(self.META, b"abc")
        values = dict(zip(map(bytes, fields[::2]), map(bytes, fields[1::2]), strict=True))

        assert values[store.MARKER] == store.FORMAT
        assert values[store.ID] == self.META.id.encode()
        assert store.parse_meta(values[store.META], values[store.ID]) == self.META
        assert [values[name] for name, _ in self.META.blob_fields] == [b"abc"]

    def test_a_large_blob_is_cut_into_pieces(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(store, "BLOB_FIELD_SIZE", 4)
        blob = b"0123456789"
        meta = store.ModelInfo("ONNX", "CPU", blob_size=len(blob))

        fields = store.model_fields(meta, blob)

        sizes = dict(meta.blob_fields)
        pieces = {bytes(name): bytes(value) for name, value in zip(fields[::2], fields[1::2], strict=True)}
        assert [pieces[name] for name in sizes] == [b"0123", b"4567", b"89"]
        assert list(sizes.values()) == [4, 4, 2]
        assert set(sizes) <= set(store.MODEL_FIELDS)

    def test_an_id_is_new_at_every_store(self):
        ids = {store.ModelInfo("ONNX", "CPU").id for _ in range(1000)}

        assert len(ids) == 1000

"""
Frames as Parquet, which a few hundred bytes may inflate to any size: read only after their pages have been looked at.

Theory of operation. What a file says of its columns need not be true; pyarrow goes by the header in front of each page,
and makes room for the size that is written there. So these headers are read first (Thrift's compact protocol). A value
of a dictionary may stand in every row, and pyarrow writes it out for each of them; so may what a text has in common
with the one before it, and nothing at all of a type with a fixed length. So the longest value that there can be says
how many rows are read at once, and what was read is counted before the next ones.

Invariant: nothing is decompressed or written out that takes more memory than is allowed.
"""

from __future__ import annotations

from typing import Any

from redisai_engine.fronts.http.access.failures import RequestRefused

_BATCH_ROWS = 65536
_MOST_PAGES = 100_000
_VALUE_BYTES = 8  # that a value takes at least
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3  # kinds of pages
_ENCODINGS = {5: 2, 7: 2, 8: 4}  # fields of a page's header: which of their fields is the encoding; the first counts
_DELTA_TEXTS = 7  # an encoding: each text is written as what differs from the one before it
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_DEEPEST = 8  # structures in structures
_CODECS = frozenset(("UNCOMPRESSED", "SNAPPY", "GZIP", "BROTLI", "ZSTD", "LZ4", "LZ4_RAW", "LZO", "LZ4_HADOOP"))


class BrokenPages(Exception):
    """The pages aren't where the file says, or aren't pages."""


def read_parquet(body: bytes, most: int) -> Any:
    """
    Return the frame in a body. `most` is how many bytes it may take.

    Raise RequestRefused if it takes more, and exceptions of many kinds for what is no Parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(pa.BufferReader(body), memory_map=False)
    if file.metadata.num_rows * max(1, file.metadata.num_columns) * _VALUE_BYTES > most:
        raise _too_much(most)
    parts = []
    size = 0
    for batch in file.iter_batches(_rows_at_once(body, file, most), use_threads=False):
        size += batch.nbytes
        if size > most:
            raise _too_much(most)
        parts.append(batch)
    return pa.Table.from_batches(parts, file.schema_arrow).to_pandas()


def _too_much(most: int) -> RequestRefused:
    return RequestRefused(413, f"the frame takes more than the {most} bytes that are allowed (see --tensor-limit)")


def _rows_at_once(body: bytes, file: Any, most: int) -> int:
    """Return how many rows may be read at once. Raise RequestRefused if the file is too large, or BrokenPages."""
    metadata = file.metadata
    pages = inflated = row_bytes = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        group_row_bytes = 0
        for index in range(group.num_columns):
            column = file.schema.column(index)
            found = _look_at(body, group.column(index), _MOST_PAGES - pages)
            longest = max(found.longest, column.length or 0)
            pages += found.pages
            inflated += found.inflated
            if column.max_repetition_level:  # a row may have any number of values
                inflated += found.values * max(longest, _VALUE_BYTES)
            group_row_bytes += longest
        row_bytes = max(row_bytes, group_row_bytes)
        if inflated > most:
            raise _too_much(most)
    return max(1, min(_BATCH_ROWS, most // max(row_bytes, 1)))


class _Column:
    """What the pages of one column in one group of rows have: bytes once decompressed, and values."""

    def __init__(self) -> None:
        self.pages = 0
        self.inflated = 0
        self.longest = 0  # bytes of a value that may be written once and read many times
        self.values = 0


def _look_at(body: bytes, chunk: Any, most_pages: int) -> _Column:
    """Read the headers of the pages that pyarrow will read. Raise BrokenPages."""
    found = _Column()
    if chunk.compression not in _CODECS:
        raise BrokenPages(f"the compression {chunk.compression} is unknown")
    at = chunk.data_page_offset
    if chunk.dictionary_page_offset is not None and 0 < chunk.dictionary_page_offset < at:
        at = chunk.dictionary_page_offset
    end = min(len(body), at + chunk.total_compressed_size)
    if not 0 <= at <= end:
        raise BrokenPages("a column begins outside the file")
    while found.values < chunk.num_values:
        if found.pages >= most_pages:
            raise BrokenPages(f"the file has more than {_MOST_PAGES} pages")
        page = _Page(body, at, end)
        found.pages += 1
        found.inflated += page.inflated
        if page.kind == _DICTIONARY:
            found.longest = max(found.longest, page.inflated)
        elif page.kind in (_DATA, _DATA_V2):
            found.values += page.values
            if page.encoding == _DELTA_TEXTS:
                found.longest = max(found.longest, found.inflated)
        at = page.end
    return found


class _Page:
    """The header of a page: Thrift's compact protocol, in which a byte has a field's distance and type."""

    def __init__(self, body: bytes, at: int, end: int) -> None:
        """Raise BrokenPages unless header and page lie before `end`."""
        self._body = body
        self._at = at
        self._end = end
        self.kind = self.inflated = size = self.values = self.encoding = -1
        number = 0
        while (head := self._byte()) != 0:
            number, kind = self._field(head, number)
            if number == 1:
                self.kind = self._number(kind)
            elif number == 2:  # a field of PageHeader in Parquet's definition
                self.inflated = self._number(kind)
            elif number == 3:
                size = self._number(kind)
            elif number in _ENCODINGS and kind == _STRUCT:
                self._counted(_ENCODINGS[number])
            else:
                self._skip(kind, 0)
        self.end = self._at + size
        if size < 0 or self.inflated < 0 or self.kind < 0 or self.end > end:
            raise BrokenPages("a page's header isn't one, or the page goes beyond its column")
        if self.kind in (_DATA, _DATA_V2) and self.values < 0:
            raise BrokenPages("a page doesn't say how many values it has")

    def _counted(self, encoding: int) -> None:
        """Read a structure whose first field is the number of values. `encoding` is the number of another one."""
        number = 0
        while (head := self._byte()) != 0:
            number, kind = self._field(head, number)
            if number == 1:
                self.values = self._number(kind)
            elif number == encoding:
                self.encoding = self._number(kind)
            else:
                self._skip(kind, 1)

    def _byte(self) -> int:
        at = self._at
        if at >= self._end:
            raise BrokenPages("the file ends within a page's header")
        self._at = at + 1
        return self._body[at]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:  # bits of the largest number
                raise BrokenPages("a number has too many bytes")
        return value | byte << shift

    def _zigzag(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)

    def _field(self, head: int, last: int) -> tuple[int, int]:
        return (last + (head >> 4) if head >> 4 else self._zigzag()), head & 15

    def _number(self, kind: int) -> int:
        if kind not in (_I16, _I32, _I64):
            raise BrokenPages("a page's header has something else where a number belongs")
        return self._zigzag()

    def _skip(self, kind: int, depth: int) -> None:
        if depth > _DEEPEST:
            raise BrokenPages("a page's header is too deep")
        if kind == _BYTE:
            self._byte()
        elif kind in (_I16, _I32, _I64):
            self._varint()
        elif kind == _DOUBLE:
            self._at += 8
        elif kind == _BINARY:
            size = self._varint()
            self._at += size
        elif kind == _STRUCT:
            number = 0
            while (head := self._byte()) != 0:
                number, inner = self._field(head, number)
                self._skip(inner, depth + 1)
        elif kind not in (_TRUE, _FALSE):  # no lists or maps are defined in it
            raise BrokenPages("a page's header has a type that doesn't belong there")

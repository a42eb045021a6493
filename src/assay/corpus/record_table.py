"""Read tables of Parquet and Arrow: one row per document, with the text in a column or in a field of a struct."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from assay.config.sources import Source
from assay.core.errors import AssayError, ConfigError, Damaged, did_you_mean
from assay.corpus.source_document import BLOCK, MARK, ORIGIN, ReadOptions, SourceDocument, make_document, not_utf8
from assay.corpus.source_stream import BROKEN, OpenSource, unreadable

Progress = Callable[[int], None]


class _Column(NamedTuple):
    """The column of the text.

    Attributes:
        path: the column, followed by the fields of structs.
        binary: whether the column contains bytes, which the reader decodes as UTF-8.
    """

    path: tuple[str, ...]
    binary: bool


def read_parquet(
    opened: OpenSource, source: Source, options: ReadOptions, progress: Progress
) -> Iterator[SourceDocument]:
    """Yield the documents of a Parquet file.

    Raises:
        ConfigError: the file has no column of text under the source's field.
        Damaged: the file is truncated; or, without `options.unread`, a row has no text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = reported = 0
    try:
        opened.handle.seek(0)
        stored = int(opened.file.system.size(opened.file.path) or 0)
        with pq.ParquetFile(opened.handle) as table:
            rows, schema = max(1, table.metadata.num_rows), table.schema_arrow
            reader = _Rows(opened, source, options, schema)
            for batch in table.iter_batches(batch_size=BLOCK, columns=reader.columns):
                yield from reader.read(batch, row)
                row += len(batch)
                progress(stored * row // rows - reported)  # Arrow seeks in the file, so bytes follow from rows
                reported = stored * row // rows
            progress(stored - reported)
    except (*BROKEN, pa.ArrowException) as error:
        raise unreadable(opened.file, error, row + 1) from error


def count_parquet_rows(opened: OpenSource, source: Source) -> int:
    """Return the number of rows of a Parquet file, from its footer.

    Raises:
        ConfigError: the file has no column of text under the source's field.
        Damaged: the file is truncated.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        opened.handle.seek(0)
        with pq.ParquetFile(opened.handle) as table:
            _Rows(opened, source, ReadOptions(), table.schema_arrow)  # refuses a missing column
            return int(table.metadata.num_rows)
    except (*BROKEN, pa.ArrowException) as error:
        raise unreadable(opened.file, error) from error


def read_arrow(
    opened: OpenSource, source: Source, options: ReadOptions, progress: Progress
) -> Iterator[SourceDocument]:
    """Yield the documents of an Arrow stream or file, as `datasets.save_to_disk` and Feather 2 write them.

    Raises:
        ConfigError: the file has no column of text under the source's field.
        Damaged: the file is truncated; or, without `options.unread`, a row has no text.
    """
    import pyarrow as pa

    row = reported = 0
    try:
        batches = _arrow_batches(opened)
        reader = _Rows(opened, source, options, next(batches))
        for batch in batches:
            yield from reader.read(batch, row)
            row += len(batch)
            place = opened.handle.tell() if opened.handle.seekable() else 0
            progress(max(0, place - reported))
            reported = max(place, reported)
        progress(max(0, int(opened.file.system.size(opened.file.path) or 0) - reported))
    except (*BROKEN, pa.ArrowException) as error:
        raise unreadable(opened.file, error, row + 1) from error


def _arrow_batches(opened: OpenSource) -> Iterator[Any]:
    """Yield the schema, and then the batches of rows."""
    import pyarrow as pa

    opened.handle.seek(0)
    if opened.handle.read(6) == b"ARROW1":
        opened.handle.seek(0)
        table = pa.ipc.open_file(opened.handle)
        yield table.schema
        yield from map(table.get_batch, range(table.num_record_batches))
        return
    _require_end(opened)
    opened.handle.seek(0)
    stream = pa.ipc.open_stream(opened.handle)
    yield stream.schema
    yield from stream


def _require_end(opened: OpenSource) -> None:
    """Refuse an Arrow stream without its end mark, which Arrow reads as a shorter stream."""
    size = opened.handle.seek(0, 2)
    opened.handle.seek(max(0, size - 8))
    if opened.handle.read(8) != b"\xff" * 4 + bytes(4):
        raise OSError("the Arrow stream has no end-of-stream marker, so the file is truncated")


class _Rows:
    """Rows of a table as documents."""

    def __init__(self, opened: OpenSource, source: Source, options: ReadOptions, schema: Any) -> None:
        self._url, self._source, self._options = opened.file.url, source, options
        self._column = _text_column(schema, source.text_field, self._url, source.name)
        self._others = {
            name: stored
            for name in sorted({"id", *ORIGIN})
            if (stored := _stored_name(schema, name)) and stored != self._column.path[0]
        }
        """Stored names of the columns with id and origin, by name."""
        self._decoded = False
        self.columns = [".".join(self._column.path), *self._others.values()]
        """Names of the columns to read."""

    def read(self, batch: Any, first: int) -> Iterator[SourceDocument]:
        """Yield the documents of a batch whose first row has the number `first`, from 0."""
        texts = _column_of(batch, self._column.path)
        for index in range(len(batch)):
            if not self._options.takes(first + index):
                continue
            try:
                yield self._document(batch, texts, index, f"{self._url}:{first + index + 1}")
            except Damaged as error:
                self._options.missed(error)

    def _document(self, batch: Any, texts: Any, index: int, where: str) -> SourceDocument:
        text = self._text(texts[index], where)
        values = {name: batch.column(stored)[index].as_py() for name, stored in self._others.items()}
        own = values.pop("id", None)
        return make_document(text, where, identifier=None if own is None else str(own), origin=values)

    def _text(self, cell: Any, where: str) -> str:
        try:
            value = cell.as_py()
            if isinstance(value, (bytes, bytearray, memoryview)):
                value = bytes(value).decode()
        except UnicodeDecodeError as error:
            raise self._undecodable(where, error) from None
        if value is None:
            raise Damaged(
                f"{where}: the field {self._source.text_field!r} is None, not text.",
                fix="Correct or remove the record.",
            )
        self._decoded = True
        return str(value)

    def _undecodable(self, where: str, error: UnicodeDecodeError) -> AssayError:
        if self._decoded or not self._column.binary:
            return not_utf8(where, error)
        return ConfigError(  # the first value; images and pickles would otherwise be an error per row
            f"{self._url}: column {self._source.text_field!r} holds bytes that are not UTF-8.",
            fix=f"Set the `text_field` of source {self._source.name!r} to a column of text.",
        )


def _column_of(batch: Any, path: tuple[str, ...]) -> Any:
    import pyarrow.compute as pc

    column = batch.column(path[0])
    for name in path[1:]:
        column = pc.struct_field(column, name)
    return column


def _text_column(schema: Any, field: str, url: str, source: str) -> _Column:
    """Find the text column. A column with exactly this name takes precedence over a field of a struct."""
    import pyarrow as pa

    fix = f"Set the `text_field` of source {source!r}."
    stored = _stored_name(schema, field)
    path = tuple(field.split(".")) if stored is None else (stored,)
    kind: Any = pa.struct(list(schema))
    if schema.names.count(path[0]) > 1:
        raise ConfigError(
            f"{url}: {schema.names.count(path[0])} columns are called {path[0]!r}.", fix="Rename all but one."
        )
    for name in path:
        index = kind.get_field_index(name) if pa.types.is_struct(kind) else -1
        if index < 0:
            raise ConfigError(
                f"{url}: no column is called {field!r}. {did_you_mean(field, _column_names(schema))}", fix=fix
            )
        kind = kind.field(index).type
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    binary = any(
        test(value)
        for test in (
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_fixed_size_binary,
            pa.types.is_binary_view,
        )
    )
    text = any(test(value) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))
    if not text and not binary:
        nested = [f"{field}.{name}" for name in _column_names(value)] if pa.types.is_struct(value) else []
        hint = f" {did_you_mean(field, nested)}" if nested else ""
        raise ConfigError(f"{url}: column {field!r} is of type {_short(value)}, not text.{hint}", fix=fix)
    return _Column(path, binary)


def _stored_name(schema: Any, name: str) -> str | None:
    """Return the name of a column as stored. The first name may begin with a byte order mark from an earlier table."""
    return next((stored for stored in (name, f"{MARK}{name}") if stored in schema.names), None)


def _short(kind: Any) -> str:
    """Name a type, without the fields of a struct."""
    name = str(kind)
    return name if len(name) <= 40 else name.partition("<")[0]


def _column_names(fields: Any) -> Iterator[str]:
    """Yield the names of columns, and of the fields of structs with a dot."""
    import pyarrow as pa

    for field in fields:
        yield field.name
        if pa.types.is_struct(field.type):
            yield from (f"{field.name}.{name}" for name in _column_names(field.type))

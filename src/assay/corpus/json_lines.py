"""Read JSON lines: one object per line, with the text in a field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from assay.config.sources import Source
from assay.core.errors import Damaged
from assay.corpus.field_path import FieldFault, FieldFaults, text_of
from assay.corpus.source_document import MARK, ORIGIN, ReadOptions, SourceDocument, make_document, not_utf8
from assay.corpus.source_stream import BROKEN, OpenSource, unreadable

_MARK = MARK.encode()


def read_json_lines(opened: OpenSource, source: Source, options: ReadOptions) -> Iterator[SourceDocument]:
    """Yield the documents of a file of JSON lines.

    Raises:
        ConfigError: no record of the file has text in the source's field.
        Damaged: the file is truncated; or, without `options.unread`, a line has no text.
    """
    url, number = opened.file.url, 0
    faults = FieldFaults(url, source, options)
    try:
        for line in opened.stream:  # bytes, in which only b"\n" ends a line; str.splitlines also splits at U+2028
            number += 1
            if not options.takes(number - 1) or not line.removeprefix(_MARK).strip():
                continue
            where = f"{url}:{number}"
            try:
                record = _parse(line, where)
                document = _document(record, text_of(record, source.text_field), where)
            except FieldFault as fault:
                faults.add(where, fault)
                continue
            except Damaged as error:
                options.missed(error)
                continue
            faults.accept()
            yield document
    except BROKEN as error:
        raise unreadable(opened.file, error, number + 1) from error
    faults.end()


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line.removeprefix(_MARK).decode())
    except UnicodeDecodeError as error:
        raise not_utf8(where, error) from None
    except (ValueError, RecursionError) as error:
        raise Damaged(
            f"{where}: the line is not JSON ({error}).", fix="Write one complete JSON object per line."
        ) from None
    if not isinstance(record, dict):
        raise Damaged(
            f"{where}: the line is a {type(record).__name__}; expected a JSON object.",
            fix='Write objects such as {"text": "..."}.',
        )
    first = next(iter(record), "")
    # The header of a table with a byte order mark, converted to JSON lines, has the mark in its first name.
    return {name.lstrip(MARK): value for name, value in record.items()} if first.startswith(MARK) else record


def _document(record: dict[str, Any], text: str, where: str) -> SourceDocument:
    own = record.get("id")
    identifier = str(own) if isinstance(own, (str, int)) else None
    return make_document(text, where, identifier=identifier, origin={key: record.get(key) for key in ORIGIN})

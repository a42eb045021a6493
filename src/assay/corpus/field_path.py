"""Find the text of a record in a field or a nested field, such as `content.text`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from assay.config.sources import Source
from assay.core.errors import AssayError, ConfigError, Damaged, did_you_mean
from assay.corpus.source_document import ReadOptions

TESTED = 100
"""Number of first records without text after which the error names the field instead of the records."""


class FieldFault(Exception):  # noqa: N818  # a description of the record, which a reader turns into an error
    """A record without text in the source's field.

    Attributes:
        problem: the end of a sentence, such as `no field is called 'text'`.
        hint: names of fields that the user may have meant; may be empty.
    """

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.problem, self.hint = problem, hint


def text_of(record: Mapping[str, Any], field: str) -> str:
    """Return the text in a field. A field with exactly this name takes precedence over a nested field.

    Raises:
        FieldFault: the record has no such field, or its value is not text.

    >>> text_of({"content": {"text": "x"}}, "content.text"), text_of({"content.text": "y"}, "content.text")
    ('x', 'y')
    """
    value: Any = record
    for name in [field] if field in record else field.split("."):
        if not isinstance(value, Mapping) or name not in value:
            raise FieldFault(f"no field is called {field!r}", did_you_mean(field, _names(record)))
        value = value[name]
    if isinstance(value, str):
        return value
    nested = [f"{field}.{name}" for name in _names(value)] if isinstance(value, Mapping) else []
    what = "None" if value is None else f"of type {type(value).__name__}"  # without the value, which may be a secret
    raise FieldFault(f"the field {field!r} is {what}, not text", did_you_mean(field, nested) if nested else "")


def _names(record: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in record.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping) and prefix.count(".") < 3:
            yield from _names(value, f"{prefix}{name}.")


class FieldFaults:
    """Faults of the first records of a file: one error about the field if no record has text in it."""

    def __init__(self, url: str, source: Source, options: ReadOptions) -> None:
        """Start without records.

        Args:
            url: the file.
            source: the source, for its name and field.
            options: receive the error of each record, once a record has text.
        """
        self._url, self._source, self._options = url, source, options
        self._pending: list[tuple[str, FieldFault]] | None = []

    def add(self, where: str, fault: FieldFault) -> None:
        """Add a record without text.

        Raises:
            ConfigError: the file has at least `TESTED` records, and none of them has text.
        """
        if self._pending is None:
            self._options.missed(self._error(where, fault))
            return
        self._pending.append((where, fault))
        if len(self._pending) >= TESTED:
            self.end()

    def accept(self) -> None:
        """Note a record with text, and report the faulty records before it."""
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        for where, fault in pending:
            self._options.missed(self._error(where, fault))

    def end(self) -> None:
        """End the file.

        Raises:
            ConfigError: the file has records, and no record has text.
        """
        if not self._pending:
            return
        _, fault = self._pending[0]
        number = f"all {len(self._pending)} records" if len(self._pending) > 1 else "the only record"
        if len(self._pending) >= TESTED:
            number = f"the first {TESTED} records"
        raise ConfigError(
            f"{self._url}: {fault.problem}, in {number}.{f' {fault.hint}' if fault.hint else ''}", fix=self._fix
        )

    def _error(self, where: str, fault: FieldFault) -> AssayError:
        hint = f" {fault.hint}" if fault.hint else ""
        fix = self._fix if fault.hint else "Correct or remove the record."
        return Damaged(f"{where}: {fault.problem}.{hint}", fix=fix)

    @property
    def _fix(self) -> str:
        return f"Set the `text_field` of source {self._source.name!r}."

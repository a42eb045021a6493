"""Plain mappings to frozen dataclasses and back, strictly: no silent coercion, and no unknown key goes unnamed."""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import cattrs
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError

from assay.errors import AssayError, did_you_mean

T = TypeVar("T")


def from_mapping(kind: type[T], mapping: Mapping[str, Any], *, where: str) -> T:
    """Build a frozen dataclass out of a mapping such as a config node or a JSON record.

    Args:
        kind: the dataclass to build; its fields' types say what is accepted.
        mapping: plain values, as YAML or JSON give them.
        where: what to call the mapping in an error, such as ``"source 'books'"``.

    Raises:
        AssayError: a key is unknown (with the nearest valid one), missing, or of the wrong type; or the
            dataclass itself refuses a value.
    """
    if not isinstance(mapping, Mapping):  # whoever reads a record hands on what its file held
        raise AssayError(
            f"{where}: {'nothing' if mapping is None else type(mapping).__name__} where a mapping was expected."
        )
    try:
        return _converter.structure(mapping, kind)
    except ClassValidationError as error:
        problem = _first_problem(error, kind)
        raise AssayError(problem if problem.startswith(where) else f"{where}: {problem}") from None
    except IterableValidationError as error:
        raise AssayError(f"{where}: {error}") from None


def to_mapping(value: Any) -> Any:
    """The plain values of a dataclass: what `from_mapping` reads back, and what JSON can hold."""
    return _converter.unstructure(value)


def _strictly(accepted: tuple[type, ...], name: str) -> Callable[[Any, Any], Any]:
    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
            msg = f"{value!r} is a {type(value).__name__}, expected {name}"
            raise TypeError(msg)
        return value

    return structure


def _number(value: Any, _: Any) -> float:
    # YAML 1.1 reads `1e-4` (no dot) as a string; people write it all the time, and mean the number.
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        msg = f"{value!r} is a {type(value).__name__}, expected a number"
        raise TypeError(msg)
    return float(value)


def _whole(value: Any, _: Any) -> int:
    # 1e9 is how people write a billion tokens; it is whole, so it is taken as the integer it means.
    number = _number(value, None)
    if not math.isfinite(number) or number != int(number):
        msg = f"{value!r} is not a whole number"
        raise TypeError(msg)
    return value if isinstance(value, int) else int(number)


def _date(value: Any, _: Any) -> datetime.date:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    if isinstance(value, str):
        return datetime.date.fromisoformat(value)
    msg = f"{value!r} is not a date such as 2026-09-01"
    raise TypeError(msg)


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(str, _strictly((str,), "text"))
    converter.register_structure_hook(bool, _strictly((bool,), "true or false"))
    converter.register_structure_hook(int, _whole)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(datetime.date, _date)
    converter.register_unstructure_hook(datetime.date, lambda day: day.isoformat())
    return converter


_converter = _make_converter()


def _first_problem(error: BaseException, kind: Any, path: str = "") -> str:
    """The first thing that is wrong inside cattrs' tree of errors, in one line with its place."""
    if isinstance(error, (ClassValidationError, IterableValidationError)):
        # A misspelt key also leaves the right one missing: the misspelling is what to tell.
        inner = next((e for e in error.exceptions if isinstance(e, ForbiddenExtraKeysError)), error.exceptions[0])
        kind = getattr(error, "cl", kind)
        notes = [note for note in getattr(inner, "__notes__", ()) if hasattr(note, "name") or hasattr(note, "index")]
        if notes:
            step = getattr(notes[-1], "name", None)
            step = f"[{notes[-1].index}]" if step is None else str(step)
            path = f"{path}{'' if step.startswith('[') or not path else '.'}{step}"
            kind = getattr(notes[-1], "type", kind)
        return _first_problem(inner, kind, path)
    place = f"{path}: " if path else ""
    if isinstance(error, ForbiddenExtraKeysError):
        names = [f.name for f in dataclasses.fields(error.cl)] if dataclasses.is_dataclass(error.cl) else []
        key = min(error.extra_fields)
        return f"{place}no field is called {key!r}. {did_you_mean(str(key), names)}"
    if isinstance(error, KeyError):
        return f"{path or str(error.args[0])!r} is missing"
    if isinstance(error, TypeError) and "is not iterable" in str(error):
        return f"{place}expected a list, such as [0, 1, 2]"
    literal = re.fullmatch(r"(.*) not in literal typing\.Literal\[(.*)\]", str(error))
    if literal:
        return f"{place}{literal[1]!r} is not one of {literal[2]}"
    return f"{place}{error}"

"""Convert strictly between plain mappings and frozen dataclasses.

No value is coerced silently, and unknown keys are errors.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import enum
import math
import operator
import os
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

import cattrs
from cattrs.cols import homogenous_tuple_structure_factory
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError

from assay.core.errors import ConfigError, Damaged, did_you_mean, shortened

T = TypeVar("T")
MISSING = " is missing"
"""End of the message about a required key without a value."""


def from_mapping(kind: type[T], mapping: Mapping[str, Any], *, where: str) -> T:
    """Build a frozen dataclass from a mapping, such as a config node or JSON record.

    Args:
        kind: the dataclass to build. Its field types define the accepted values.
        mapping: plain values from YAML or JSON.
        where: the name of the mapping in errors, such as ``"source 'books'"``.

    Raises:
        ConfigError: a key is unknown (the message names the nearest valid key), missing, or of the wrong type; or the
            dataclass refuses a value.
    """
    if not isinstance(mapping, Mapping):  # callers pass on the unchecked content of a file
        raise ConfigError(
            f"{where}: {'an empty value' if mapping is None else type(mapping).__name__} is invalid; expected a mapping."
        )
    try:
        return _converter.structure(mapping, kind)
    except ClassValidationError as error:
        problem = _first_problem(error, kind, where=where)
        fix = "Add the missing key." if problem.endswith(MISSING) else ""
        raise ConfigError(problem if problem.startswith(where) else f"{where}: {problem}", fix=fix) from None
    except IterableValidationError as error:
        raise ConfigError(f"{where}: {error}") from None


def from_record(kind: type[T], record: Mapping[str, Any], *, where: str, fix: str = "") -> T:
    """Build a frozen dataclass from a record that assay wrote.

    Args:
        kind: the dataclass to build.
        record: the plain values of the file.
        where: path of the file, for errors.
        fix: the fix to report for a damaged record.

    Raises:
        Damaged: the record does not fit the dataclass; see `from_mapping`.
    """
    try:
        return from_mapping(kind, record, where=where)
    except ConfigError as error:
        raise Damaged(error.what, fix=fix) from None


def to_mapping(value: Any) -> Any:
    """Return the plain values of a dataclass, which `from_mapping` can read and JSON can represent."""
    return _converter.unstructure(value)


class JsonShape(NamedTuple):
    """The keys that `to_json` includes for a class.

    Attributes:
        keys: for each JSON key, an attribute, a path (`change.sweep`) or a function of the value. None includes every
            field.
        omit: names of fields to omit.
        add: names of properties to append.
    """

    keys: Mapping[str, str | Callable[[Any], Any]] | None = None
    omit: Collection[str] = ()
    add: Collection[str] = ()

    def getters(self, kind: type) -> dict[str, Callable[[Any], Any]]:
        """Return for each key a function that reads the key from a value."""
        keys = self.keys
        if keys is None:
            names = getattr(kind, "_fields", None) or [field.name for field in dataclasses.fields(kind)]
            keys = {name: name for name in (*names, *self.add) if name not in self.omit}
        return {key: operator.attrgetter(get) if isinstance(get, str) else get for key, get in keys.items()}


_SHAPES: dict[type, JsonShape] = {}


def json_shape(
    keys: Mapping[str, str | Callable[[Any], Any]] | None = None,
    *,
    omit: Collection[str] = (),
    add: Collection[str] = (),
) -> Callable[[type[T]], type[T]]:
    """Declare the keys that `to_json` includes for a class; see `JsonShape`."""

    def declare(kind: type[T]) -> type[T]:
        _SHAPES[kind] = JsonShape(keys, omit, add)
        return kind

    return declare


def _getters(kind: type) -> dict[str, Callable[[Any], Any]] | None:
    if kind in _SHAPES or dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"):
        return _SHAPES.get(kind, JsonShape()).getters(kind)
    return None


def to_json(value: Any, hooks: Mapping[type, Callable[[Any], Any]] | None = None) -> Any:
    """Convert a value to plain values for programs that read JSON.

    NaN and infinity become null, and keys become text. `from_mapping` reads the values of `to_mapping`, but not always
    the values of this function: see `json_shape`.

    Args:
        value: the value. A dataclass or a named tuple becomes a mapping.
        hooks: for each class with another representation, a function that returns the representation, such as a text
            rendered by `report`. `to_json` converts the returned value in turn.
    """
    if hooks and type(value) in hooks:
        value = hooks[type(value)](value)
    getters = _getters(type(value))
    if getters is not None:
        return {key: to_json(get(value), hooks) for key, get in getters.items()}
    if isinstance(value, Mapping):
        keys = (" ".join(key) if isinstance(key, tuple) else str(key) for key in value)
        return {key: to_json(each, hooks) for key, each in zip(keys, value.values(), strict=True)}
    if isinstance(value, (list, tuple)):
        return [to_json(each, hooks) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, (enum.Enum, os.PathLike, datetime.date)) else value


def _strictly(accepted: tuple[type, ...], name: str) -> Callable[[Any, Any], Any]:
    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
            hint = "; put it in quotes" if str in accepted and isinstance(value, int | float) else ""
            msg = f"{shortened(repr(value))} is a {type(value).__name__}, expected {name}{hint}"
            raise TypeError(msg)
        return value

    return structure


def _scalar(value: Any, kind: Any) -> Any:
    """Accept a value of one of several plain types, without conversion."""
    if type(value) not in kind.__args__:
        names = ", ".join(accepted.__name__ for accepted in kind.__args__)
        msg = f"{shortened(repr(value))} is a {type(value).__name__}, expected one of {names}"
        raise TypeError(msg)
    return value


def _number(value: Any, _: Any) -> float:
    # YAML 1.1 reads `1e-4` (without a dot) as text, but users mean a number.
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        msg = f"{shortened(repr(value))} is a {type(value).__name__}, expected a number"
        raise TypeError(msg)
    return float(value)


def _whole(value: Any, _: Any) -> int:
    # Users write a billion tokens as 1e9, which YAML reads as a float.
    number = _number(value, None)
    if not math.isfinite(number) or number != int(number):
        msg = f"{shortened(repr(value))} is not a whole number"
        raise TypeError(msg)
    return value if isinstance(value, int) else int(number)


def _date(value: Any, _: Any) -> datetime.date:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return datetime.date.fromisoformat(value)
    msg = f"{shortened(repr(value))} is not a date such as 2026-09-01"
    raise TypeError(msg)


def _list(kind: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    """Return the hook of a tuple of equal types, which refuses text: its letters would become the entries."""
    usual = homogenous_tuple_structure_factory(kind, converter)

    def structure(value: Any, to: Any) -> Any:
        if isinstance(value, str):
            msg = f"{shortened(repr(value))} is a str, expected a list, such as [{shortened(value)}]"
            raise TypeError(msg)
        return usual(value, to)

    return structure


def _is_list(kind: Any) -> bool:
    arguments = get_args(kind)
    return get_origin(kind) is tuple and len(arguments) == 2 and arguments[1] is ...


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook_factory(_is_list, _list)
    converter.register_structure_hook(str, _strictly((str,), "text"))
    converter.register_structure_hook(bool, _strictly((bool,), "true or false"))
    converter.register_structure_hook(int, _whole)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(datetime.date, _date)
    converter.register_structure_hook(int | str, _scalar)
    converter.register_structure_hook(bool | int | float | str, _scalar)
    converter.register_unstructure_hook(datetime.date, lambda day: day.isoformat())
    return converter


_converter = _make_converter()


def _located(path: str, text: str, where: str) -> str:
    """Join the location of a problem and its text, without a part of the location that the text repeats.

    >>> _located("aggregate", "aggregate 'x': `margin` -1 is invalid.", "policy p.yaml")
    "aggregate 'x': `margin` -1 is invalid."
    >>> _located("primary[0]", "policy: `margin` -1 is invalid.", "policy p.yaml")
    'primary[0]: `margin` -1 is invalid.'
    >>> _located("seeds", "expected a list", "sweep 'a'")
    'seeds: expected a list'
    """
    outer, _, last = path.rpartition(".")
    names = {where, where.partition(" ")[0], *re.findall(r"[^.\[\]]+", outer)} - {"", last}
    for name in names if path else ():
        text = text.removeprefix(f"{name}: ")
    kind, _, named = where.partition(" ")
    if named and not path:
        text = re.sub(rf"^{re.escape(kind)} '[^']*': ", "", text)
    if last and re.match(rf"{re.escape(last)}(\.|: | ')", text):
        return f"{outer}.{text}" if outer else text
    return f"{path}: {text}" if path else text


def _first_problem(error: BaseException, kind: Any, path: str = "", *, where: str = "") -> str:
    """Return the first problem in cattrs' error tree as one line with its location."""
    if isinstance(error, (ClassValidationError, IterableValidationError)):
        # A misspelled key implies a missing correct key: report the misspelling.
        inner = next((e for e in error.exceptions if isinstance(e, ForbiddenExtraKeysError)), error.exceptions[0])
        kind = getattr(error, "cl", kind)
        notes = [note for note in getattr(inner, "__notes__", ()) if hasattr(note, "name") or hasattr(note, "index")]
        if notes:
            step = getattr(notes[-1], "name", None)
            step = f"[{notes[-1].index}]" if step is None else str(step)
            path = f"{path}{'' if step.startswith('[') or not path else '.'}{step}"
            kind = getattr(notes[-1], "type", kind)
        return _first_problem(inner, kind, path, where=where)
    place = f"{path}: " if path else ""
    if isinstance(error, ForbiddenExtraKeysError):
        names = [f.name for f in dataclasses.fields(error.cl)] if dataclasses.is_dataclass(error.cl) else []
        key = min(error.extra_fields)
        return f"{place}no field is called {key!r}. {did_you_mean(str(key), names)}"
    if isinstance(error, KeyError):
        return f"{path or str(error.args[0])!r}{MISSING}"
    if (isinstance(error, TypeError) and str(error).startswith("argument of type")) or (
        isinstance(error, AttributeError)
        and str(error).endswith(("has no attribute 'items'", "has no attribute 'keys'"))
    ):
        return f"{place}expected a mapping, such as {{name: value}}"
    if isinstance(error, TypeError) and "is not iterable" in str(error):
        return f"{place}expected a list, such as [0, 1, 2]"
    literal = re.fullmatch(r"(.*) not in literal typing\.Literal\[(.*)\]", str(error))
    if literal:
        return f"{place}{literal[1]!r} is not one of {literal[2]}"
    return _located(path, str(error), where)

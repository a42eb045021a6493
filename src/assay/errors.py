"""The one exception that users are meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AssayError(Exception):
    """Something the user can mend: says what is wrong, and what to do.

    Attributes:
        what: the thing's name, its value, and the bound that it breaks.
        fix: what to do about it, in one sentence; may be empty.
    """

    def __init__(self, what: str, *, fix: str = "") -> None:
        super().__init__(what if not fix else f"{what}\n{fix}")
        self.what = what
        self.fix = fix

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Survive a trip between processes, where exceptions are rebuilt from their arguments."""
        return (_rebuild, (type(self), self.what, self.fix))


def _rebuild(kind: type[AssayError], what: str, fix: str) -> AssayError:
    return kind(what, fix=fix)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint naming the valid names nearest to a misspelt one.

    >>> did_you_mean("encyclopdia", ["books", "encyclopedia"])
    "Did you mean 'encyclopedia'? Known: books, encyclopedia."
    """
    names = sorted(known)
    if not names:
        return "None is defined."
    listed = ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"{hint}Known: {listed}."

"""Define assay's exceptions, with one subclass for each possible reaction of a caller."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable


class AssayError(Exception):
    """The base class of errors that a user can fix. Raise one of its subclasses.

    Catch this class only at the command line, or where a page or a list shows the message of each failed item.

    Attributes:
        what: the subject, its value, and the violated bound.
        fix: one imperative sentence that corrects the value; may be empty.
    """

    def __init__(self, what: str, *, fix: str = "") -> None:
        super().__init__(what if not fix else f"{what}\n{fix}")
        self.what = what
        self.fix = fix

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Support pickling between processes, which rebuilds exceptions from their arguments."""
        return (_rebuild, (type(self), self.what, self.fix))


class ConfigError(AssayError):
    """An invalid configuration, argument or override, which the user has to edit.

    A caller adds the place (file, section, option) to the error, and never continues with a default.
    """


class NotFound(AssayError):  # noqa: N818  # distinct from `FileNotFoundError`: this error is for users
    """A named or required object that does not exist or cannot be reached.

    A caller may treat the object as absent: create it, continue without it, or list it as missing.
    """


class Damaged(AssayError):  # noqa: N818  # as above
    """A file or record that is unreadable, or that contradicts itself or another record.

    A caller must never treat the file as absent. The caller reports the file and the fix. It recreates only files that
    follow from other records, such as a cache.
    """


class Refused(AssayError):  # noqa: N818  # as above
    """A valid request that assay, the machine or a service declines.

    The causes are policy, state, clearance or lack of space. The same request may succeed after the named state
    changes. A caller may continue with other requests.
    """


class SchedulerError(AssayError):
    """A failed command of the cluster's scheduler.

    Its subclasses state whether a caller may retry (`launch.slurm.commands`). Until the scheduler replies, the state of
    a job is unknown. A caller must not treat the job as absent or ended.
    """


def _rebuild(kind: type[AssayError], what: str, fix: str) -> AssayError:
    return kind(what, fix=fix)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint with the valid name nearest to a misspelled name.

    >>> did_you_mean("encyclopdia", ["books", "encyclopedia"])
    "Did you mean 'encyclopedia'? Known: books, encyclopedia."
    """
    names = sorted(known)
    if not names:
        return "None is defined."
    listed = ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
    near = [known for known in difflib.get_close_matches(name, names, n=5, cutoff=0.5) if _is_near(name, known)]
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"{hint}Known: {listed}."


def _is_near(name: str, known: str) -> bool:
    """Return whether few edits separate two names, or one name contains the other.

    >>> _is_near("hellaswg", "hellaswag"), _is_near("scale", "value")
    (True, False)
    """
    name, known = name.lower(), known.lower()
    if min(len(name), len(known)) > 2 and (name in known or known in name):
        return True
    if sorted(name) == sorted(known):  # transposed letters
        return True
    return _count_edits(name, known) <= max(1, math.ceil(len(name) / 3))


def _count_edits(left: str, right: str) -> int:
    """Return the Levenshtein distance of two names: the fewest insertions, deletions and substitutions."""
    above = list(range(len(right) + 1))
    for i, character in enumerate(left, start=1):
        row = [i]
        for j, other in enumerate(right, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (character != other)))
        above = row
    return above[-1]


def shortened(text: str, length: int = 120) -> str:
    """Return the beginning of a long text, for a message.

    >>> shortened("a" * 9, 5)
    'aaaaa...'
    """
    return text if len(text) <= length else f"{text[:length]}..."

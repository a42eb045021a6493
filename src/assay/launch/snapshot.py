"""The code of a submission, frozen: jobs run what was submitted, whatever is edited or installed afterwards.

A snapshot is a folder of the store::

    code/<digest>/assay/            the package as it was, without write permission
                  versions.json     of Python and of what assay depends on; those are not frozen
                  bytecode.json     digest of the compiled modules, by interpreter
"""

from __future__ import annotations

import compileall
import contextlib
import hashlib
import logging
import os
import platform
import re
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import NamedTuple

import assay
from assay.errors import AssayError
from assay.files import exclusive, read_json, replacing, write_json
from assay.fingerprint import fingerprint
from assay.store import Store

log = logging.getLogger(__name__)

CODE = "ASSAY_CODE"
"""The variable that tells a job the digest of the code that it runs; runs record it."""
PACKAGE = "assay"
VERSIONS = "versions.json"
BYTECODE = "bytecode.json"
CACHE = "__pycache__"


class Snapshot(NamedTuple):
    """The code as it was at one moment.

    Attributes:
        digest: SHA-256 over the files' names and contents, 64 hexadecimal digits.
        path: the folder that Python has to look into first; absolute.
    """

    digest: str
    path: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a process runs this code, whatever is installed and wherever it is started."""
        inherited = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
        others = [part for part in inherited if part != str(self.path)]
        return {
            "PYTHONPATH": os.pathsep.join([str(self.path), *others]),
            # `python -m` looks into the working directory before PYTHONPATH: submitted from `src/`, a job would run that.
            "PYTHONSAFEPATH": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            # Compiled functions go beside the snapshot, which cannot be written: a thousand jobs compile once.
            "NUMBA_CACHE_DIR": str(self.path / "numba"),
            CODE: self.digest,
        }

    def changed_versions(self) -> dict[str, tuple[str | None, str | None]]:
        """Versions that are others here than when the code was last submitted: by name, then and now."""
        then, now = _recorded(self.path / VERSIONS), installed_versions()
        names = sorted({*then, *now})
        return {name: (then.get(name), now.get(name)) for name in names if then.get(name) != now.get(name)}


def freeze(store: Store, *, package: Path | None = None) -> Snapshot:
    """Copy the code into a store, once for each state of it.

    A copy that is there is checked against its digest: one that was damaged or edited is made again. Code that itself
    runs from the store's snapshot is that snapshot.

    Args:
        store: where to.
        package: the package's folder; the one that this process runs, if left out.

    Raises:
        AssayError: this process runs from a snapshot that was edited, or the disk is full.
    """
    package = (package or Path(assay.__file__).parent).resolve()
    files = _read(package)
    digest = _digest(files)
    _refuse_edited(package, digest)
    folder = _folder(store, digest)
    with exclusive(folder.with_suffix(".lock"), wait=True):
        if _digest(_read(folder / PACKAGE)) != digest:
            _place(files, folder)
        if _recorded(folder / BYTECODE).get(_interpreter()) != _digest(_bytecode(folder)):
            with contextlib.suppress(PermissionError):  # somebody else's copy, for another Python: it runs, uncompiled
                _compile(folder, folder)
        _set_writable(folder / PACKAGE, writable=False)
        versions = installed_versions()
        if _recorded(folder / VERSIONS) != versions:  # the same code, from an environment that was changed
            write_json(folder / VERSIONS, versions)
    return Snapshot(digest, folder)


def snapshot_of(store: Store, digest: str) -> Snapshot:
    """The snapshot that was frozen under a digest, as records of submissions have it.

    Raises:
        AssayError: it is not there any more; Python would take the installed code instead, and not say so.
    """
    folder = _folder(store, digest)
    if not (folder / PACKAGE).is_dir():
        raise AssayError(
            f"{folder}: the code that was submitted is gone.", fix="Submit again: it freezes today's code."
        )
    return Snapshot(digest, folder)


def code_digest(package: Path) -> str:
    """SHA-256 over the names and contents of a package's files; compiled modules, times and permissions don't count."""
    return _digest(_read(package))


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the distributions that assay depends on, as far as they are installed."""
    found = {"python": platform.python_version()}
    with contextlib.suppress(PackageNotFoundError):  # run from a folder, without being installed
        for requirement in requires(PACKAGE) or ():
            name = re.match(r"[\w.-]+", requirement)
            if name is not None and "extra ==" not in requirement:
                with contextlib.suppress(PackageNotFoundError):
                    found[name[0]] = version(name[0])
    return found


def _folder(store: Store, digest: str) -> Path:
    return store.root.absolute() / "code" / digest[:32]


def _read(package: Path) -> dict[str, bytes]:
    """A package's files by relative name; read once, so that what is hashed and what is written are the same."""
    paths = {path.relative_to(package): path for path in sorted(package.rglob("*"))}
    return {
        name.as_posix(): path.read_bytes()
        for name, path in paths.items()
        if CACHE not in name.parts and name.suffix != ".pyc" and path.is_file()
    }


def _digest(files: Mapping[str, bytes]) -> str:
    return fingerprint("code", {name: hashlib.sha256(content).hexdigest() for name, content in files.items()})


def _refuse_edited(package: Path, digest: str) -> None:
    """In a snapshot Python runs the compiled modules, so the files that were edited are not what this process runs."""
    if (package.parent / VERSIONS).is_file() and package.parent.name != digest[:32]:
        raise AssayError(
            f"{package}: this code was edited after it was frozen.",
            fix="Edit the installed assay and submit from there; a snapshot that was changed is made again by that.",
        )


def _place(files: Mapping[str, bytes], folder: Path) -> None:
    if folder.exists():
        log.warning("%s is not what was frozen any more; it is made again.", folder)
        _set_writable(folder / PACKAGE, writable=True)  # to be removed, by whoever is not root
    with replacing(folder) as temporary:
        for name, content in files.items():
            path = temporary / PACKAGE / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        write_json(temporary / VERSIONS, installed_versions())
        _compile(temporary, folder)


def _compile(folder: Path, shown: Path) -> None:
    """Compile the modules for this interpreter; Python takes them as they are, without a look at the files' times.

    Args:
        folder: where the package is now.
        shown: where it will be, for tracebacks.
    """
    _set_writable(folder / PACKAGE, writable=True)
    compileall.compile_dir(
        folder / PACKAGE,
        ddir=str(shown / PACKAGE),
        quiet=2,
        force=True,
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )
    write_json(folder / BYTECODE, {**_recorded(folder / BYTECODE), _interpreter(): _digest(_bytecode(folder))})


def _bytecode(folder: Path) -> dict[str, bytes]:
    """The compiled modules of this interpreter, by name."""
    compiled = sorted((folder / PACKAGE).rglob(f"{CACHE}/*.{_interpreter()}.pyc"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in compiled}


def _recorded(path: Path) -> dict[str, str]:
    """What a file beside the package says; nothing where it is missing or damaged, so that it is written again."""
    with contextlib.suppress(FileNotFoundError, AssayError):
        recorded: dict[str, str] = read_json(path)
        return recorded
    return {}


def _interpreter() -> str:
    return sys.implementation.cache_tag or sys.implementation.name


def _set_writable(package: Path, *, writable: bool) -> None:
    """Give the owner write permission on all that is in a package's folder, or take it from everyone."""
    for path in (package, *package.rglob("*")):
        mode = path.stat().st_mode
        wanted = mode | 0o200 if writable else mode & ~0o222
        if wanted != mode:
            path.chmod(wanted)

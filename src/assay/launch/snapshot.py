"""Create code snapshots, so that jobs run the submitted code.

Later edits and installations do not affect a snapshot. A snapshot is a folder of the store::

    code/<digest>/assay/            the package as it was, without write permission
                  versions.json     versions of Python and of assay's dependencies, which are not frozen
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
from assay.core.errors import Damaged, NotFound, Refused
from assay.core.files import exclusive, read_json, replacing, write_json
from assay.core.fingerprint import fingerprint
from assay.store.runs import Store

log = logging.getLogger(__name__)

CODE = "ASSAY_CODE"
"""Environment variable with the digest of a job's code snapshot. Runs record this digest."""
PACKAGE = "assay"
VERSIONS = "versions.json"
BYTECODE = "bytecode.json"
CACHE = "__pycache__"


class Snapshot(NamedTuple):
    """A frozen copy of the code.

    Attributes:
        digest: SHA-256 over the names and contents of the files, 64 hexadecimal digits.
        path: absolute path of the first folder in Python's search path.
    """

    digest: str
    path: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a process runs this code.

        Installed packages and the working directory have no effect.
        """
        inherited = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
        others = [part for part in inherited if part != str(self.path)]
        return {
            "PYTHONPATH": os.pathsep.join([str(self.path), *others]),
            # `python -m` searches the working directory before PYTHONPATH. Submitted from `src/`, a job would run that
            # code.
            "PYTHONSAFEPATH": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            # Compiled functions are cached next to the read-only snapshot, so that a thousand jobs compile them once.
            "NUMBA_CACHE_DIR": str(self.path / "numba"),
            CODE: self.digest,
        }


def freeze(store: Store, *, package: Path | None = None) -> Snapshot:
    """Copy the code into a store, once for each version of the code.

    An existing copy is verified against its digest, and replaced if it is damaged or edited. If the running code is
    itself a snapshot of the store, the function returns this snapshot.

    Args:
        store: the target store.
        package: folder of the package (default: the folder of the running package).

    Raises:
        AssayError: this process runs from an edited snapshot, or the disk is full.
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
            with contextlib.suppress(PermissionError):  # another user's copy for another Python still runs, uncompiled
                _compile(folder, folder)
        _set_writable(folder / PACKAGE, writable=False)
        versions = installed_versions()
        if _recorded(folder / VERSIONS) != versions:  # the same code in a changed environment
            write_json(folder / VERSIONS, versions)
    return Snapshot(digest, folder)


def snapshot_of(store: Store, digest: str) -> Snapshot:
    """Return the snapshot with a digest, as recorded in a submission.

    Raises:
        NotFound: the snapshot no longer exists. Without this error, Python would silently use the installed code.
    """
    folder = _folder(store, digest)
    if not (folder / PACKAGE).is_dir():
        raise NotFound(f"{folder}: the submitted code is missing.", fix="Submit the sweep again with the current code.")
    return Snapshot(digest, folder)


def code_digest(package: Path) -> str:
    """Return the SHA-256 of names and contents of a package's files.

    Compiled modules, times and permissions are not part of the digest.
    """
    return _digest(_read(package))


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of assay's installed dependencies."""
    versions = {"python": platform.python_version()}
    with contextlib.suppress(PackageNotFoundError):  # assay runs from a folder without installation
        for requirement in requires(PACKAGE) or ():
            name = re.match(r"[\w.-]+", requirement)
            if name is not None and "extra ==" not in requirement:
                with contextlib.suppress(PackageNotFoundError):
                    versions[name[0]] = version(name[0])
    return versions


def _folder(store: Store, digest: str) -> Path:
    return store.root.absolute() / "code" / digest[:32]


def _read(package: Path) -> dict[str, bytes]:
    """Read a package's files by relative name.

    One read ensures that the hashed and the written contents are the same.
    """
    paths = {path.relative_to(package): path for path in sorted(package.rglob("*"))}
    return {
        name.as_posix(): path.read_bytes()
        for name, path in paths.items()
        if CACHE not in name.parts and name.suffix != ".pyc" and path.is_file()
    }


def _digest(files: Mapping[str, bytes]) -> str:
    return fingerprint("code", {name: hashlib.sha256(content).hexdigest() for name, content in files.items()})


def _refuse_edited(package: Path, digest: str) -> None:
    """Raise an error for an edited snapshot.

    Python would run the compiled modules of the snapshot instead of the edited files.
    """
    if (package.parent / VERSIONS).is_file() and package.parent.name != digest[:32]:
        raise Refused(
            f"{package}: the frozen code was edited after the submission.",
            fix="Edit the installed assay instead, and submit again. The submission restores the frozen code.",
        )


def _place(files: Mapping[str, bytes], folder: Path) -> None:
    if folder.exists():
        log.warning("%s differs from the frozen code; replacing it", folder)
        _set_writable(folder / PACKAGE, writable=True)  # users other than root cannot delete read-only folders
    with replacing(folder) as temporary:
        for name, content in files.items():
            path = temporary / PACKAGE / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        write_json(temporary / VERSIONS, installed_versions())
        _compile(temporary, folder)


def _compile(folder: Path, shown: Path) -> None:
    """Compile the modules for this interpreter. Python then skips the check of file times.

    Args:
        folder: current location of the package.
        shown: final location, for tracebacks.
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
    """Read the compiled modules of this interpreter, by name."""
    compiled = sorted((folder / PACKAGE).rglob(f"{CACHE}/*.{_interpreter()}.pyc"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in compiled}


def _recorded(path: Path) -> dict[str, str]:
    """Read a JSON file of the snapshot; return an empty mapping if it is missing or damaged."""
    with contextlib.suppress(FileNotFoundError, Damaged):
        recorded: dict[str, str] = read_json(path)
        return recorded
    return {}


def _interpreter() -> str:
    return sys.implementation.cache_tag or sys.implementation.name


def _set_writable(package: Path, *, writable: bool) -> None:
    """Set or remove the write permission of a package's folder.

    The permission is set for the owner, and removed for all users.
    """
    for path in (package, *package.rglob("*")):
        mode = path.stat().st_mode
        wanted = mode | 0o200 if writable else mode & ~0o222
        if wanted != mode:
            path.chmod(wanted)

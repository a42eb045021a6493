"""Members of an archive as text. Nothing is unpacked, so no member's name ever becomes a path."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path


def texts(archive: Path, *patterns: str) -> Iterator[tuple[str, str]]:
    """Text files of a source distribution, in order of their names.

    Args:
        archive: a `.tar.gz`.
        patterns: shell patterns of the names wanted, without the first folder (`docs/*.txt`); `*` crosses folders.

    Yields:
        Name (`Django-5.2/docs/intro/tutorial01.txt`) and text, with Unix line ends. A file that isn't
        UTF-8 is passed over.
    """
    for name, content in binaries(archive, *patterns):
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            continue
        yield name, text.replace("\r\n", "\n")


def binaries(archive: Path, *patterns: str) -> Iterator[tuple[str, bytes]]:
    """Files of a source distribution, in order of their names; as [`texts`][assay.demo.archives.texts]."""
    wanted = {}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:  # in the archive's own order: seeking back would decompress it again
            inside = member.name.partition("/")[2]
            if member.isfile() and any(fnmatchcase(inside, pattern) for pattern in patterns):
                opened = tar.extractfile(member)
                assert opened is not None
                wanted[member.name] = opened.read()
    yield from sorted(wanted.items())

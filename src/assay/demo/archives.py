"""Read members of an archive as text without unpacking, so that no member's name becomes a path."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path


def read_texts(archive: Path, *patterns: str) -> Iterator[tuple[str, str]]:
    """Yield the text files of a source distribution, by name.

    Args:
        archive: path of a `.tar.gz` file.
        patterns: shell patterns of names without the first folder (`docs/*.txt`). `*` matches across folders.

    Yields:
        Name (`Django-5.2/docs/intro/tutorial01.txt`) and text with Unix line ends, of each file that is valid UTF-8.
    """
    for name, content in read_binaries(archive, *patterns):
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            continue
        yield name, text.replace("\r\n", "\n")


def read_binaries(archive: Path, *patterns: str) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of files of a source distribution.

    The arguments are those of [`read_texts`][assay.demo.archives.read_texts].
    """
    contents = {}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:  # in the archive's order, because seeking back would decompress the archive again
            inside = member.name.partition("/")[2]
            if member.isfile() and any(fnmatchcase(inside, pattern) for pattern in patterns):
                opened = tar.extractfile(member)
                assert opened is not None
                contents[member.name] = opened.read()
    yield from sorted(contents.items())

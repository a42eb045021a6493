"""Synthetic packages for tests without an index."""

from __future__ import annotations

import datetime
import hashlib
import io
import tarfile

from assay.demo.packages import Package


def archive(members: dict[str, bytes]) -> bytes:
    """Create a `.tar.gz` with these members."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def package(content: bytes, *, name: str = "tiny", file: str = "tiny-1.0.tar.gz") -> Package:
    """Declare a package whose file has this content."""
    return Package(
        name=name,
        version="1.0",
        file=file,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        released=datetime.date(2026, 1, 2),
        license="MIT",
    )

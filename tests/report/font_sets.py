"""Font sets for browsers under test: fontconfig files that contain a single family of the machine."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from pathlib import Path

FAMILIES = ("DejaVu Sans", "DejaVu Sans Mono", "Liberation Sans", "Noto Sans")
"""Common families of Linux machines; their characters differ in width by up to 40%."""


def write_font_set(family: str, folder: Path) -> Path | None:
    """Write a fontconfig file whose only fonts are those of a family; return `None` if the machine lacks the family."""
    if shutil.which("fc-list") is None:
        return None
    query = ["fc-list", f":family={family}", "--format", "%{file}\n"]
    files = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    fonts = folder / "fonts"
    fonts.mkdir()
    for number, file in enumerate(files):
        (fonts / f"{number}-{file.rpartition('/')[2]}").symlink_to(file)
    config = folder / "fonts.conf"
    config.write_text(
        '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">'
        f"<fontconfig><dir>{escape(str(fonts))}</dir><cachedir>{escape(str(folder / 'cache'))}</cachedir></fontconfig>",
        encoding="utf-8",
    )
    return config if files else None

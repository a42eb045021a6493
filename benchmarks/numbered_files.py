"""Line-number detector on the files of this machine: findings on unchanged files, and recall on numbered code.

    python benchmarks/numbered_files.py FOLDER [FOLDER ...]

The first table counts the findings by rule in the files, unchanged and with each run of blanks and line ends replaced by
one blank, as some extractors do. The second table numbers the lines of random pieces of code and counts the pieces that
the rules for numbers between code find, and the pieces that `number_meaning` then excludes as BASIC or records.
"""

from __future__ import annotations

import argparse
import gzip
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from assay.audit.detectors import line_numbers, number_meaning

CODE = {".py", ".pm", ".js", ".h", ".hpp", ".c", ".sh", ".cu", ".css", ".vim", ".pyx", ".f90", ".json", ".toml"}
TEXT = CODE | {".txt", ".md", ".rst", ".gz", ".tex", ".el", ".pl", ".pyi", ".svg", ".xml", ".yaml", ".ipynb", ".html"}
LARGEST = 2_000_000
PIECES = 4000


def files(folders: list[Path], endings: set[str]) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in sorted(folder.rglob("*")) if path.suffix in endings and path.is_file())


def content(path: Path) -> bytes:
    data = path.read_bytes() if path.stat().st_size <= LARGEST else b""
    if path.suffix == ".gz":
        try:
            return gzip.decompress(data) if data else b""
        except (OSError, EOFError):
            return b""
    return data


def findings(folders: list[Path]) -> None:
    counts, number = Counter[tuple[str, str]](), 0
    for path in files(folders, TEXT):
        data = content(path)
        number += 1
        for form, text in (("unchanged", data), ("in one line", b" ".join(data.split()))):
            counts.update((gutter.rule.name.lower(), form) for gutter in line_numbers.find(text))
    print(f"{number:,} files; findings by rule and form")
    for (rule, form), count in sorted(counts.items()):
        print(f"  {rule:24} {form:12} {count:6,}")


def recall(folders: list[Path]) -> None:
    draw = random.Random(1)
    paths = list(files(folders, CODE))
    draw.shuffle(paths)
    pieces = found = excluded = 0
    for path in paths[:PIECES]:
        lines = path.read_bytes().decode("utf-8", "replace").split("\n")
        length = draw.choice([12, 20, 40, 100])
        start = draw.randrange(max(1, len(lines) - length))
        first = draw.choice([1, start + 1])
        if len(lines) < length:
            continue
        text = "\n".join(f"{n} {line}" for n, line in enumerate(lines[start : start + length], first))
        pieces += 1
        found += bool(line_numbers.find(text.encode("utf-8", "surrogatepass")))
        excluded += number_meaning.carry_meaning(text)
    print(f"{pieces:,} numbered pieces of code: {found:,} found, {excluded:,} excluded as BASIC or records")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    folders = parser.parse_args().folders
    recall(folders)
    findings(folders)


if __name__ == "__main__":
    main()

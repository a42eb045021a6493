"""Recall of the line-number detector by extractor, and false positives on text with other runs of numbers.

    python benchmarks/line_numbers.py pages   --folder F                 # Debian packages: fetched, unpacked (apt-get, dpkg)
    VENV/bin/python benchmarks/line_numbers.py extract --folder F        # trafilatura, resiliparse, html2text in a venv
    python benchmarks/line_numbers.py measure --folder F                 # the table

The pages show source code of Rust's library, libstdc++ and Eigen. Their markup contains the true line numbers. A page is
positive if at least 10 of them, and at least half, are in the extracted text in order, or if at least 10 directly precede
the code of their line. The criterion uses the markup and not the detector. The other sources have tables, verses,
changelogs, numbered lists, arrays and loops, and no line-number gutter.
"""

from __future__ import annotations

import argparse
import gzip
import html
import json
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

LISTINGS = {
    "rust": ("rust-doc", "*.rs.html*", re.compile(r'<span id="(\d+)">')),
    "libstdc++": ("libstdc++-12-doc", "*_source.html*", re.compile(r'class="lineno">\s*(\d+)')),
    "eigen": ("libeigen3-doc", "*_source.html*", re.compile(r'class="lineno">\s*(\d+)')),
}
LINE = re.compile(r'class="lineno">\s*(\d+)</span>(.*?)</div>')
"""A line of a doxygen source page: its number and its code."""
PAGES = {  # HTML without line numbers
    "postgresql": ("postgresql-doc-15", "*.html*"),
    "scipy (maths, tables)": ("python-scipy-doc", "*.html*"),
    "sympy (maths)": ("python-sympy-doc", "*.html*"),
    "python manual": ("python3.11-doc", "*.html*"),
    "linux manual (numactl, loops)": ("linux-doc-6.1", "*.html*"),
    "help in Japanese": ("libreoffice-help-ja", "*.html*"),
}
PLAIN = {
    "manual pages, German": ("manpages-de", "man?/*"),
    "manual pages, Japanese (character tables)": ("manpages-ja", "man?/*"),
    "manual pages, Russian (character tables)": ("manpages-ru", "man?/*"),
}
LISTING_PAGES, OTHER_PAGES = 300, 1500
PACKAGES = sorted({entry[0] for table in (LISTINGS, PAGES, PLAIN) for entry in table.values()})
BIBLE = "t_kjv.csv"


def pages(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if not list(folder.glob(f"{package}_*.deb")):
            subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True)
        [deb] = list(folder.glob(f"{package}_*.deb"))[:1]
        target = folder / "x" / package
        if not target.exists():
            target.mkdir(parents=True)
            subprocess.run(["dpkg", "-x", deb, target], check=True)


def extractors() -> dict[str, Callable[[str], str]]:
    import html2text
    import trafilatura
    from resiliparse.extract.html2text import extract_plain_text

    def markdown(page: str) -> str:
        converter = html2text.HTML2Text()
        converter.body_width = 0
        return converter.handle(page)

    return {
        "trafilatura": lambda page: trafilatura.extract(page) or "",
        "trafilatura html2txt": lambda page: trafilatura.html2txt(page) or "",
        "resiliparse": lambda page: extract_plain_text(page, main_content=True),
        "html2text": markdown,
    }


def extract(folder: Path) -> None:
    chosen = extractors()
    for name, (package, pattern, numbers) in LISTINGS.items():
        for extractor, function in chosen.items():
            rows = [
                {
                    "id": path.name,
                    "numbers": [int(n) for n in numbers.findall(page)],
                    "lines": [[n, _plain(code)[:6]] for n, code in LINE.findall(page)],
                    "text": function(page),
                }
                for path, page in _spread(folder / "x" / package, pattern, LISTING_PAGES)
            ]
            _write(folder / "listings" / f"{name}@{extractor}.jsonl", rows)
    for name, (package, pattern) in PAGES.items():
        rows = [
            {"id": str(path), "text": chosen["resiliparse"](page)}
            for path, page in _spread(folder / "x" / package, pattern, OTHER_PAGES)
        ]
        _write(folder / "others" / f"{name}.jsonl", rows)
    for name, (package, pattern) in PLAIN.items():
        rows = [{"id": str(path), "text": page} for path, page in _spread(folder / "x" / package, pattern, OTHER_PAGES)]
        _write(folder / "others" / f"{name}.jsonl", rows)
    library = Path(sysconfig.get_path("stdlib"))
    rows = [{"id": str(path), "text": page} for path, page in _spread(library, "*.py", 3000)]
    _write(folder / "others" / "Python code (arrays, tests).jsonl", rows)
    rows = [{"id": str(path), "text": page} for path, page in _spread(Path("/usr/share/doc"), "changelog*.gz", 1000)]
    _write(folder / "others" / "changelogs.jsonl", rows)
    _write(folder / "others" / "verses.jsonl", list(_verses(folder)))


def _spread(folder: Path, pattern: str, most: int) -> Iterator[tuple[Path, str]]:
    """Yield at most `most` files, evenly spread over the folder; no links, since packages link to each other."""
    paths = sorted(path for path in folder.rglob(pattern) if path.is_file() and not path.is_symlink())
    for index in range(min(most, len(paths))):
        path = paths[index * len(paths) // min(most, len(paths))]
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "replace")
        if text.strip():
            yield path, text


def _verses(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the chapters of the World English Bible, with verse numbers in several formats."""
    archive = folder / "t_web.csv.gz"
    if not archive.exists():
        return
    import csv
    import io

    chapters: dict[tuple[str, str], list[str]] = {}
    for row in csv.reader(io.StringIO(gzip.decompress(archive.read_bytes()).decode("utf-8"))):
        if len(row) >= 5 and row[1].isdigit():
            chapters.setdefault((row[1], row[2]), []).append(row[4])
    for key, verses in chapters.items():
        for form, chapter in (
            ("lines", "\n".join(f"{n} {verse}" for n, verse in enumerate(verses, 1))),
            ("one paragraph", " ".join(f"{n} {verse}" for n, verse in enumerate(verses, 1))),
            ("dots", "\n".join(f"{n}. {verse}" for n, verse in enumerate(verses, 1))),
            ("chapter:verse", "\n".join(f"{key[1]}:{n} {verse}" for n, verse in enumerate(verses, 1))),
            ("stuck", "\n".join(f"{n}{verse}" for n, verse in enumerate(verses, 1))),
        ):
            yield {"id": f"{key[0]}-{key[1]} {form}", "text": chapter}


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(f"{path.name}: {len(rows)} documents", flush=True)


def _plain(markup: str) -> str:
    return re.sub(r"\s", "", html.unescape(re.sub("<[^>]*>", "", markup)))


def has_line_numbers(text: str, numbers: list[int], lines: list[tuple[str, str]]) -> bool:
    """Return whether a page's line numbers are in its text: half of them in order, or 10 before their code."""
    count, at = 0, 0
    for number in numbers:
        match = re.compile(rf"(?<![\d.]){number}(?![\d])").search(text, at, at + 5000)
        if match:
            count, at = count + 1, match.end()
    if count >= 10 and 2 * count >= len(numbers):
        return True
    squeezed = "".join(text.split())
    return sum(len(code) >= 4 and f"{number}{code}" in squeezed for number, code in lines) >= 10


def measure(folder: Path, show: int) -> None:
    from assay.audit.detectors.line_numbers import find

    print(f"{'pages of':12} {'extractor':22} {'pages':>6} {'positive':>8} {'hits':>6} {'recall':>7} {'false':>5}")
    for path in sorted((folder / "listings").glob("*.jsonl")):
        package, _, extractor = path.stem.partition("@")
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        truth = [has_line_numbers(row["text"], row["numbers"], row["lines"]) for row in rows]
        detected = [bool(find(row["text"].encode())) for row in rows]
        hits, more = (
            sum(f and t for f, t in zip(detected, truth, strict=True)),
            sum(f and not t for f, t in zip(detected, truth, strict=True)),
        )
        print(
            f"{package:12} {extractor:22} {len(rows):6} {sum(truth):8} {hits:6} {hits / max(1, sum(truth)):7.1%} {more:5}"
        )
        missed = [row for row, t, f in zip(rows, truth, detected, strict=True) if t and not f]
        for row in missed[:show]:
            print("   missed", row["id"], len(row["numbers"]), repr(row["text"][:300]))
    print(f"\n{'other sources':45} {'documents':>9} {'false':>7} {'of 1,000':>9}")
    for path in sorted((folder / "others").glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        false_positives = [(row, hit) for row in rows if (hit := find(row["text"].encode()))]
        print(
            f"{path.stem:45} {len(rows):9} {len(false_positives):7} {1000 * len(false_positives) / max(1, len(rows)):9.2f}"
        )
        for row, hit in false_positives[:show]:
            start, stop = hit[0][:2]
            text = row["text"].encode()
            print(
                "   false positive",
                row["id"],
                len(hit),
                hit[0],
                repr(text[max(0, start - 60) : min(stop, start + 160)]),
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["pages", "extract", "measure"])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--show", type=int, default=0, help="number of missed pages and of false positives to print")
    given = parser.parse_args()
    match given.step:
        case "pages":
            pages(given.folder)
        case "extract":
            extract(given.folder)
        case _:
            measure(given.folder, given.show)


if __name__ == "__main__":
    sys.exit(main())

"""A document next to its original: lookup, comparison, bounds; no content is a path, URL or markup."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from assay.audit.detectors.registry import BUILT_IN, DetectorDeclaration
from assay.audit.findings import Example
from assay.audit.review.html_text import as_text, decoded, is_markup
from assay.audit.review.safe_text import PIECES, masked, pieces, plain
from assay.audit.review.side_by_side import (
    MOST_ORIGINAL,
    align,
    detect_defects,
    differences,
    find,
    masking,
    matches,
    read_original,
)
from assay.config.sources import Source
from assay.core.errors import AssayError
from assay.corpus.source_reader import SourceDocument

KEY = "AKIA" + "QWERTYUIOPASDFGH"


def unchanged(text: str) -> str:
    return text


def make(folder: Path, *records: dict[str, object]) -> Source:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.jsonl").write_text("\n".join(json.dumps(record) for record in records) + "\n", encoding="utf-8")
    return Source(
        name="crawl",
        files=(str(folder / "*.jsonl"),),
        domain="web",
        language="en",
        license=None,
        originals=str(folder / "raw"),
    )


def document(text: str, name: str | None = None) -> SourceDocument:
    return SourceDocument(text=text, id="d", where="a.jsonl:1", original=name)


# --- finding documents


def test_a_document_is_located_with_a_hint_a_wrong_hint_and_none(tmp_path: Path) -> None:
    source = make(tmp_path, *({"id": f"d{i}", "text": f"text {i}"} for i in range(700)))
    file = tmp_path / "a.jsonl"
    for where in (f"{file}:601", f"{file}:1", f"{file}:999999999999", "nonsense", "/etc/passwd:1", None):
        assert find(source, "d600", where).text == "text 600", where


def test_a_document_without_an_id_is_located_by_its_line(tmp_path: Path) -> None:
    source = make(tmp_path, {"text": "one"}, {"text": "two"})
    assert find(source, f"{tmp_path / 'a.jsonl'}:2").text == "two"


def test_unreadable_lines_hide_no_document(tmp_path: Path) -> None:
    source = make(tmp_path, {"id": "a", "text": "one"})
    with (tmp_path / "a.jsonl").open("ab") as handle:
        handle.write(b'{"id": "b", "te\n\xff\xfe\n{"id": "c", "text": "three"}\n')
    assert find(source, "c").text == "three"


def test_a_search_ends_at_its_bound_with_an_error(tmp_path: Path) -> None:
    source = make(tmp_path, *({"id": str(i), "text": "x" * 5000} for i in range(60)))
    with pytest.raises(AssayError, match="in the first"):
        find(source, "none", most=100_000)
    with pytest.raises(AssayError, match="has no document"):
        find(source, "none")


# --- originals


@pytest.mark.parametrize(
    "name",
    ["../secret.txt", "a/../../secret.txt", "/etc/passwd", "..\\secret.txt", "a\0b", "x::file:///etc/passwd", "link"],
)
def test_no_path_leaves_the_folder_of_originals(tmp_path: Path, name: str) -> None:
    source = make(tmp_path, {"text": "x"})
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "link").symlink_to(tmp_path / "secret.txt")
    result = read_original(source, name)
    assert (result.source, result.text) == ("", "")
    assert "not opened" in result.problem or "missing" in result.problem


def test_missing_originals_are_reported(tmp_path: Path) -> None:
    source = make(tmp_path, {"text": "x"})
    assert "no field `original`" in read_original(source, None).problem
    assert "missing" in read_original(source, "gone.html").problem
    assert "has no `originals`" in read_original(replace(source, originals=None), "a").problem
    (tmp_path / "raw").mkdir()
    assert "missing" in read_original(source, ".").problem
    (tmp_path / "raw" / "bad.gz").write_bytes(b"\x1f\x8b\x08\x00not gzip at all")
    assert "cannot be read" in read_original(source, "bad.gz").problem


def test_originals_are_decompressed_up_to_a_bound(tmp_path: Path) -> None:
    source = make(tmp_path, {"text": "x"})
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "bomb.html.gz").write_bytes(gzip.compress(b"<p>a" + b"0" * 50_000_000))
    result = read_original(source, "bomb.html.gz")
    assert (result.bytes, result.whole, result.markup) == (MOST_ORIGINAL, False, True)
    whole = gzip.compress(b"<html><p>kept</p></html>" * 2000)
    (tmp_path / "raw" / "cut.html.gz").write_bytes(whole[: len(whole) * 2 // 3])
    assert read_original(source, "cut.html.gz").text.startswith("kept")


def test_originals_are_read_from_any_file_system_of_the_declared_root(tmp_path: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe_file("/raw/a/b.html", b"<title>t</title><p>from memory")
    source = replace(make(tmp_path, {"text": "x"}), originals="memory://raw")
    assert read_original(source, "a/b.html").text == "t\nfrom memory"
    assert "not opened" in read_original(source, "../other").problem


def test_a_declared_charset_applies_if_it_is_a_text_encoding() -> None:
    assert decoded(b'<meta charset="windows-1251">\xcf\xf0') == ('<meta charset="windows-1251">Пр', "windows-1251")
    assert decoded("é".encode("utf-16"))[0] == "é"
    assert decoded(b"\xef\xbb\xbfx")[0] == "x"
    for name in (b"punycode", b"zip", b"rot13", b"utf-16", b"nonsense"):
        assert decoded(b"<meta charset=" + name + b">\xff")[1] == "utf-8"


# --- markup as text


def test_a_page_is_reduced_to_its_text() -> None:
    page = (
        "<!DOCTYPE html><head><title>T &amp; t</title><style>p{}</style></head><body><!-- <p>no --><h1>One</h1>"
        "<p title='a>b'>two  \n words<br>three</p><table><tr><td>a<td>b</table><script>alert(1)</script>"
        "<pre>  kept\n    as is</pre><textarea> x\n y</textarea>1 < 2"
    )
    assert as_text(page) == "T & t\nOne\ntwo words\nthree\na\tb\n  kept\n    as is\n x\n y\n1 < 2"
    assert is_markup(page)
    assert not is_markup("if a < b and c > d: print('<', a)")


@pytest.mark.parametrize(
    "unit",
    [
        "<",
        "<a ",
        "<a b='",
        '<a "',
        "<!--",
        "</",
        "<?",
        "<div>",
        "&",
        "<script>",
        "<iframe>",
        "<script></script",
        "<pre> ",
        "&#" + "9" * 4999 + ";",
    ],
)
def test_broken_markup_takes_linear_time(unit: str) -> None:
    """A parser of quadratic time, such as Python's, takes a quarter of an hour for these 200 kB."""
    page = (unit * 200_000)[:200_000]
    assert len(as_text(page)) <= len(page)


# --- differences


def test_differences_mark_removed_added_and_reindented_lines() -> None:
    lines, whole = differences("menu\n\nif x:\n    go()\nend\n", "if x:\ngo()\n1\nend")
    assert [(line.kind, line.text) for line in lines] == [
        ("gone", "menu"),
        ("same", "if x:"),
        ("spaces", "go()"),
        ("new", "1"),
        ("same", "end"),
    ]
    assert whole


def test_long_texts_are_compared_up_to_a_bound() -> None:
    lines, whole = differences("\n".join(map(str, range(50_000))), "x" * 10_000_000)
    assert not whole
    assert len(lines) <= 3_000


def test_matches_are_located_in_the_document_or_omitted() -> None:
    text = "before 1 2 3 after"
    example = Example(document="d", where="w", text="1 2 3 after", matches=((0, 5),), offset=7)
    assert matches(text, example) == ((7, 12),)
    assert matches(f"more {text}", example) == ((12, 17),)
    assert matches("another text", example) == ()


def test_a_document_is_aligned_with_its_original(tmp_path: Path) -> None:
    source = make(tmp_path, {"text": "x"})
    (tmp_path / "raw").mkdir()
    numbers = "\n".join(map(str, range(1, 40)))
    code = "\n".join(f"int x{i} = f(y{i});" for i in range(1, 40))
    (tmp_path / "raw" / "p.html").write_text(f"<nav>Home</nav><pre>{numbers}</pre><pre>{code}</pre>")
    text = f"{numbers}\n{code}"
    places, note = detect_defects(source, text)["line_number_gutter"]
    both = align(source, document(text, "p.html"), places, mask=unchanged)
    assert note == "1 to 39, column before code"
    assert both.counts == {"same": 78, "spaces": 0, "gone": 1, "new": 0}
    assert text[slice(*both.matches[0])].split() == numbers.split()


# --- display


def test_invisible_characters_are_spelled_out() -> None:
    parts = pieces("a\u202eb\x00\x00c\r\nd\re\u200b")
    assert [piece.text for piece in parts] == ["a", "U+202E", "b", "U+0000 ×2", "c\r\nd", "U+000D", "e", "U+200B"]  # noqa: RUF001
    assert parts[1].name == "RIGHT-TO-LEFT OVERRIDE"
    assert plain("\x1b[31mred", most=50) == "[U+001B][31mred"


def test_matches_at_any_position_and_overlapping_ones_are_marked() -> None:
    parts = pieces("0123456789", [(7, 99), (2, 4), (3, 5), (6, 6), (-3, 1)])
    assert "".join(piece.text for piece in parts) == "0123456789"
    assert [piece.text for piece in parts if piece.matched] == ["0", "234", "789"]


def test_a_line_of_10_mb_is_cut_with_the_omitted_count() -> None:
    text = "x" * 6_000_000 + "MATCH" + "y" * 4_000_000
    parts = pieces(text, [(6_000_000, 6_000_005)])
    assert sum(len(piece.text) for piece in parts) < 70_000
    assert [piece.text for piece in parts if piece.matched] == ["MATCH"]
    kept = sum(len(piece.text) for piece in parts if piece.kind == "text")
    cut = sum(int(piece.text.split()[0].replace(",", "")) for piece in parts if piece.kind == "cut")
    assert kept + cut == len(text)


def test_the_number_of_pieces_is_bounded() -> None:
    parts = pieces("\x00\x01" * 5_000_000)
    assert len(parts) <= PIECES + 1
    assert parts[-1].kind == "cut"


def test_all_secrets_are_masked_in_every_text(tmp_path: Path) -> None:
    source = make(tmp_path, {"text": "x"})
    (tmp_path / "raw").mkdir()
    people = " ".join(f"person{i}@corp.org" for i in range(500))
    pem = "-----BEGIN RSA PRIVATE KEY-----\n" + "QUJD" * 300 + "\n-----END RSA PRIVATE KEY-----"
    pgp = pem.replace("RSA PRIVATE KEY", "PGP PRIVATE KEY BLOCK")
    text = f"{KEY} {people}\n{pem}\n{pgp}\nend"
    (tmp_path / "raw" / "p.html").write_text(f"<p>{text}")
    both = align(source, document(text, "p.html"), mask=masking(source, BUILT_IN))
    whole = "".join([both.document.text, both.original.source, both.original.text, *(line.text for line in both.lines)])
    assert len(both.document.text) == len(text)
    for secret in (KEY, "@corp.org", "QUJDQUJD"):
        assert secret not in whole
    assert whole.count("end") >= 3


def test_every_match_of_a_declared_secret_is_masked(tmp_path: Path) -> None:
    source = make(tmp_path, {"text": "x"})
    own = DetectorDeclaration(name="badge", pattern=r"BADGE-\d{6}", reason="badges of people", secret=True).detector()
    text = " ".join(f"BADGE-{i:06}" for i in range(3000)) + f" {KEY}"
    hidden = masking(source, [*BUILT_IN, own])(text)
    assert len(hidden) == len(text)
    assert "BADGE" not in hidden
    assert KEY not in hidden


def test_a_secret_detector_that_matches_everything_masks_everything() -> None:
    assert set(masked("ab cd", lambda text: [(0, len(text))])) <= set("*ab")

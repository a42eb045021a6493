"""A document beside its original: found, compared, bounded; and nothing of it is a path, an address or markup."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from assay.audit.beside import MOST_ORIGINAL, beside, differences, find, masking, matches, original, seen
from assay.audit.detectors import BUILT_IN, Declared
from assay.audit.findings import Example
from assay.audit.markup import as_text, decoded, is_markup
from assay.audit.visible import PIECES, masked, pieces, plain
from assay.corpus.read import Document
from assay.errors import AssayError
from assay.sources import Source

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
        licence=None,
        originals=str(folder / "raw"),
    )


def document(text: str, name: str | None = None) -> Document:
    return Document(text=text, id="d", where="a.jsonl:1", original=name)


# --- finding documents


def test_a_document_is_found_with_a_hint_with_a_wrong_hint_and_without(tmp_path: Path) -> None:
    source = make(tmp_path, *({"id": f"d{i}", "text": f"text {i}"} for i in range(700)))
    file = tmp_path / "a.jsonl"
    for where in (f"{file}:601", f"{file}:1", f"{file}:999999999999", "nonsense", "/etc/passwd:1", None):
        assert find(source, "d600", where).text == "text 600", where


def test_a_document_without_an_id_is_found_by_its_place(tmp_path: Path) -> None:
    source = make(tmp_path, {"text": "one"}, {"text": "two"})
    assert find(source, f"{tmp_path / 'a.jsonl'}:2").text == "two"


def test_lines_that_cannot_be_read_hide_no_document(tmp_path: Path) -> None:
    source = make(tmp_path, {"id": "a", "text": "one"})
    with (tmp_path / "a.jsonl").open("ab") as handle:
        handle.write(b'{"id": "b", "te\n\xff\xfe\n{"id": "c", "text": "three"}\n')
    assert find(source, "c").text == "three"


def test_a_search_ends_after_its_bound_and_says_so(tmp_path: Path) -> None:
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
def test_no_name_leaves_the_folder_of_originals(tmp_path: Path, name: str) -> None:
    source = make(tmp_path, {"text": "x"})
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "link").symlink_to(tmp_path / "secret.txt")
    found = original(source, name)
    assert (found.source, found.text) == ("", "")
    assert "not opened" in found.problem or "missing" in found.problem


def test_missing_originals_are_said_to_be_missing(tmp_path: Path) -> None:
    source = make(tmp_path, {"text": "x"})
    assert "names no original" in original(source, None).problem
    assert "missing" in original(source, "gone.html").problem
    assert "does not say" in original(replace(source, originals=None), "a").problem
    (tmp_path / "raw").mkdir()
    assert "missing" in original(source, ".").problem
    (tmp_path / "raw" / "bad.gz").write_bytes(b"\x1f\x8b\x08\x00not gzip at all")
    assert "cannot be read" in original(source, "bad.gz").problem


def test_originals_are_unpacked_and_bounded_even_a_bomb(tmp_path: Path) -> None:
    source = make(tmp_path, {"text": "x"})
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "bomb.html.gz").write_bytes(gzip.compress(b"<p>a" + b"0" * 50_000_000))
    found = original(source, "bomb.html.gz")
    assert (found.bytes, found.whole, found.markup) == (MOST_ORIGINAL, False, True)
    whole = gzip.compress(b"<html><p>kept</p></html>" * 2000)
    (tmp_path / "raw" / "cut.html.gz").write_bytes(whole[: len(whole) * 2 // 3])
    assert original(source, "cut.html.gz").text.startswith("kept")


def test_originals_are_read_from_any_file_system_of_the_declared_root(tmp_path: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe_file("/raw/a/b.html", b"<title>t</title><p>from memory")
    source = replace(make(tmp_path, {"text": "x"}), originals="memory://raw")
    assert original(source, "a/b.html").text == "t\nfrom memory"
    assert "not opened" in original(source, "../other").problem


def test_the_encoding_is_what_the_page_says_unless_it_is_no_encoding_of_text() -> None:
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
def test_broken_markup_costs_no_more_than_its_length(unit: str) -> None:
    """200 kB of it end: a parser that looks at the rest again for each piece, as Python's does, takes a quarter of an hour."""
    page = (unit * 200_000)[:200_000]
    assert len(as_text(page)) <= len(page)


# --- differences


def test_differences_say_what_is_gone_new_and_only_indented_otherwise() -> None:
    lines, whole = differences("menu\n\nif x:\n    go()\nend\n", "if x:\ngo()\n1\nend")
    assert [(line.kind, line.text) for line in lines] == [
        ("gone", "menu"),
        ("same", "if x:"),
        ("spaces", "go()"),
        ("new", "1"),
        ("same", "end"),
    ]
    assert whole


def test_long_texts_are_compared_at_their_beginnings() -> None:
    lines, whole = differences("\n".join(map(str, range(50_000))), "x" * 10_000_000)
    assert not whole
    assert len(lines) <= 3_000


def test_matches_are_found_again_in_the_document_or_not_at_all() -> None:
    text = "before 1 2 3 after"
    example = Example(document="d", where="w", text="1 2 3 after", matches=((0, 5),), offset=7)
    assert matches(text, example) == ((7, 12),)
    assert matches(f"more {text}", example) == ((12, 17),)
    assert matches("another text", example) == ()


def test_a_document_stands_beside_its_original(tmp_path: Path) -> None:
    source = make(tmp_path, {"text": "x"})
    (tmp_path / "raw").mkdir()
    numbers = "\n".join(map(str, range(1, 40)))
    code = "\n".join(f"int x{i} = f(y{i});" for i in range(1, 40))
    (tmp_path / "raw" / "p.html").write_text(f"<nav>Home</nav><pre>{numbers}</pre><pre>{code}</pre>")
    text = f"{numbers}\n{code}"
    places, note = seen(source, text)["line_number_gutter"]
    both = beside(source, document(text, "p.html"), places, mask=unchanged)
    assert note == "1 to 39"
    assert both.counts == {"same": 78, "spaces": 0, "gone": 1, "new": 0}
    assert text[slice(*both.matches[0])].split() == numbers.split()


# --- what is shown


def test_what_cannot_be_seen_is_spelt_out() -> None:
    shown = pieces("a\u202eb\x00\x00c\r\nd\re\u200b")
    assert [one.text for one in shown] == ["a", "U+202E", "b", "U+0000 ×2", "c\r\nd", "U+000D", "e", "U+200B"]  # noqa: RUF001
    assert shown[1].name == "RIGHT-TO-LEFT OVERRIDE"
    assert plain("\x1b[31mred", most=50) == "[U+001B][31mred"


def test_matches_are_marked_wherever_they_are_and_whatever_they_overlap() -> None:
    shown = pieces("0123456789", [(7, 99), (2, 4), (3, 5), (6, 6), (-3, 1)])
    assert "".join(one.text for one in shown) == "0123456789"
    assert [one.text for one in shown if one.matched] == ["0", "234", "789"]


def test_a_line_of_10_mb_is_cut_and_says_by_how_much() -> None:
    text = "x" * 6_000_000 + "MATCH" + "y" * 4_000_000
    shown = pieces(text, [(6_000_000, 6_000_005)])
    assert sum(len(one.text) for one in shown) < 70_000
    assert [one.text for one in shown if one.matched] == ["MATCH"]
    kept = sum(len(one.text) for one in shown if one.kind == "text")
    cut = sum(int(one.text.split()[0].replace(",", "")) for one in shown if one.kind == "cut")
    assert kept + cut == len(text)


def test_nothing_but_controls_makes_no_page_of_millions_of_elements() -> None:
    shown = pieces("\x00\x01" * 5_000_000)
    assert len(shown) <= PIECES + 1
    assert shown[-1].kind == "cut"


def test_secrets_are_masked_in_all_that_is_shown_however_many(tmp_path: Path) -> None:
    source = make(tmp_path, {"text": "x"})
    (tmp_path / "raw").mkdir()
    people = " ".join(f"person{i}@corp.org" for i in range(500))
    pem = "-----BEGIN RSA PRIVATE KEY-----\n" + "QUJD" * 300 + "\n-----END RSA PRIVATE KEY-----"
    pgp = pem.replace("RSA PRIVATE KEY", "PGP PRIVATE KEY BLOCK")
    text = f"{KEY} {people}\n{pem}\n{pgp}\nend"
    (tmp_path / "raw" / "p.html").write_text(f"<p>{text}")
    both = beside(source, document(text, "p.html"), mask=masking(source, BUILT_IN))
    whole = "".join([both.document.text, both.original.source, both.original.text, *(line.text for line in both.lines)])
    assert len(both.document.text) == len(text)
    for secret in (KEY, "@corp.org", "QUJDQUJD"):
        assert secret not in whole
    assert whole.count("end") >= 3


def test_what_a_team_calls_a_secret_is_masked_however_often_it_is_there(tmp_path: Path) -> None:
    source = make(tmp_path, {"text": "x"})
    own = Declared(name="badge", pattern=r"BADGE-\d{6}", reason="badges of people", secret=True).detector()
    text = " ".join(f"BADGE-{i:06}" for i in range(3000)) + f" {KEY}"
    hidden = masking(source, [*BUILT_IN, own])(text)
    assert len(hidden) == len(text)
    assert "BADGE" not in hidden
    assert KEY not in hidden


def test_a_detector_of_secrets_that_is_never_content_hides_all() -> None:
    assert set(masked("ab cd", lambda text: [(0, len(text))])) <= set("*ab")

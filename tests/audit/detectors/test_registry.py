"""Each detector reports its defect, and not the most similar text without it."""

from __future__ import annotations

import itertools
import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.audit.detectors.multi_pattern import MARKS
from assay.audit.detectors.registry import BUILT_IN, Hit, Text, detectors, masked
from assay.config.sources import Source
from assay.core.errors import AssayError
from tests.audit.detectors.numbered_pages import LISTINGS, PROSE

SENTENCES = [
    f"In the year {number} the {name} of the town was asked by {number * 7} of its people to come to house {number * 13}."
    for number, name in enumerate(("mayor", "doctor", "teacher", "baker", "miller", "priest", "smith", "judge") * 4)
]
TEXT = "\n".join(SENTENCES)
GERMAN = (
    "Der Hund und die Katze sind nicht im Haus, und das Kind ist mit dem Ball auf der Straße, die zu den Feldern führt. "
    * 5
)
RUSSIAN = "Это было давно, и никто уже не помнит, как всё началось и чем закончилось в тот день. " * 8
KEY = "AKIA" + "Q3EGR7XWPLZ5T2MN"
FRAME = "Skip to main content | Sign in | Sign up | Privacy policy | Cookie settings | All rights reserved"
PYTHON = "".join(f"def f{n}(x):\n    if x > {n}:\n        return x + {n}\n    return x\n" for n in range(12))

CASES: dict[str, tuple[str, str, str]] = {
    # detector: domain of the source, text with the defect, most similar text without it
    "line_number_gutter": (
        "code",
        "\n".join(f"{n} {line}" for n, line in enumerate(LISTINGS["C"].split("\n"), 1)),
        "\n".join(f"{n}. {sentence}" for n, sentence in enumerate(SENTENCES, 1)),
    ),
    "repeated_lines": ("en", TEXT + "\n" + "\n".join(SENTENCES[:20]), TEXT + "\n" + "\n".join(SENTENCES[:8])),
    "repeated_ngrams": ("en", " ".join([*SENTENCES, *SENTENCES, *SENTENCES]), " ".join([*SENTENCES, *SENTENCES[:9]])),
    "near_empty": ("en", " \n page moved \n", "A text of forty bytes, and not one less."),
    "huge": ("en", PROSE * (5_000_000 // len(PROSE) + 1), PROSE * 1000),
    "replacement_characters": ("en", "the caf\ufffd at the corner", "the café at the corner"),
    "mojibake": ("en", "Ã©tÃ© and cafÃ© Ã¨ vrai", "NÃO, PORTUGUÊS Â: capitals with a tilde and a circumflex"),
    "control_characters": ("en", "text\x00\x01 from a binary file", "a page\x0cand the next,\ttab,\r\nand a no-break\u00a0space"),
    "markup_left": (
        "en",
        "<div><p>A line of text</p></div>\n" * 20,
        PROSE * 20 + "A paragraph is written as <p>text</p>, a division as <div>text</div>, &amp; is an ampersand.\n",
    ),
    "lost_newlines": ("code", " ".join((LISTINGS["C"] * 5).split()), LISTINGS["C"] * 5),
    "lost_indentation": ("code", "\n".join(line.strip() for line in PYTHON.split("\n")), PYTHON),
    "truncated": ("en", "The mayor said that he would not [...]", "The mayor [...] said that he would not read more books."),
    "table_of_contents": (
        "en",
        "\n".join(f"{n} Chapter about the {n}th thing {'. ' * 12}{10 * n}" for n in range(1, 9)),
        "\n".join(f"Wait ..... what was that? It was number {n}, and then ..... nothing." for n in range(1, 9)),
    ),
    "pagination": ("en", TEXT + "\n1 | 2 | 3 | 4 | Next", "See page 3 of the report. It has 1 2 3 4 items, and the next one has 5."),
    "navigation": ("en", FRAME + "\n" + SENTENCES[0], FRAME + "\n" + "\n".join([TEXT] * 4)),
    "secrets": ("en", f"aws_access_key_id = {KEY}", "AKIA is what such keys begin with, and ghp_ are others; AKIAxxxxxxxxxxxxxxxx is none"),
    "email_addresses": ("en", "write to jane.doe@uni.edu", "write to you@example.com, use @decorator.name and git@localhost"),
    "wrong_language": ("en", GERMAN, SENTENCES[0] + " Der Hund und die Katze. " + " ".join(SENTENCES)),
}  # fmt: skip


def look(name: str, kind: str, text: str) -> Hit | None:
    [detector] = [detector for detector in BUILT_IN if detector.name == name]
    return detector.detect(Text(text, Source(name="x", files=("x",), domain="web", language=kind, license=None)))


def test_every_detector_has_cases() -> None:
    assert list(CASES) == [detector.name for detector in BUILT_IN]


@pytest.mark.parametrize("name", CASES)
def test_a_detector_reports_its_defect(name: str) -> None:
    kind, bad, _ = CASES[name]
    hit = look(name, kind, bad)
    assert hit is not None
    size = len(bad.encode())
    assert all(0 <= start < stop <= size for start, stop in hit.spans)


@pytest.mark.parametrize("name", CASES)
def test_a_detector_ignores_the_most_similar_text(name: str) -> None:
    kind, _, good = CASES[name]
    assert look(name, kind, good) is None


@pytest.mark.parametrize("name", CASES)
def test_a_defect_is_detected_within_a_long_document(name: str) -> None:
    kind, bad, _ = CASES[name]
    local = (
        "line_number_gutter",
        "replacement_characters",
        "mojibake",
        "control_characters",
        "secrets",
        "email_addresses",
    )
    if name in (*local, "table_of_contents", "pagination"):
        for before in (0, 1, 3, 4096, 30_011):  # at and near the boundaries of quarters and chunks
            assert look(name, kind, "\n".join(["x" * 60] * 500)[:before] + "\n" + bad + "\n" + TEXT * 3) is not None


def test_another_script_is_another_language() -> None:
    hit = look("wrong_language", "en", RUSSIAN)
    assert hit is not None
    assert hit.note == "another script"
    assert look("wrong_language", "ru", RUSSIAN) is None
    assert look("wrong_language", "de", GERMAN) is None
    assert look("wrong_language", "de", TEXT) is not None


LETTERS = "aB3dE5fG7hI9jK1mN3pQ5rS7tU9vW1xY3zA5bC7dE9fG1hI3jK5mN7pQ9rS1tU3vW5xY7z"
SECRETS = [
    f"github_pat_{LETTERS[:22]}_{LETTERS[:59]}",
    f"ghp_{LETTERS[:50]}",
    f"glpat-{LETTERS[:20]}",
    f"hf_{LETTERS[:34]}",
    f"npm_{LETTERS[:36]}",
    f"pypi-AgEIcHlwaS5vcmc{LETTERS[:60]}",
    f"sk-{LETTERS[:20]}T3BlbkFJ{LETTERS[:20]}",
    f"sk-proj-{LETTERS[:48]}",
    f"sk-ant-api03-{LETTERS[:60]}",
    f"rk_live_{LETTERS[:24]}",
    f"SG.{LETTERS[:22]}.{LETTERS[:43]}",
    f"ya29.{LETTERS[:50]}",
    f"xapp-1-A012345678-1234567890-{'ab12' * 16}",
    f"dop_v1_{'ab12' * 16}",
    f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.{LETTERS[:43]}",
    f"https://hooks.slack.com/services/T01234567/B01234567/{LETTERS[:24]}",
    f"AccountKey={(LETTERS + LETTERS)[:86]}==",
    f"aws_secret_access_key = {LETTERS[:40]}",
    f'"SecretAccessKey": "{LETTERS[:40]}"',
    f"-----BEGIN PRIVATE KEY-----\\n{LETTERS[:40]}",
    f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{LETTERS[:40]}",
    f"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,ABCDEF\n\n{LETTERS[:40]}",
    f"-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\n\n{LETTERS[:40]}",
    f"Private-Lines: 14\n{LETTERS[:40]}",
]  # invented, each in the format of its issuer


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: secret[:24])
def test_every_format_of_secret_is_detected_and_masked(secret: str) -> None:
    hit = look("secrets", "en", f"{TEXT}\nis it {secret} ?\n{TEXT}")
    assert hit is not None
    assert len(hit.spans) == 1
    assert LETTERS[5:20] not in masked(secret)
    assert "ab12ab12" not in masked(secret)


@pytest.mark.parametrize(
    "harmless",
    [
        "hf_hub_download and npm_config_registry, sk-proj-short, SG.1.2, glpat-xxxx",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "aws_secret_access_key = os.environ['AWS_SECRET_ACCESS_KEY']",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "header.payload.signature, such as eyJhbGciOiJIUzI1NiJ9",
        "-----BEGIN CERTIFICATE-----\n" + LETTERS[:64],
    ],
)
def test_text_about_secrets_is_not_a_secret(harmless: str) -> None:
    assert look("secrets", "en", f"{TEXT}\n{harmless}\n{TEXT}") is None


def test_detectors_of_prose_ignore_code() -> None:
    for name in ("repeated_lines", "markup_left", "navigation", "wrong_language"):
        assert look(name, "code", CASES[name][1]) is None


LITERALS = {
    "secrets": ["AKIA", "ghr_", "xoxs-", "PRIVATE KEY-----"],
    "navigation": ["skip to", "cookie", "sign in", "sign up", "log in", "share on"],
    "dots": [".....", ". . ."],
    "replacement": ["\ufffd"],
    "closing tag": ["</"],
}
PIECES = st.sampled_from(
    [
        *itertools.chain(*LITERALS.values()),
        "AKI",
        "sign ",
        "xox",
        "....",
        ". ",
        "<",
        "x",
        "\n",
        "é",
        "Cookie",
        "SIGN IN",
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_marks_equal_those_of_single_searches(text: str) -> None:
    marks = Text(text, Source(name="x", files=("x",), domain="web", language="en", license=None)).marks
    for kind, literals in LITERALS.items():
        searched = text.lower() if kind == "navigation" else text
        assert marks.get(kind, 0) == sum(literal in searched for literal in literals)


@given(st.text("0123 |\n,", max_size=60))
def test_a_pager_has_the_marks_of_its_first_three_numbers(text: str) -> None:
    marks = Text(text, Source(name="x", files=("x",), domain="web", language="en", license=None)).marks
    assert ("pager" in marks) == (re.search(r"1[\s|]{1,5}2[\s|]{1,5}3", text) is not None)


def test_marks_fit_into_64_bits() -> None:
    assert sum(map(len, MARKS.values())) <= 64


@given(st.binary(max_size=300))
def test_detectors_never_raise_on_random_bytes(noise: bytes) -> None:
    text = noise.decode("utf-8", "replace") + zlib.compress(noise).decode("latin-1")
    for kind in ("en", "code"):
        for name in CASES:
            look(name, kind, text)


def test_excluding_an_unknown_detector_is_an_error() -> None:
    assert "huge" not in {detector.name for detector in detectors(without=["huge"])}
    with pytest.raises(AssayError, match="detector 'hugo' does not exist"):
        detectors(without=["hugo"])

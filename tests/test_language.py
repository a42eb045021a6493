"""The project speaks one language: the field's terms, one per concept, in American spelling."""

from __future__ import annotations

import ast
import collections
import re
from pathlib import Path

import pytest

import assay

SOURCE = Path(assay.__file__).parent
ROOT = SOURCE.parent.parent

# What to avoid (a pattern, matched in any case), and what to write instead.
AVOID = {
    r"optimis\w*": "optimize, optimizer",
    r"(?:de)?tokenis\w*": "tokenize, tokenizer",
    r"licences?\b|licenced": "license",
    r"initialis\w*|normalis\w*|summaris\w*|serialis\w*|organis\w*|recognis\w*|randomis\w*|standardis\w*|parametris\w*": "-ize",
    r"colours?\b|coloured|neighbours?\b|neighbouring|behaviours?\b|favours?\b|favoured": "color, neighbor, behavior, favor",
    r"centred?\b|analyse\b|analysed\b|artefacts?\b|modelled|modelling|labelled|labelling": "center, analyze, artifact, modeled, labeled",
    r"besides?\b": "next to, compared with, in addition",
    r"nobody|somebody|whoever|whosoever|anybody": "name the actor",
    r"\bhe\b|\bhim\b|\bhimself\b|\bhis\b": "name the actor",
    r"\btold\b|\bsaid\b|(?<!\.)\btells?\b|\btelling\b": "report, log, publish",
    r"\bsays?\b|\bsaying\b": "state, report, show",
    r"foresee\w*|foresight|foretell\w*|foretold": "predict, forecast",
    r"\bjudg\w*": "evaluate, decide (gate); annotate, label (people)",
    r"solved examples?|by guessing|\bguessing\b": "few-shot examples, chance level",
    r"signs of code": "symbol ratio",
    r"(?<!line.number )(?<!line.number.)\bgutters?\b": "line-number gutter",
    r"\bshares? of\b|\bthe share\b|\ba share\b": "fraction, percentage",
    r"called? off|calling off": "cancel",
    r"\bhand(?:s|ed|ing)? (?:it |them |all )?over\b|sen[dt]s? again|gave back|gives? back|given back": "submit, resubmit, release",
    r"\bsettles?\b|\bsettled\b|\bsettling\b": "state, status, outcome",
    r"\btends\b|\btended\b|\btending\b": "monitor",
    r"\bepochs? of (?:a|the|its) lease|lease's epoch": "lease generation",
    r"wherever|whatever|whichever": "say which",
    r"\bamid\b|\balike\b|\bthither\b|\bthence\b|\bhence\b|\bwhence\b": "plain words",
}
PATTERNS = {re.compile(pattern, re.IGNORECASE): instead for pattern, instead in AVOID.items()}
# Quotations and identifiers that are not ours: what lm-eval, SLURM, licenses and other libraries call their things.
FOREIGN = re.compile(r"aria-labelledby|https?://\S+|`[^`\n]*LICENCE[^`\n]*`")
SUFFIXES = {".py", ".md", ".yaml", ".html", ".js", ".css"}
FILES = sorted(
    path
    for folder in ("src", "conf", "sweeps", "docs")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in SUFFIXES and "__pycache__" not in path.parts
)


def avoided_words(text: str) -> list[tuple[int, str, str]]:
    """Return line, word and replacement of every word to avoid."""
    plain = FOREIGN.sub("", text)
    return [
        (plain.count("\n", 0, match.start()) + 1, match[0], instead)
        for pattern, instead in PATTERNS.items()
        for match in pattern.finditer(plain)
    ]


@pytest.mark.parametrize("path", [*FILES, ROOT / "README.md"], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_words_to_avoid_are_avoided(path: Path) -> None:
    assert avoided_words(path.read_text(encoding="utf-8")) == []


def test_words_to_avoid_are_found() -> None:
    assert [word for _, word, _ in avoided_words("The optimiser\nis told of the share of whoever judged.")] == [
        "optimiser", "whoever", "told", "judged", "the share",
    ]  # fmt: skip
    assert avoided_words("A line-number gutter, a line_number_gutter, and shared memory.") == []


def public_classes() -> dict[str, list[str]]:
    """The modules that define each public class."""
    places = collections.defaultdict(list)
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(SOURCE)))
    return places


def test_the_name_of_a_public_class_has_one_meaning() -> None:
    assert {name: places for name, places in public_classes().items() if len(places) > 1} == {}

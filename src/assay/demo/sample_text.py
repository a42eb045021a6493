"""Generated sample text for a new project: sentences, functions, and items of a benchmark about the sentences.

The text is made here, so it has no license terms. It is the same on every machine.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

DOCUMENTS = 500
"""Documents of each source; about 1 in 50 is held out for validation."""
NAMES = (
    *("Ada", "Bela", "Cora", "Dario", "Edda", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Kira", "Leon"),
    *("Mira", "Nils", "Olga", "Paul", "Rosa", "Sami", "Tilda", "Umar", "Vera", "Willem", "Yara", "Zeno"),
)
TRADES = ("baker", "carpenter", "doctor", "farmer", "gardener", "miller", "painter", "sailor", "tailor", "teacher")
PLACES = ("harbor", "market", "mill", "school", "station", "garden", "library", "bridge", "orchard", "workshop")
THINGS = ("a basket", "a letter", "a ladder", "two lamps", "some bread", "a map", "old tools", "a bell", "three coats")
TIMES = ("In the morning", "At noon", "After the rain", "On Sunday", "Before supper", "Late in autumn", "Every spring")
SENTENCES = (
    "{name} works as a {trade}.",
    "{name}, the {trade}, carried {thing} to the {place}.",
    "{time} {name} met {other} at the {place}.",
    "{time} the {place} was quiet, and {name} repaired {thing}.",
    "{other} asked the {trade} for {thing}, but {name} had left for the {place}.",
    "The road from the {place} to the {place2} takes {number} minutes on foot.",
    "{name} counted {number} steps, and wrote the number next to {thing}.",
    "No one at the {place} had seen {thing} since {other} came home.",
)
FUNCTIONS = (
    'def {verb}_{noun}({a}, {b}={n}):\n    """Return {a} {word} {b}."""\n    return {a} {op} {b}\n',
    (
        "def {verb}_{noun}s({noun}s):\n    result = []\n    for {a} in {noun}s:\n        if {a} > {n}:\n"
        "            result.append({a} {op} {m})\n    return result\n"
    ),
    (
        "class {Noun}:\n    def __init__(self, {a}, {b}):\n        self.{a} = {a}\n        self.{b} = {b}\n\n"
        "    def {verb}(self):\n        return self.{a} {op} self.{b}\n"
    ),
    "while {a} < {n}:\n    {a} = {a} {op} {m}\n    {noun}s.append({a})\n",
    "with open('{noun}_{n}.txt') as file:\n    {noun}s = [int(line) {op} {m} for line in file]\n",
)
VERBS = ("add", "count", "load", "merge", "scale", "split", "store", "update")
NOUNS = ("batch", "column", "index", "item", "layer", "price", "record", "weight")
VARIABLES = ("x", "y", "left", "right", "total", "width", "value", "step")
OPERATORS = {"+": "plus", "-": "minus", "*": "times", "%": "modulo"}


def sample_files() -> Iterator[tuple[str, str]]:
    """Yield the path and the content of each file, relative to the project."""
    for source, write in (("my_web", _sentences), ("my_code", _functions)):
        choose = random.Random(source)  # noqa: S311  # reproducible text, no secret
        rows = ({"id": f"{source}-{number}", "text": write(choose)} for number in range(DOCUMENTS))
        yield f"data/{source}/sample.jsonl", _lines(rows)
    yield "evals/sample_trades.jsonl", _lines(_items())


def _lines(rows: Iterator[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _trade(name: str) -> str:
    return TRADES[NAMES.index(name) % len(TRADES)]


def _sentences(choose: random.Random) -> str:
    sentences = []
    for _ in range(choose.randint(6, 16)):
        name, other = choose.sample(NAMES, 2)
        place, place2 = choose.sample(PLACES, 2)
        facts = {"name": name, "trade": _trade(name), "other": other, "place": place, "place2": place2}
        more = {"thing": choose.choice(THINGS), "time": choose.choice(TIMES), "number": choose.randint(2, 90)}
        sentences.append(choose.choice(SENTENCES).format(**facts, **more))
    return " ".join(sentences)


def _functions(choose: random.Random) -> str:
    blocks = []
    for _ in range(choose.randint(3, 8)):
        a, b = choose.sample(VARIABLES, 2)
        noun, op = choose.choice(NOUNS), choose.choice(list(OPERATORS))
        names = {"a": a, "b": b, "noun": noun, "Noun": noun.title(), "verb": choose.choice(VERBS)}
        more = {"op": op, "word": OPERATORS[op], "n": choose.randint(2, 99), "m": choose.randint(2, 9)}
        blocks.append(choose.choice(FUNCTIONS).format(**names, **more))
    return "\n\n".join(blocks)


def _items() -> Iterator[dict[str, Any]]:
    """Yield the items of the benchmark: the trade of each name, in three wordings."""
    choose = random.Random("items")  # noqa: S311  # as above
    for name in NAMES:
        for context in (f"{name} works as a", f"{name}, the", f"It is known that {name} works as a"):
            others = choose.sample([trade for trade in TRADES if trade != _trade(name)], 3)
            yield {"context": context, "choices": [_trade(name), *others], "answer": 0}

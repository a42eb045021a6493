"""Synthetic text, its tokenizer and corpora, and a local lm-eval task; nothing is downloaded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assay.config.sources import Source
from assay.config.tokenizer import TokenizerSpec
from assay.core.files import read_json, write_json
from assay.corpus.build import prepare
from assay.corpus.manifest import corpus_identity
from assay.corpus.source_reader import source_digest
from assay.corpus.tokenizer import make_tokenizer, tokenizer_identity

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.gpu_check.plan import Plan

WORDS = 3000
DOCUMENT_WORDS = (40, 400)
SEEDS = {"prose": 1, "code": 2}
"""The sources, each with the seed of its text."""
TASK = "gpu_check_words"
TASK_YAML = f"""
task: {TASK}
dataset_path: json
dataset_kwargs:
  data_files: {{test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""


class Data(NamedTuple):
    """The prepared corpora.

    Attributes:
        tokenizer: identity of the tokenizer.
        corpora: identity of each source's corpus.
        tokens: training tokens of each source.
    """

    tokenizer: str
    corpora: dict[str, str]
    tokens: dict[str, int]


def prepare_data(plan: Plan, work: Path) -> Data:
    """Write the sources, train the tokenizer and build the corpora below a folder; record them in `data.json`."""
    sources = {name: _write_source(name, work / "sources", plan.text_bytes) for name in SEEDS}
    digests = {name: source_digest(source, cache=work / "cache") for name, source in sources.items()}
    spec = TokenizerSpec(name="check", vocabulary=plan.tokenizer_vocabulary, sources=tuple(sources))
    identity = tokenizer_identity(spec, digests)
    tokenizer = make_tokenizer(spec, sources, identity, work / "tokenizers", digests=digests).parent
    corpora = {
        name: prepare(
            source,
            digest=digests[name],
            tokenizer=tokenizer,
            identity=corpus_identity(digests[name], identity),
            folder=work / "corpora",
        )
        for name, source in sources.items()
    }
    data = Data(
        identity,
        {name: corpus_identity(digests[name], identity) for name in sources},
        {name: corpus.tokens for name, corpus in corpora.items()},
    )
    write_json(work / "data.json", data._asdict())
    _write_task(work / "tasks", plan.items)
    return data


def load_data(work: Path) -> Data:
    """Read what `prepare_data` recorded."""
    return Data(**read_json(work / "data.json"))


def words(seed: int) -> list[str]:
    """Return distinct pronounceable words, the same for the same seed."""
    draw = np.random.default_rng(seed)
    syllables = [c + v for c in "bcdfghjklmnprstvwz" for v in "aeiou"]
    drawn = ("".join(draw.choice(syllables, draw.integers(1, 5))) for _ in range(20 * WORDS))
    return list(dict.fromkeys(drawn))[:WORDS]


def documents(seed: int, size: int) -> list[str]:
    """Return documents of about `size` bytes together: words drawn by Zipf's law, each often followed by the next in rank.

    A model of any size learns the frequencies within some steps, so that its loss falls.
    """
    draw, vocabulary = np.random.default_rng(seed), words(seed)
    frequencies = 1 / np.arange(1, len(vocabulary) + 1)
    frequencies /= frequencies.sum()
    texts: list[str] = []
    total = 0
    while total < size:
        ranks = draw.choice(len(vocabulary), draw.integers(*DOCUMENT_WORDS), p=frequencies)
        follows = draw.random(len(ranks)) < 0.3
        ranks[1:] = np.where(follows[1:], (ranks[:-1] + 1) % len(vocabulary), ranks[1:])
        texts.append(f"{len(texts)}: " + " ".join(vocabulary[rank] for rank in ranks) + ".")
        total += len(texts[-1])
    return texts


def _write_source(name: str, folder: Path, size: int) -> Source:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.jsonl"
    lines = (json.dumps({"text": text}) + "\n" for text in documents(SEEDS[name], size))
    file.write_text("".join(lines), encoding="utf-8")
    return Source(name=name, files=(str(file),), domain=name, language="en", license="CC0-1.0")


def _write_task(folder: Path, items: int) -> None:
    """Write a task whose items ask for the next word."""
    folder.mkdir(parents=True, exist_ok=True)
    draw, vocabulary = np.random.default_rng(0), words(SEEDS["prose"])
    rows = []
    for _ in range(items):
        rank = int(draw.integers(len(vocabulary) - 1))
        choices = [vocabulary[rank + 1], vocabulary[int(draw.integers(len(vocabulary)))]]
        rows.append({"question": vocabulary[rank], "choices": choices, "answer": 0})
    file = folder / "items.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / f"{TASK}.yaml").write_text(TASK_YAML.replace("FILE", json.dumps(str(file))), encoding="utf-8")

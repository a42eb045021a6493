"""A whole study that takes seconds: three sources of made-up text, a model of 18 thousand parameters, a few steps."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from assay.config.mixes import MixDeclaration
from assay.config.study import Study

WORDS = {
    "code": ["def", "return", "self", "for", "in", "range(n):", "x", "=", "x + 1", "import", "if", "not", "None:"],
    "web": ["click", "here", "to", "read", "the", "best", "ten", "ways", "of", "cooking", "rice", "and", "beans."],
    "books": ["the", "old", "captain", "said", "nothing", "while", "sea", "rose", "against", "a", "grey", "morning."],
}
"""What the documents of each source are made of."""


def write_sources(folder: Path, *, documents: int = 200) -> dict[str, Path]:
    """A file of JSON lines for each source; the same text every time.

    Args:
        folder: where to put them.
        documents: of each source. About 1 in 50 is held out for validation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, words in WORDS.items():
        choose = random.Random(name)
        lines = [
            json.dumps({"text": " ".join(choose.choices(words, k=choose.randint(20, 80))) + f" ({name} {i})"})
            for i in range(documents)
        ]
        paths[name] = folder / f"{name}.jsonl"
        paths[name].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return paths


def tiny_study(folder: Path, *, steps: int = 12, overrides: Mapping[str, Any] | None = None) -> Study:
    """A study in a folder of its own: its sources are written, its store is `folder/store`, nothing is made yet.

    The sweep `tiny` has the baseline `base`, the candidates `more_web` and `no_books`, and seeds 0 and 1. Runs are
    scored on the bits per byte of the sources' validation splits, without lm-eval's tasks.

    Args:
        folder: the project's root.
        steps: optimizer steps of a run, of 256 tokens each; some hundreds a second on a core.
        overrides: values by dotted path, such as ``{"cluster.executor": "debug", "sweep.seeds": [0]}``.
    """
    paths = write_sources(folder / "data")
    raw: dict[str, Any] = {
        "source": {
            name: {
                "files": [str(path.relative_to(folder))],
                "domain": name,
                "language": "en",
                "license": "CC0-1.0",
                "clearance": {"state": "cleared", "by": "the tests"},
            }
            for name, path in paths.items()
        },
        "mix": {
            "base": {"weights": {"code": 0.4, "web": 0.4, "books": 0.2}},
            "more_web": {"base": "base", "edits": [{"set": {"web": 0.6}}]},
            "no_books": {"base": "base", "edits": [{"drop": "books"}]},
        },
        "proxy": {
            "name": "tiny",
            "hidden_size": 24,
            "intermediate_size": 48,
            "layers": 2,
            "heads": 2,
            "kv_heads": 1,
            "tie_embeddings": True,
            "rope_theta": 10_000.0,
            "sequence_length": 32,
        },
        "optim": {
            "name": "tiny",
            "peak_lr": 0.01,
            "schedule": "cosine",
            "warmup": 0.1,
            "decay": 0.0,
            "final_lr": 0.1,
            "beta1": 0.9,
            "beta2": 0.95,
            "epsilon": 1e-8,
            "weight_decay": 0.1,
            "gradient_clip": 1.0,
        },
        "budget": {"tokens": steps * 8 * 32},
        "batch": {"sequences": 8, "micro": 8},
        "stages": [{"name": "pretrain", "fraction": 1.0}],
        "tokenizer": {"name": "tiny", "vocabulary": 300},
        "suite": {"name": "tiny", "tasks": [], "batch_size": 8, "validation_bytes": 20_000},
        "policy": {
            "name": "tiny",
            "alpha": 0.05,
            "min_seeds": 2,
            "primary": [{"task": "validation/code", "metric": "bits_per_byte", "better": "lower"}],
            "guardrails": [{"task": "validation/web", "metric": "bits_per_byte", "better": "lower", "margin": 0.05}],
        },
        "cluster": {
            "name": "local",
            "executor": "local",
            "workers": 1,
            "cpus_per_worker": 1,
            "device": "cpu",
            "environment": {},
            "timeout_hours": 1.0,
        },
        "training": {},
        "tracking": {"mode": "disabled", "project": "tiny", "entity": None},
        "taint": {"severity": "high", "fraction": 0.0},
        "paths": {"root": str(folder), "store": "store", "data": "data", "benchmarks": None},
        "sweep": {"name": "tiny", "baseline": "base", "candidates": ["more_web", "no_books"], "seeds": [0, 1]},
    }
    for path, value in (overrides or {}).items():
        *parents, last = path.split(".")
        node = raw
        for parent in parents:
            node = node[parent]
        node[last] = value
    return Study.parse(raw)


def with_mix(study: Study, name: str, **raw: Any) -> Study:
    """Return a study with one mix added or replaced; `raw` is the mix as a file declares it."""
    return replace(study, mixes={**study.mixes, name: MixDeclaration.parse(name, raw)})

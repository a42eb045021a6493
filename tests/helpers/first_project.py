"""The project that `assay init` writes, with small data, a small model and a finished sweep `first`."""

from __future__ import annotations

import json
from pathlib import Path

from assay.cli.init_command import init
from assay.config.compose import compose
from assay.plan.prepare import prepare_corpora
from assay.plan.workspace import Workspace
from tests.analysis.external.result_files import HEADER, table
from tests.helpers.finished import finish

DOCUMENTS = 60
CONFIG = {
    "conf/proxy/0.3m.yaml": "{name: 0.3m, hidden_size: 16, intermediate_size: 32, layers: 1, heads: 2, kv_heads: 1, "
    "tie_embeddings: true, rope_theta: 10000, sequence_length: 64}",
    "conf/tokenizer/ours.yaml": "{name: ours, vocabulary: 300}",
    "conf/suite/ours.yaml": "{name: ours, tasks: [], batch_size: 8, validation_bytes: 2000}",
    "conf/suite/demo.yaml": "{name: demo, tasks: [], batch_size: 8, validation_bytes: 2000}",
}
POLICY = """name: {name}
alpha: 0.05
min_seeds: 2
early_stopping: {{stop: none, interim_analyses: [0.25, 0.5, 0.75], alpha_fraction: 0.2, min_persistence: 0.0}}
primary: [{{task: validation/my_code, metric: bits_per_byte, better: lower}}]
guardrails: []
"""
SWEEP = "budget: {tokens: 3072}\nbatch: {sequences: 4, micro: 4}\ntracking: {mode: disabled}\n"
SOURCE = (
    "files: [data/{name}/*.jsonl]\ndomain: {domain}\nlanguage: en\nlicense: CC0-1.0\n"
    "clearance: {{state: cleared, by: the tests}}\n"
)
TEXTS = {
    "my_web": "The river ran past the mill and the miller counted sacks of grain number {}. ",
    "my_code": "def f{}(x):\n    return x + 1\n",
}


def write_first_project(root: Path) -> None:
    """Write the project; every run of its sweep is recorded as finished, and the effect is too small to decide."""
    init(root)
    for name, text in CONFIG.items():
        write(root / name, text)
    for name in ("ours", "default"):
        write(root / f"conf/policy/{name}.yaml", POLICY.format(name=name))
    sweep = root / "sweeps/first.yaml"
    write(sweep, sweep.read_text().partition("# Each section")[0] + SWEEP)
    for name, text in TEXTS.items():
        write(root / f"conf/source/{name}.yaml", SOURCE.format(name=name, domain=name.removeprefix("my_")))
        rows = [{"id": f"doc-{i}", "text": text.format(i) * 20 + str(i)} for i in range(DOCUMENTS)]
        (root / f"data/{name}/sample.jsonl").unlink()
        write(root / f"data/{name}/0.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write(root / "team.csv", f"{HEADER}\n{_team_results()}")
    space = Workspace(compose(["sweep=first"], root=root))
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    for mix in ("today", "more_code"):
        for seed in range(3):
            run = finish(space, mix, seed, bits={"my_code": -0.001 if mix == "more_code" else 0.0})
            run.log.write_text("step 12 of 12\n")


def _team_results() -> str:
    """Rows of two mixes with three seeds, at a half and at all of their tokens."""
    means = {"today": 1.0, "more_code": 0.9}
    return "".join(
        table(
            {mix: mean + more for mix, mean in means.items()},
            tokens=tokens,
            task="validation/my_code",
            metric="bits_per_byte",
        )
        for tokens, more in (("1e6", 0.2), ("2e6", 0.0))
    )


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")

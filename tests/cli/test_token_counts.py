"""`assay sources` counts tokens under every tokenizer that the store has used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.config.compose import compose
from assay.plan.workspace import Workspace
from tests.cli.invoke import Said, caller
from tests.cli.test_commands import CONF, TEXTS
from tests.helpers.finished import finish


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The command line in a project whose sources were tokenized with two tokenizers, one of them in a submitted sweep."""
    larger = CONF["conf/tokenizer/small.yaml"].replace("small", "larger").replace("300", "320")
    for name, text in {**CONF, "conf/tokenizer/larger.yaml": larger}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "conf/source").mkdir()
    for name, text in TEXTS.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text.format(i) * 20}) for i in range(60)))
        (tmp_path / f"conf/source/{name}.yaml").write_text(
            f"{{files: [{name}.jsonl], domain: {name}, language: en, license: CC0-1.0, clearance: {{state: cleared, by: us}}}}"
        )
    monkeypatch.chdir(tmp_path)
    call = caller(monkeypatch, capsys)
    for tokenizer in ("small", "larger"):
        assert call("prepare", "sweep=tiny", f"tokenizer={tokenizer}", "--json").code == 0
    space = Workspace(compose(["sweep=tiny"]))
    for mix in space.study.require_sweep().mixes:
        for seed in range(3):
            finish(space, mix, seed)
    assert call("submit", "sweep=tiny").code == 0
    return call


def test_tokens_are_listed_by_tokenizer_without_a_sweep(call: Callable[..., Said]) -> None:
    listed = {source["name"]: source for source in call("sources", "--json").json}
    assert listed["prose"]["tokens"] is None, "the tokenizer of no sweep is unknown"
    counts = listed["prose"]["tokens_by_tokenizer"]
    assert sorted((entry["vocabulary"], tuple(entry["names"])) for entry in counts) == [(300, ("small",)), (320, ())]
    for tokenizer in ("small", "larger"):
        one = {s["name"]: s for s in call("sources", "sweep=tiny", f"tokenizer={tokenizer}", "--json").json}
        assert one["prose"]["tokens"] in [entry["tokens"] for entry in counts]
    out = call("sources").out
    assert "tokens by tokenizer" in out
    assert "small (" in out
    assert "320 tokens (" in out


def test_changed_text_has_no_count_and_a_damaged_corpus_hides_no_other(
    call: Callable[..., Said], tmp_path: Path
) -> None:
    (tmp_path / "prose.jsonl").write_text(json.dumps({"text": "Another text."}) + "\n")
    manifest = next(path for path in (tmp_path / "store/corpora").glob("*/manifest.json"))
    manifest.write_text("{")
    listed = {source["name"]: source for source in call("sources", "--json").json}
    assert listed["prose"]["tokens_by_tokenizer"] == []
    assert len(listed["code"]["tokens_by_tokenizer"]) in (1, 2)


def test_one_tokenizer_of_the_sweep_needs_no_second_table(call: Callable[..., Said], tmp_path: Path) -> None:
    for manifest in (tmp_path / "store/corpora").glob("*/manifest.json"):
        if json.loads(manifest.read_text())["vocabulary"] == 320:
            manifest.unlink()
    assert "tokens by tokenizer" not in call("sources", "sweep=tiny").out
    assert "tokens by tokenizer" in call("sources").out

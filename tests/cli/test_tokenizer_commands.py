"""The commands report a user's tokenizer: its end, its unused settings, and the text that it loses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, normalizers

from assay.core.files import read_json
from tests.cli.invoke import Said, caller
from tests.corpus import user_tokenizers as users
from tests.corpus.user_tokenizers import END, write_tokenizer
from tests.helpers.first_project import write_first_project

Call = Callable[..., Said]
SWEEP = ("sweep=first", "tokenizer=ours")


@pytest.fixture
def assay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line in a project whose pages spell end tokens."""
    write_first_project(tmp_path)
    for file in tmp_path.glob("data/my_web/*.jsonl"):
        texts = [json.loads(line)["text"] for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps({"text": f"<s>old</s> {END} {text}</s>"}) + "\n" for text in texts))
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    return caller(monkeypatch, capsys)


def declare(tokenizer: Tokenizer, *, config: dict[str, Any] | None = None, **fields: Any) -> None:
    write_tokenizer(tokenizer, Path("given"), config=config)
    Path("conf/tokenizer/ours.yaml").write_text(json.dumps({"name": "ours", "file": "given", **fields}))


@pytest.mark.parametrize("name", ["byte_level", "added_end", "template", "byte_fallback", "merged_end"])
def test_documents_have_one_end_each_for_every_kind_of_tokenizer(assay: Call, name: str) -> None:
    tokenizers = {
        "byte_level": (users.byte_level(), END),
        "added_end": (users.added_end(), END),
        "template": (users.template("<begin>", "$A", END), END),
        "byte_fallback": (users.byte_fallback(), "</s>"),
        "merged_end": (users.merged_end(), "</s>"),
    }
    tokenizer, end = tokenizers[name]
    declare(tokenizer, config={"eos_token": end})
    prepared = assay("prepare", *SWEEP, "--json").json
    assert prepared["end_token"]["name"] == end
    for corpus in prepared["corpora"]:
        folder = Path("store/corpora", corpus["corpus"])
        manifest = read_json(folder / "manifest.json")
        ids = np.concatenate([np.fromfile(path, manifest["dtype"]) for path in sorted(folder.glob("*.tokens"))])
        assert (ids == manifest["eos"]).sum() == manifest["documents"] + manifest["validation_documents"]


@pytest.mark.parametrize("command", ["plan", "prepare", "submit"])
def test_an_unknown_end_is_an_error_of_each_command(assay: Call, command: str) -> None:
    declare(users.byte_level())
    said = assay(command, *SWEEP)
    assert said.code == 2
    assert (
        f"Set `end_token` in the tokenizer's configuration to the token that ends a document. Candidates: '{END}'."
        in said.err
    )


@pytest.mark.parametrize("command", ["plan", "prepare", "submit"])
def test_a_lossy_tokenizer_is_an_error_of_each_command(assay: Call, command: str) -> None:
    tokenizer = users.byte_level()
    tokenizer.normalizer = normalizers.Replace(" ", "")
    declare(tokenizer, end_token=END)
    said = assay(command, *SWEEP)
    assert said.code == 2
    assert "the tokenizer loses" in said.err
    assert "expected at most 1.00% (tokenizer.max_lost_fraction)" in said.err


def test_prepare_and_plan_print_what_they_accept(assay: Call) -> None:
    tokenizer = users.template("<begin>", "$A")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace("old", "Old"), normalizers.NFC()])
    declare(tokenizer, end_token=END)
    printed = " ".join(assay("prepare", *SWEEP).out.split())
    assert f"Documents end with '{END}', as tokenizer.end_token declares." in printed
    assert "without the post-processor, which adds <begin>" in printed
    assert "of the bytes of source 'my_web', for example" in printed or "of the bytes of source 'my_web'." in printed
    codes = {warning["code"] for warning in assay("plan", *SWEEP, "--json").json["warnings"]}
    assert {"tokenizer_adjusted", "tokenizer_loses_text"} <= codes


def test_doctor_checks_the_tokenizer(assay: Call) -> None:
    declare(users.byte_level(), config={"eos_token": END})
    right = assay("doctor", *SWEEP, "--json").json["tokenizer"]
    assert (right["ok"], right["status"], right["fix"]) == (True, "ok", None)
    assert right["value"].endswith(f"documents end with '{END}'")
    declare(users.byte_level(), config={"eos_token": "<eos>"})
    wrong = assay("doctor", *SWEEP, "--json")
    assert wrong.code == 1
    assert "'<eos>' is no token of" in wrong.json["tokenizer"]["value"]
    assert assay("doctor", "sweep=first", "tokenizer=bpe4k", "--json").json["tokenizer"]["ok"]

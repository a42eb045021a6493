"""A tokenizer is the same on all machines, and a page cannot insert special tokens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from assay.config.sources import Source
from assay.config.tokenizer import TokenizerSpec
from assay.core.errors import AssayError
from assay.corpus.holdout import document_hash, is_held_out
from assay.corpus.source_reader import fresh_digest
from assay.corpus.tokenizer import END, load_tokenizer, make_tokenizer, tokenizer_identity
from tests.corpus.conftest import some_texts, source_of, write_jsonl

TRAIN = """
import hashlib, sys
from pathlib import Path
from assay.config.tokenizer import TokenizerSpec; from assay.corpus.tokenizer import make_tokenizer
from assay.config.sources import Source
names = sys.argv[2:]
sources = {n: Source(name=n, files=(f"{sys.argv[1]}/{n}.jsonl",), domain="web", language="en", license="MIT") for n in names}
spec = TokenizerSpec(name="t", vocabulary=600, sources=tuple(names))
path = make_tokenizer(spec, sources, "-".join(names), Path(sys.argv[1], str(hash("x"))))
print(hashlib.sha256(path.read_bytes()).hexdigest())
"""


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Source]:
    return {
        name: source_of(write_jsonl(tmp_path / f"{name}.jsonl", some_texts(400, seed=seed)), name=name)
        for seed, name in enumerate("ab")
    }


def test_training_is_independent_of_process_and_order_of_sources(tmp_path: Path, sources: dict[str, Source]) -> None:
    def train(seed: str, *names: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", TRAIN, tmp_path, *names],
            env={**os.environ, "PYTHONHASHSEED": seed, "TOKENIZERS_PARALLELISM": "true" if seed == "1" else "false"},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert train("1", "a", "b") == train("2", "a", "b") == train("3", "b", "a")


def test_decoding_restores_the_text(tokenizer: Path) -> None:
    encoder, _ = load_tokenizer(tokenizer)
    for text in (*some_texts(20, seed=9), "  two  spaces\t\n\n\nend ", "\x00\x7f\u2028 é e\u0301 🙂 数"):
        assert encoder.decode(encoder.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text


def test_the_name_of_the_end_token_in_a_page_does_not_end_a_document(tokenizer: Path) -> None:
    encoder, end = load_tokenizer(tokenizer)
    assert end not in encoder.encode(f"before {END} after", add_special_tokens=False).ids


def test_transformers_loads_the_folder_and_encodes_equally(tokenizer: Path) -> None:
    from transformers import AutoTokenizer

    encoder, end = load_tokenizer(tokenizer)
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    text = some_texts(1, seed=5)[0]
    assert loaded(text).input_ids == encoder.encode(text).ids
    assert loaded.eos_token_id == loaded.pad_token_id == end


def test_an_existing_tokenizer_is_not_made_again(tmp_path: Path, sources: dict[str, Source]) -> None:
    spec = TokenizerSpec(name="t", vocabulary=300, sources=("a",))
    path = make_tokenizer(spec, sources, "identity", tmp_path)
    before = path.stat().st_mtime_ns
    assert make_tokenizer(spec, {}, "identity", tmp_path) == path
    assert path.stat().st_mtime_ns == before


def test_changed_text_trains_no_tokenizer_under_the_old_identity(
    tmp_path: Path,
) -> None:
    source = source_of(write_jsonl(tmp_path / "a.jsonl", some_texts(100)))
    spec, digests = TokenizerSpec(name="t", vocabulary=300, sources=("a",)), {"a": fresh_digest(source)}
    write_jsonl(tmp_path / "a.jsonl", some_texts(90))
    with pytest.raises(AssayError, match="its files changed since its digest was computed"):
        make_tokenizer(spec, {"a": source}, tokenizer_identity(spec, digests), tmp_path / "made", digests=digests)
    assert [path.suffix for path in (tmp_path / "made").iterdir()] == [".lock"]


def test_held_out_documents_do_not_train_the_tokenizer(tmp_path: Path) -> None:
    held = next(text for text in some_texts(500) if is_held_out(document_hash(text.encode())))
    word = "zyzzyva" * 3
    seen = write_jsonl(tmp_path / "a.jsonl", [held, *(f"{word} {i}" for i in range(300))])
    spec = TokenizerSpec(name="t", vocabulary=500, sources=("a",))
    with_held = make_tokenizer(spec, {"a": source_of(seen)}, "1", tmp_path).read_text(encoding="utf-8")
    without = write_jsonl(tmp_path / "b.jsonl", [f"{word} {i}" for i in range(300)])
    assert make_tokenizer(spec, {"a": source_of(without)}, "2", tmp_path).read_text(encoding="utf-8") == with_held


def test_one_long_document_fills_a_sixteenth_at_most(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", ["qx" * 50_000, *("zy" * 50 + f" {i}" for i in range(600))])
    spec = TokenizerSpec(name="t", vocabulary=258, sources=("a",), bytes_per_source=16_000)
    path = make_tokenizer(spec, {"a": source_of(file)}, "1", tmp_path)
    assert json.loads(path.read_text(encoding="utf-8"))["model"]["merges"] == [["z", "y"]]


def test_progress_reaches_the_end(tmp_path: Path, sources: dict[str, Source]) -> None:
    fractions: list[float] = []
    spec = TokenizerSpec(name="t", vocabulary=300, sources=("a", "b"), bytes_per_source=5_000)
    make_tokenizer(spec, sources, "1", tmp_path, progress=fractions.append)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert len(fractions) > 2


def test_the_identity_covers_all_inputs_of_the_training(sources: dict[str, Source]) -> None:
    digests = {name: fresh_digest(source) for name, source in sources.items()}
    base = TokenizerSpec(name="t", vocabulary=300, sources=("a", "b"))

    def identity(**changes: object) -> str:
        return tokenizer_identity(TokenizerSpec(**{**vars(base), **changes}), digests)  # type: ignore[arg-type]

    assert identity() == identity(name="other") == identity(sources=("b", "a"))
    changes: list[dict[str, object]] = [{"vocabulary": 301}, {"bytes_per_source": 9}, {"sources": ("a",)}]
    assert len({identity(), *(identity(**change) for change in changes)}) == 4


def test_a_file_is_identified_by_its_contents_and_copied(tmp_path: Path, tokenizer: Path) -> None:
    spec = TokenizerSpec(name="given", file=str(tokenizer / "tokenizer.json"))
    copy = tmp_path / "elsewhere.json"
    copy.write_bytes((tokenizer / "tokenizer.json").read_bytes())
    identity = tokenizer_identity(spec, {})
    assert tokenizer_identity(TokenizerSpec(name="given", file=str(copy)), {}) == identity
    path = make_tokenizer(spec, {}, identity, tmp_path)
    assert load_tokenizer(path)[0].get_vocab() == load_tokenizer(tokenizer)[0].get_vocab()


def test_a_file_that_is_no_tokenizer_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("{}", encoding="utf-8")
    with pytest.raises(AssayError, match="is not a tokenizer file"):
        make_tokenizer(TokenizerSpec(name="t", file=str(tmp_path / "t.json")), {}, "1", tmp_path)
    with pytest.raises(AssayError, match="cannot be read"):
        tokenizer_identity(TokenizerSpec(name="t", file=str(tmp_path / "nothing.json")), {})
    assert not (tmp_path / "1").exists()


def test_a_tokenizer_without_end_token_is_an_error(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")).save(str(tmp_path / "t.json"))
    with pytest.raises(AssayError, match=r"the end-of-text token of .*t\.json is unknown"):
        make_tokenizer(TokenizerSpec(name="t", file=str(tmp_path / "t.json")), {}, "1", tmp_path)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "exactly one of"),
        ({"file": "x", "vocabulary": 300}, "exactly one of"),
        ({"vocabulary": 256}, "at least 257"),
        ({"vocabulary": 300, "bytes_per_source": 0}, "`bytes_per_source` 0 is invalid"),
    ],
)
def test_an_invalid_declaration_is_refused(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(AssayError, match=problem):
        TokenizerSpec(name="t", **fields)  # type: ignore[arg-type]

"""Prompts, answers and held-out text are encoded as in training, for every kind of tokenizer."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers

from assay.config.suite import SuiteTask
from assay.config.tokenizer import TokenizerSpec
from assay.core.errors import AssayError
from assay.core.files import read_json
from assay.corpus.build import prepare
from assay.corpus.encoder import TextEncoder
from assay.corpus.source_reader import fresh_digest
from assay.corpus.tokenizer import make_tokenizer
from assay.corpus.tokenizer_file import TokenizerFile
from assay.evaluate.evaluation import evaluate, load_model
from assay.evaluate.heldout import read_split
from assay.evaluate.log_filter import capture_harness_log
from assay.evaluate.task_folder import digest_task_folder
from assay.store.runs import RunDirectory
from tests.corpus import user_tokenizers as users
from tests.corpus.conftest import source_of, write_jsonl
from tests.corpus.user_tokenizers import END, TEXT, write_tokenizer
from tests.evaluate.conftest import make_spec

MakeLm = Callable[..., Any]
PROMPT = "Where do the gulls sleep?\nAnswer:"


@pytest.fixture
def lm_of(tmp_path: Path) -> MakeLm:
    """Function that loads a tiny model which a run exported with a user's tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from assay.train.export import export

    def load(tokenizer: Tokenizer, *, end: str = END, unprepared: bool = False) -> Any:
        path = write_tokenizer(tokenizer, tmp_path / "given", config={"eos_token": end})
        spec = TokenizerSpec(name="ours", file=str(path))
        folder = path.parent if unprepared else make_tokenizer(spec, {}, "made", tmp_path).parent
        config = LlamaConfig(
            vocab_size=TokenizerFile.read(spec).vocabulary,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=64,
        )
        export(LlamaForCausalLM(config), tmp_path / "model", tokenizer=folder)
        with capture_harness_log():
            return load_model(tmp_path / "model", batch_size=2, device="cpu")

    return load


def request(*arguments: Any) -> Any:
    from lm_eval.api.instance import Instance

    return Instance("loglikelihood", {}, arguments, 0)


@pytest.mark.parametrize("unprepared", [False, True], ids=["prepared", "by_an_earlier_version"])
@pytest.mark.parametrize("pieces", [("<begin>", "$A"), ("$A", END), ("<begin>", "$A", END)])
def test_a_template_is_in_no_prompt_answer_or_text(lm_of: MakeLm, pieces: tuple[str, ...], unprepared: bool) -> None:
    lm = lm_of(users.template(*pieces), unprepared=unprepared)
    context, answer = lm._encode_pair(PROMPT, " on the pier")
    assert (lm.encoder.decode(context), lm.encoder.decode(answer)) == (PROMPT, " on the pier")
    assert [*context, *answer] == lm.encoder.encode(f"{PROMPT} on the pier")
    assert lm.encoder.decode(lm.tok_encode(TEXT)) == TEXT
    ids, mask = lm.tok_batch_encode([PROMPT, "gulls"])
    assert [lm.encoder.decode(row[given.bool()].tolist()) for row, given in zip(ids, mask, strict=True)] == [
        PROMPT,
        "gulls",
    ]
    assert lm.prefix_token_id == lm.eot_token_id == lm.encoder.end


def test_the_exported_tokenizer_gives_other_programs_the_same_ids(lm_of: MakeLm) -> None:
    lm = lm_of(users.template("<begin>", "$A", END))
    assert lm.tokenizer(TEXT)["input_ids"] == lm.encoder.encode(TEXT)


@pytest.mark.parametrize(
    ("tokenizer", "end"),
    [(users.byte_level(), END), (users.unigram(), "</s>"), (users.byte_fallback(), "</s>"), (users.added_end(), END)],
    ids=["byte_level", "unigram", "byte_fallback", "added_end"],
)
def test_a_prompt_that_spells_the_end_does_not_contain_it(lm_of: MakeLm, tokenizer: Tokenizer, end: str) -> None:
    lm = lm_of(tokenizer, end=end)
    context, answer = lm._encode_pair(f"the {end} gull", f" {end}")
    assert lm.encoder.end not in [*context, *answer]
    assert [*context, *answer] == lm.encoder.encode(f"the {end} gull {end}")
    assert lm.encoder.end not in lm.tok_encode(end)


def test_pairs_equal_those_of_lm_eval_where_tokens_end_at_the_join(lm: Any) -> None:
    from lm_eval.models.huggingface import HFLM

    before = lm.encoded_apart
    for prompt, answer in [
        (PROMPT, " the pier"),
        (PROMPT + "  ", "the pier"),
        ("a\n\n", "b"),
        ("x", "\n"),
        ("def f(", "x)"),
    ]:
        assert lm._encode_pair(prompt, answer) == HFLM._encode_pair(lm, prompt, answer)
    assert lm.encoded_apart == before


def test_a_token_over_the_join_is_encoded_apart(lm_of: MakeLm) -> None:
    from lm_eval.models.huggingface import HFLM

    lm = lm_of(users.joins())
    prompt, answer = "Which one?\nAnswer:", " C"
    assert HFLM._encode_pair(lm, prompt, answer)[1] == []  # which ends lm-eval with a bare AssertionError
    context, rest = lm._encode_pair(prompt, answer)
    assert (lm.encoder.decode(context), lm.encoder.decode(rest)) == (prompt, answer)
    assert lm.encoded_apart == 1
    ((loglikelihood, _),) = lm.loglikelihood([request(prompt, answer)], disable_tqdm=True)
    assert math.isfinite(loglikelihood)


def test_a_join_that_lm_eval_would_score_as_another_text_is_encoded_apart(lm_of: MakeLm) -> None:
    from lm_eval.models.huggingface import HFLM

    lm = lm_of(users.joins())
    wrong = HFLM._encode_pair(lm, "Ans", "wer: D")
    assert lm.encoder.decode([*wrong[0], *wrong[1]]) != "Answer: D"
    context, rest = lm._encode_pair("Ans", "wer: D")
    assert lm.encoder.decode([*context, *rest]) == "Answer: D"


@pytest.mark.parametrize(
    ("tokenizer", "end"),
    [(users.byte_level(prefix=True), END), (users.unigram(), "</s>"), (users.byte_fallback(), "</s>")],
    ids=["prefix_space", "metaspace", "prepend"],
)
@pytest.mark.parametrize(
    ("prompt", "answer"), [("the harb", "or"), ("the ", "th"), (" ", "the"), ("gull\n", "\n\nthe")]
)
def test_prompt_and_answer_are_the_whole_text(
    lm_of: MakeLm, tokenizer: Tokenizer, end: str, prompt: str, answer: str
) -> None:
    lm = lm_of(tokenizer, end=end)
    context, rest = lm._encode_pair(prompt, answer)
    assert rest
    assert lm.encoder.decode([*context, *rest]).removeprefix(end).lstrip(" ") == (prompt + answer).lstrip(" ")


@pytest.mark.parametrize("prompt", ["", "the gull"])
def test_an_answer_without_tokens_is_an_error_that_shows_it(lm_of: MakeLm, prompt: str) -> None:
    tokenizer = Tokenizer(models.BPE({END: 0, **{letter: number for number, letter in enumerate("thegul ", 1)}}, []))
    lm = lm_of(tokenizer)
    with pytest.raises(AssayError, match=f"the answer '\u00e9\u00e9' to the prompt '{prompt}' has no tokens"):
        lm.loglikelihood([request(prompt, "\u00e9\u00e9")], disable_tqdm=True)


def test_a_prompt_of_spaces_is_scored(lm_of: MakeLm) -> None:
    """lm-eval fails with a bare AssertionError."""
    ((loglikelihood, _),) = lm_of(users.byte_level()).loglikelihood([request("  ", "gull")], disable_tqdm=True)
    assert math.isfinite(loglikelihood)


# --- bits per byte


def split_of(lm: Any, *texts: str, limit: int = 10_000) -> Any:
    documents = [
        (str(number), [*lm.tok_encode(text), lm.encoder.end], len(text.encode())) for number, text in enumerate(texts)
    ]
    return read_split("web", documents, limit=limit, lm=lm)


@pytest.mark.parametrize("unknown", [False, True], ids=["dropped", "unknown"])
def test_lost_bytes_do_not_count(lm_of: MakeLm, unknown: bool) -> None:
    names = {END: 0, **{letter: number for number, letter in enumerate("thegul ", 1)}}
    names |= {"<unk>": 8} if unknown else {}
    lm = lm_of(Tokenizer(models.BPE(names, [], unk_token="<unk>" if unknown else None)))
    (document,) = split_of(lm, "the gull \u00e9\u00e9 the")
    assert (document.bytes, document.lost) == (len("the gull  the"), 4)
    beginning = split_of(lm, "the \u00e9\u00e9 gull " * 100, limit=90)[0]
    kept = [token for _, predicted in beginning.windows for token in predicted]
    assert beginning.bytes == len(lm.encoder.decode(kept)) <= 90


def test_a_space_that_the_tokenizer_adds_does_not_count(lm_of: MakeLm) -> None:
    (document,) = split_of(lm_of(users.byte_level(prefix=True)), "the gull")
    assert (document.bytes, document.lost) == (8, 0)


def test_a_tokenizer_without_decoder_counts_bytes_of_the_text(lm_of: MakeLm) -> None:
    tokenizer = users.byte_level()
    tokenizer.decoder = None
    lm = lm_of(tokenizer)
    (document,) = split_of(lm, TEXT, limit=100)
    assert 90 <= document.bytes <= 100
    kept = [token for _, predicted in document.windows for token in predicted]
    assert lm.encoder.decode(kept) == TEXT.encode()[: document.bytes].decode()


def test_the_encoder_of_a_model_is_that_of_its_corpus(lm_of: MakeLm, tmp_path: Path) -> None:
    lm = lm_of(users.byte_level())
    assert lm.tok_encode(TEXT) == TextEncoder.open(tmp_path / "made").encode(TEXT)


# --- evaluations

TASK = """
task: team_pier
dataset_path: json
dataset_kwargs:
  data_files: {test: evals/pier.jsonl}
test_split: test
output_type: multiple_choice
doc_to_text: "Which one?\\nAnswer:"
doc_to_choice: "{{choices}}"
doc_to_target: 0
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""


def test_an_evaluation_reports_pairs_that_it_encodes_apart(
    lm_of: MakeLm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evals = tmp_path / "evals"
    evals.mkdir()
    (evals / "pier.yaml").write_text(TASK)
    (evals / "pier.jsonl").write_text('{"choices": ["C", "D"]}\n' * 3)
    lm_of(users.joins())
    run = RunDirectory(tmp_path)
    spec = make_spec(SuiteTask(task="team_pier"), task_files=digest_task_folder(evals))
    evaluate(run, spec, {}, mirror=None, include_path=evals, device="cpu")
    record = read_json(run.evaluation(spec.fingerprint) / "scores.json")
    assert record["tasks"]["team_pier"]["encoded_apart"] == 6
    assert {score["metric"] for score in record["scores"]} >= {"acc"}


def test_an_evaluation_reports_the_bytes_that_do_not_count(lm_of: MakeLm, tmp_path: Path) -> None:
    tokenizer = users.byte_level()
    tokenizer.normalizer = normalizers.Replace("!", "")
    lm_of(tokenizer)
    source = source_of(write_jsonl(tmp_path / "web.jsonl", [f"the gulls! {number}" for number in range(100)]))
    corpus = prepare(
        source,
        digest=fresh_digest(source),
        tokenizer=tmp_path / "made",
        identity="web",
        folder=tmp_path / "corpora",
        max_lost_fraction=0.2,
    )
    run = RunDirectory(tmp_path)
    spec = make_spec(validation={"web": "web"}, validation_bytes=10_000, encoding=2)
    evaluate(run, spec, {"web": corpus.path}, mirror=None, device="cpu")
    task = read_json(run.evaluation(spec.fingerprint) / "scores.json")["tasks"]["validation/web"]
    assert task["lost_bytes"] == task["n"] == corpus.manifest.validation_documents
    assert task["bytes"] == corpus.manifest.validation_bytes - task["lost_bytes"]

"""Wide tables: one row per run, with one column per score, per source weight, or both."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from assay.analysis.external.reading import ReadResults, RunLabels, find, read
from assay.core.errors import AssayError
from tests.analysis.external.result_files import write

LABELS: dict[str, str | None] = {"seed": "0", "scale": "1M", "tokens": "1B"}
WEIGHTS = "index,train_web,train_code,train_books\n1,0.5,0.3,0.2\n2,0.1,0.901,0.0\n"
SCORES = "index,metric/web_val_loss,metric/code_val_loss\n1,5.5,4.25\n2,6.0,3.5\n"


def wide(*paths: Path, columns: tuple[str, ...] = (), wide_table: bool = False, **labels: str | None) -> ReadResults:
    given = RunLabels.parse({**LABELS, **labels}, None, columns=columns, wide_table=wide_table)
    return read(find([str(path) for path in paths]), given)


def refusal(path: Path, *columns: str, **labels: str | None) -> str:
    with pytest.raises(AssayError) as error:
        wide(path, columns=columns, **labels)
    return str(error.value)


def values(result: ReadResults) -> dict[tuple[str, str, str], float]:
    frame = result.table.frame
    keys = zip(frame["mix"], frame["task"], frame["metric"], strict=True)
    return dict(zip(keys, frame["value"], strict=True))


def test_one_file_of_weights_and_one_of_losses_are_joined_by_mix(tmp_path: Path) -> None:
    result = wide(write(tmp_path / "w.csv", WEIGHTS), write(tmp_path / "s.csv", SCORES))
    assert values(result) == {
        ("1", "web_val", "loss"): 5.5,
        ("1", "code_val", "loss"): 4.25,
        ("2", "web_val", "loss"): 6.0,
        ("2", "code_val", "loss"): 3.5,
    }
    assert result.weights is not None
    assert result.weights.set_index("mix").to_dict("index") == {
        "1": {"web": 0.5, "code": 0.3, "books": 0.2},
        "2": {"web": 0.1, "code": 0.901, "books": 0.0},
    }


def test_the_shape_is_reported_with_its_evidence(tmp_path: Path) -> None:
    result = wide(write(tmp_path / "w.csv", WEIGHTS), write(tmp_path / "s.csv", SCORES))
    first, second, *_ = result.table.notes
    assert "w.csv was read as a wide table: 'index' is the mix" in first
    assert "3 columns of source weights, because each row sums to 1 ('train_web' as web" in first
    assert "2 columns of scores ('metric/web_val_loss' as web_val loss" in second


def test_a_table_with_labels_weights_scores_and_standard_errors(tmp_path: Path) -> None:
    text = (
        'mix,seed,scale,tokens,weight/web,weight/loss,arc_easy_acc_norm,arc_easy_acc_norm_stderr,"gsm8k/exact_match,strict",about\n'
        "a,0,150M,3B,50,50,0.5,0.01,0.1,first\n"
        "a,1,150M,3B,50,50,0.52,0.01,,second\n"
    )
    result = wide(write(tmp_path / "t.csv", text), seed=None, scale=None, tokens=None)
    frame = result.table.frame
    assert frame[["seed", "task", "metric", "value"]].to_numpy().tolist() == [
        [0, "arc_easy", "acc_norm", 0.5],
        [0, "gsm8k", "exact_match,strict", 0.1],
        [1, "arc_easy", "acc_norm", 0.52],
    ]
    assert frame["stderr"].dropna().tolist() == [0.01, 0.01]
    assert result.weights is not None
    assert result.weights.to_dict("records") == [{"mix": "a", "web": 0.5, "loss": 0.5}]
    notes = " ".join(result.table.notes)
    assert "percent are converted to fractions" in notes
    assert "excluded: 'about'" in notes
    assert "1 empty cell counts as a missing score" in notes


def test_parquet_is_read_like_csv(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"mix": ["a", "b"], "piqa_acc": [0.7, float("nan")], "seed": [1, 1]}).to_parquet(path)
    result = wide(path, seed=None)
    assert values(result) == {("a", "piqa", "acc"): 0.7}
    assert "1 empty cell counts as a missing score" in " ".join(result.table.notes)


def test_an_ambiguous_column_is_an_error_with_a_fix_that_works(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "mix,piqa_acc,gsm8k_pass@1\na,0.7,0.1\nb,0.8,0.2\n")
    message = refusal(path)
    assert "1 column is ambiguous: 'gsm8k_pass@1'" in message
    assert "--column 'gsm8k_pass@1=TASK/METRIC'" in message
    assert ("a", "gsm8k", "pass@1") in values(wide(path, columns=("gsm8k_pass@1=gsm8k/pass@1",)))
    skipped = wide(path, columns=("gsm8k*=skip",))
    assert "excluded: 'gsm8k_pass@1'" in skipped.table.notes[0]
    assert set(values(skipped)) == {("a", "piqa", "acc"), ("b", "piqa", "acc")}


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("id,run,piqa_acc\n1,2,0.5\n", (), "the columns 'id', 'run' may each name the mix"),
        ("who,piqa_acc\nx,0.5\n", (), "no column names the mix"),
        ("mix,piqa_acc,piqa/acc\na,0.5,0.6\n", (), "'piqa_acc' and 'piqa/acc' are both piqa acc"),
        ("mix,piqa_acc\na,0.5\nb,high\n", (), "row 3, column 'piqa_acc': 'high' is invalid"),
        ("mix,piqa_acc\na,0.5\n,0.6\n", (), "row 3, column 'mix': the cell is empty"),
        ("mix,web,code,piqa_acc\na,0.5,0.1,0.5\n", ("web=weight", "code=weight"), "row 2: the weights sum to 0.6"),
        ("mix,epochs,piqa_acc\na,1,0.5\nb,1,0.6\n", (), "1 column is ambiguous: 'epochs'"),
        ("mix,piqa_acc\na,0.5\n", ("piqa_acc=accuracy",), "expected COLUMN=KIND"),
        ("mix,a1,a2\na,0.5,0.6\n", ("a*=piqa/acc",), "gives 2 columns the same name"),
    ],
)  # fmt: skip
def test_what_is_unclear_or_invalid_is_refused(
    tmp_path: Path, text: str, columns: tuple[str, ...], expected: str
) -> None:
    assert expected in refusal(write(tmp_path / "t.csv", text), *columns)


def test_all_missing_labels_are_named_at_once(tmp_path: Path) -> None:
    message = refusal(write(tmp_path / "s.csv", SCORES), seed=None, scale=None, tokens=None)
    assert "no column for seed and scale and tokens" in message
    assert "--seed 0 --scale SCALE --tokens TOKENS" in message


def test_two_sets_of_weights_of_one_mix_are_refused(tmp_path: Path) -> None:
    other = write(tmp_path / "other.csv", WEIGHTS.replace("0.5,0.3", "0.3,0.5"))
    with pytest.raises(AssayError, match=r"w\.csv, \S+other\.csv: mix '1' has two different sets of weights"):
        wide(write(tmp_path / "w.csv", WEIGHTS), other, write(tmp_path / "s.csv", SCORES))


def test_a_table_without_any_score_is_refused_with_the_reason(tmp_path: Path) -> None:
    header, *_ = SCORES.splitlines()
    row = ",".join(["1", *[""] * header.count(",")])
    message = refusal(write(tmp_path / "s.csv", f"{header}\n{row}\n"))
    assert "every cell in the columns of scores is empty" in message
    assert "no row below the header" not in message


def test_a_percent_sign_is_to_be_removed_and_not_the_score(tmp_path: Path) -> None:
    header, first, *_ = SCORES.splitlines()
    cells = first.split(",")
    message = refusal(write(tmp_path / "s.csv", f"{header}\n{','.join([*cells[:-1], '31.5%'])}\n"))
    assert "'31.5%' is invalid" in message
    assert "without % sign" in message


def test_mixes_with_weights_or_scores_only_are_reported(tmp_path: Path) -> None:
    scores = write(tmp_path / "s.csv", SCORES.replace("\n2,", "\n3,"))
    notes = " ".join(wide(write(tmp_path / "w.csv", WEIGHTS), scores).table.notes)
    assert "1 of 2 mixes with weights have no scores, such as '2'" in notes
    assert "1 of 2 mixes with scores have no weights, such as '3'" in notes


def test_a_long_table_declared_as_wide_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "mix,task,metric,value\na,piqa,acc,0.5\n")
    with pytest.raises(AssayError, match="but --wide was given"):
        wide(path, wide_table=True)


def test_a_misspelled_long_table_is_not_read_as_scores(tmp_path: Path) -> None:
    assert "ambiguous: 'val'" in refusal(write(tmp_path / "t.csv", "mix,tsk,metrc,val\na,piqa,acc,0.5\n"))


def test_an_explicit_kind_for_a_column_that_no_file_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("mix,hellaswag_acc\na,0.3\nb,0.4\n")
    labels = {"scale": "1M", "tokens": "1e9", "seed": "0"}
    assert "Did you mean 'hellaswag_acc'?" in refusal(path, "hellaswg_acc=skip", **labels)
    other = tmp_path / "weights.csv"
    other.write_text("mix,w_web,w_code\na,0.3,0.7\nb,0.4,0.6\n")
    assert len(wide(path, other, columns=("w_*=weight",), **labels).table.frame) == 2


def test_columns_that_were_all_read_as_weights_are_refused_with_the_shape(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    path.write_text("mix,toxicity,refusal\na,0.3,0.7\nb,0.4,0.6\n")
    message = refusal(path, scale="1M", tokens="1e9", seed="0")
    assert f"{path}: no column was read as a score" in message
    assert "because each row sums to 1" in message
    assert "--column COLUMN=TASK/METRIC" in message

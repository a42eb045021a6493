"""Reading long tables and lm-eval's files, and errors with file, row and column."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from assay.analysis.external import reading
from assay.analysis.external.reading import RunLabels, find, read
from assay.analysis.external.table import ExternalTable
from assay.core.errors import AssayError
from tests.analysis.external.result_files import HEADER, write

NOTHING = RunLabels.parse({}, None)
ROW = "a,0,150M,3B,arc,acc,0.25,100,0.01\n"
LABELS = {"mix": "m", "seed": "1", "scale": "1M", "tokens": "1e9"}


def table(*paths: Path, given: RunLabels = NOTHING) -> ExternalTable:
    return read(list(paths), given).table


def refusal(path: Path, given: RunLabels = NOTHING) -> str:
    with pytest.raises(AssayError) as error:
        table(path, given=given)
    return str(error.value)


def test_the_spelling_of_numbers_does_not_change_the_table(tmp_path: Path) -> None:
    rows = (
        "a,0,150M,3e9,arc,acc,0.25,100,0.01",
        "a,1,1.5e8,3B,arc,acc,2.6e-1,100,",
        "b,0,150_000_000,3000000000,arc,acc,.27,,",
    )
    result = table(write(tmp_path / "t.csv", "\n".join([HEADER, *rows]))).frame
    assert result["scale"].tolist() == ["150M"] * 3
    assert result["tokens"].tolist() == [3_000_000_000] * 3
    assert result["seed"].tolist() == [0, 1, 0]
    assert result["value"].tolist() == [0.25, 0.26, 0.27]
    assert result["n"].isna().tolist() == [False, False, True]


def test_csv_compressed_csv_and_parquet_give_equal_tables(tmp_path: Path) -> None:
    text = f"{HEADER}\n{ROW}b,0,150M,3B,arc,acc,0.27,100,\n"
    plain = write(tmp_path / "t.csv", text)
    packed = tmp_path / "t.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    semicolons = write(tmp_path / "s.csv", "\ufeff" + text.replace(",", ";"))
    parquet = tmp_path / "t.parquet"
    pd.DataFrame(
        {
            "mix": pd.Categorical(["b", "a"]), "seed": [0, 0], "scale": [150e6, 150e6], "tokens": [3e9, 3e9],
            "task": ["arc", "arc"], "metric": ["acc", "acc"], "value": [0.27, 0.25], "n": [100, 100], "stderr": [None, 0.01],
        }
    ).to_parquet(parquet)  # fmt: skip
    digests = {table(path).digest for path in (plain, packed, semicolons, parquet)}
    assert len(digests) == 1


def test_seeds_may_have_names(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", HEADER + "\na,default,1M,1B,arc,acc,1,,\na,small aux 2,1M,1B,arc,acc,1,,\n")
    assert table(path).frame["seed"].tolist() == ["default", "small aux 2"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "t.csv: the file is empty"),
        ("\n", "row 1 is empty; expected the names of the columns"),
        (HEADER + "\n", "the file has no row below the header"),
        (HEADER.replace("scale", "sclae") + "\n" + ROW, "no column is named 'scale'. Did you mean 'sclae'?"),
        (HEADER.replace("stderr", "stdrr") + "\n" + ROW, "the column 'stdrr' is unknown. Did you mean 'stderr'?"),
        (HEADER.replace("n,", "value,") + "\n" + ROW, "the column 'value' occurs twice"),
        (HEADER + "\n" + ROW + ROW.replace("0.25", "nan").replace("a,0", "a,1"), "t.csv: row 3, column 'value': 'nan'"),
        (HEADER + "\n" + ROW.replace("0.25", ""), "row 2, column 'value': ''"),
        (HEADER + "\n" + ROW.replace("0.25", "inf"), "row 2, column 'value': 'inf'"),
        (HEADER + "\n" + ROW + "\n\n" + ROW.replace("0.25", "0,25").replace("a,0", "a,1"), "row 5 has 10 cells where the header has 9"),
        (HEADER + "\n" + ROW + "\n\n" + ROW.replace("0.25", "25 %").replace("a,0", "a,1"), "row 5, column 'value': '25 %'"),
        (HEADER + "\n" + ROW.replace("150M", "big"), "row 2, column 'scale': 'big' is invalid; expected a number above 0"),
        (HEADER + "\n" + ROW.replace("3B", "-3B"), "row 2, column 'tokens': '-3B'"),
        (HEADER + "\n" + ROW.replace("0.01", "-1"), "row 2, column 'stderr': '-1'"),
        (HEADER + "\n" + ROW.replace("a,0", ",0"), "row 2, column 'mix': the cell is empty"),
        (HEADER + "\n" + ROW.replace("a,", '"a,'), "a quotation mark in row 2 is not closed"),
        (HEADER + "\n" + ROW + ROW.replace("0.25", "0.26"), "row 2 and"),
    ],
)  # fmt: skip
def test_an_error_in_a_table_names_row_and_column(tmp_path: Path, text: str, expected: str) -> None:
    message = refusal(write(tmp_path / "t.csv", text))
    assert expected in message
    assert "t.csv" in message


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ((HEADER + "\n" + ROW + ROW.replace("a,0", "mü,0")).encode("latin-1"), "row 3 is not UTF-8: byte 0xfc after 'm'"),
        ((HEADER + "\n" + ROW).encode("utf-16"), "the file is UTF-16"),
    ],
)  # fmt: skip
def test_an_error_about_the_encoding_names_the_place(tmp_path: Path, data: bytes, expected: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    assert expected in refusal(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("t.parquet", "no complete Parquet file"),
        ("t.csv.gz", "cannot be decompressed"),
        ("t.json", "invalid or incomplete JSON"),
        ("t.xlsx", "the file's type is unknown"),
    ],
)
def test_a_file_with_the_wrong_content_is_refused(tmp_path: Path, name: str, expected: str) -> None:
    assert expected in refusal(write(tmp_path / name, "junk"))


def test_an_identical_row_is_dropped_with_a_note(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.csv", HEADER + "\n" + ROW), write(tmp_path / "b.csv", HEADER + "\n" + ROW)
    result = table(first, second)
    assert len(result.frame) == 1
    assert "b.csv row 2" in result.notes[0]


def test_contradicting_rows_are_refused_with_both_places(tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv", HEADER + "\n" + ROW)
    second = write(tmp_path / "b.csv", HEADER + "\n" + ROW.replace("0.25", "0.26"))
    with pytest.raises(AssayError) as error:
        table(first, second)
    for part in ("a.csv row 2", "b.csv row 2", "mix a, seed 0, scale 150M", "value is 0.25 and 0.26"):
        assert part in str(error.value)


def test_unknown_columns_are_excluded_with_a_note(tmp_path: Path) -> None:
    result = table(write(tmp_path / "t.csv", HEADER + ",author\n" + ROW.strip() + ",me\n"))
    assert "author" in result.notes[0]


def test_percentages_in_a_fraction_metric_are_noted(tmp_path: Path) -> None:
    result = table(write(tmp_path / "t.csv", HEADER + "\n" + ROW.replace("0.25", "25.0")))
    assert "appears to be in percent" in result.notes[0]


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        (ROW + ROW.replace("a,0", "b,0").replace("0.25", "25.0"), ("25 for b seed 0", "t.csv row 3", "0.25 for a seed 0", "t.csv row 2")),
        (ROW + ROW.replace("a,0", "a,1").replace("0.25", "1.02"), ("1.02 for a seed 1", "t.csv row 3")),
        (ROW.replace("0.25", "-0.25"), ("a seed 0 (", "t.csv row 2", "-0.25 is invalid")),
        (ROW.replace("acc,0.25", "word_perplexity,-7"), ("t.csv row 2", "word_perplexity: -7 is invalid; expected at least 1")),
        (ROW.replace("0.25", "250"), ("t.csv row 2", "250 is invalid")),
    ],
)  # fmt: skip
def test_values_that_no_unit_explains_are_refused_with_their_place(
    tmp_path: Path, rows: str, parts: tuple[str, ...]
) -> None:
    message = refusal(write(tmp_path / "t.csv", HEADER + "\n" + rows))
    for part in parts:
        assert part in message


def test_percentages_below_one_next_to_fractions_are_noted(tmp_path: Path) -> None:
    rows = "".join(
        ROW.replace("a,0", f"{mix},{seed}").replace("0.25", value)
        for mix, values in {"a": ("0.0087", "0.0091"), "b": ("0.8796", "0.9023")}.items()
        for seed, value in enumerate(values)
    )
    [note] = table(write(tmp_path / "t.csv", HEADER + "\n" + rows)).notes
    assert "is 0.0091 and 0.8796, with no value between" in note


@pytest.mark.parametrize("text", ["nan", "NaN", "NAN", "inf", "-inf", "Infinity", "", "n/a", "None"])
def test_a_cell_that_is_no_finite_number_is_refused(tmp_path: Path, text: str) -> None:
    message = refusal(write(tmp_path / "t.csv", HEADER + "\n" + ROW + ROW.replace("a,0", "a,1").replace("0.25", text)))
    assert "t.csv: row 3, column 'value'" in message


def test_a_column_declares_units_and_an_option_those_of_fractions(tmp_path: Path) -> None:
    header = HEADER + ",unit\n"
    path = write(tmp_path / "t.csv", header + ROW.strip().replace("0.25", "0.9") + ",%\n")
    result = table(path)
    assert result.frame["value"].tolist() == [0.9], "the table keeps the file's values"
    assert "is declared to be in percent, such as 0.9; 1 value is converted" in result.notes[0]
    loss = ROW.replace("acc,0.25", "nll,2.5")
    plain = write(tmp_path / "p.csv", HEADER + "\n" + ROW.replace("0.25", "0.9") + loss)
    given = read([plain], RunLabels.parse({"unit": "percent"}, None)).table.frame
    units = dict(zip(given["metric"], given["unit"], strict=True))
    assert units["acc"] == "percent"
    assert not isinstance(units["nll"], str)


def test_a_table_without_units_has_the_digest_of_earlier_versions(tmp_path: Path) -> None:
    """Otherwise, a repeated import of the same file would be refused as other results."""
    import hashlib

    from pandas.util import hash_pandas_object

    result = table(write(tmp_path / "t.csv", HEADER + "\n" + ROW))
    columns = [
        hash_pandas_object(column, index=False).to_numpy()
        for name, column in result.frame.items()
        if name not in {"unit", "family"}
    ]
    assert result.digest == hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()


def test_metrics_with_the_filter_none_are_metrics_without_a_filter(tmp_path: Path) -> None:
    """lm-eval writes `acc,none` for `acc`."""
    rows = ROW + ROW.replace("a,0", "b,0").replace(",acc,", ',"acc,none",')
    result = table(write(tmp_path / "t.csv", HEADER + "\n" + rows))
    assert set(result.frame["metric"]) == {"acc"}
    assert "'acc,none' were read as 'acc'" in result.notes[0]
    clash = ROW + ROW.replace(",acc,0.25", ',"acc,none",0.26')
    assert "disagree on" in refusal(write(tmp_path / "c.csv", HEADER + "\n" + clash))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "NaN", "Infinity"])
def test_lm_evals_scores_that_are_not_finite_are_kept_and_noted_with_file_task_and_metric(
    evaluation: Callable[..., Path], value: Any
) -> None:
    path = evaluation(acc=value)
    result = read([path], RunLabels.parse({"mix": "new", "seed": "1", "tokens": "3e9"}, None)).table
    [score] = result.frame.loc[(result.frame["task"] == "arc_easy") & (result.frame["metric"] == "acc"), "value"]
    assert str(score) == str(float(value))
    [note] = result.notes
    for part in ("arc_easy acc of new seed 1", path.name, f"is {float(value)}"):
        assert part in note


def test_row_numbers_continue_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test reduces the chunk to ten rows, so that a small file has several."""
    monkeypatch.setattr(reading, "CHUNK", 10)
    rows = [f"a,{seed},1M,1B,arc,acc,0.5,,\n" for seed in range(35)]
    fractions: list[float] = []
    whole = write(tmp_path / "t.csv", HEADER + "\n" + "".join(rows))
    result = read([whole], NOTHING, progress=lambda _, fraction: fractions.append(fraction))
    assert len(result.table.frame) == 35
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    rows[29] = "a,29,1M,1B,arc,acc,half,,\n"
    assert "row 31, column 'value': 'half'" in refusal(write(whole, HEADER + "\n" + "".join(rows)))


def test_options_provide_missing_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "seed,task,metric,value\n0,arc,acc,0.5\n")
    assert "Give it with --mix" in refusal(path)
    result = table(path, given=RunLabels.parse({**LABELS, "seed": None}, None)).frame
    assert result.loc[0, ["mix", "seed", "scale"]].tolist() == ["m", 0, "1M"]


def test_a_pattern_reads_labels_from_the_path(evaluation: Callable[..., Path], tmp_path: Path) -> None:
    for mix, seed in (("today", 0), ("more_code", 1)):
        evaluation(f"{mix}/seed{seed}/model", acc=0.5 + 0.1 * seed)
    given = RunLabels.parse({"tokens": "3B", "scale": "150M"}, r"(?P<mix>[^/]+)/seed(?P<seed>\d+)/")
    result = table(*find([str(tmp_path)]), given=given).frame
    arc = result[(result["task"] == "arc_easy") & (result["metric"] == "acc")]
    assert arc[["mix", "seed", "value"]].to_numpy().tolist() == [["more_code", 1, 0.6], ["today", 0, 0.5]]
    assert "does not match --pattern" in refusal(evaluation("elsewhere"), given)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("(", "expected a regular expression"), ("mix", "expected a named group"), ("(?P<mxi>x)", "Did you mean 'mix'?")],
)
def test_a_pattern_without_a_label_is_refused(pattern: str, expected: str) -> None:
    with pytest.raises(AssayError, match=expected.replace("?", r"\?")):
        RunLabels.parse({}, pattern)


# --- lm-eval's files


def test_lm_evals_scores_are_read_with_their_settings(evaluation: Callable[..., Path]) -> None:
    result = table(evaluation(), given=RunLabels.parse({**LABELS, "scale": None}, None)).frame.set_index(
        ["task", "metric"]
    )
    acc = result.loc[("arc_easy", "acc")]
    assert (acc["value"], acc["stderr"], acc["n"], acc["version"], acc["num_fewshot"]) == (
        0.8,
        0.19999999999999998,
        5,
        "1.0",
        0,
    )
    assert acc["scale"] == "151898880", "lm-eval counted the model's parameters"
    assert pd.isna(result.loc[("arc_easy", "acc_norm")]["stderr"])
    group = result.loc[("mmlu_stem", "acc")]
    assert (group["value"], group["n"], group["version"]) == (0.25, 4, "2"), "a group has its subtasks' items"
    assert group["prompt"] != acc["prompt"]
    assert set(result["mix"]) == {"m"}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"acc": 0.1}, True),
        ({"text": "Q: {{question}}\nA:"}, False),
        ({"shots": 5}, False),
        ({"fewshot_seed": 1}, True),
    ],
)
def test_the_prompt_digest_changes_with_the_prompt(evaluation: Callable[..., Path], change: dict, same: bool) -> None:
    given = RunLabels.parse(LABELS, None)
    prompts = [
        table(path, given=given).frame.set_index(["task", "metric"]).loc[("arc_easy", "acc"), "prompt"]
        for path in (evaluation("a"), evaluation("b", **change))
    ]
    assert (prompts[0] == prompts[1]) is same


def test_the_digest_of_a_function_template_ignores_its_address(
    evaluation: Callable[..., Path],
) -> None:
    given = RunLabels.parse(LABELS, None)
    texts = ("functools.partial(<function f at 0x7f00aa>)", "functools.partial(<function f at 0x7f11bb>)")
    digests = [table(evaluation(str(i), text=text), given=given).digest for i, text in enumerate(texts)]
    assert digests[0] == digests[1]


def test_a_second_file_of_a_model_must_not_contradict_the_first(evaluation: Callable[..., Path]) -> None:
    given = RunLabels.parse(LABELS, None)
    first, again = evaluation(), evaluation(when="2026-11-24T00-00-00.0")
    assert "identical rows were dropped" in table(first, again, given=given).notes[0]
    with pytest.raises(AssayError, match="disagree on mix m, seed 1"):
        table(first, evaluation(when="2026-11-25T00-00-00.0", acc=0.9), given=given)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", "expected a key `results`"),
        ("[1]", "expected a key `results`"),
        ('{"results": {}}', "`results` is empty"),
        ('{"results": {"arc": {"acc,none": "N/A"}}}', "no metric has a numeric value"),
        ('{"results": {"arc": 3}}', "does not have lm-eval's layout"),
        ('{"results": {"arc"', "invalid or incomplete JSON"),
    ],
)
def test_other_json_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refusal(write(tmp_path / "results_x.json", text), RunLabels.parse(LABELS, None))


def test_labels_that_lm_eval_lacks_must_be_given(evaluation: Callable[..., Path]) -> None:
    message = refusal(evaluation(parameters=None), RunLabels.parse({**LABELS, "scale": None}, None))
    assert "lm-eval's results lack the scale of a run" in message
    assert "--scale" in message


# --- arguments


def test_folders_globs_and_files_are_listed_once(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a/one.csv", ROW), write(tmp_path / "a/b/two.csv", ROW)
    results = write(tmp_path / "a/b/results_x.json", json.dumps({}))
    write(tmp_path / "a/b/samples_x.jsonl", "")
    write(tmp_path / "a/b/config.json", "{}")
    assert set(find([str(tmp_path / "a"), str(first)])) == {first, second, results}
    assert find([str(tmp_path / "a/**/t*.csv")]) == [second]


def test_an_argument_without_a_match_is_refused(tmp_path: Path) -> None:
    for argument, message in (
        (tmp_path / "gone.csv", "no file or folder has this path"),
        (tmp_path, "this folder contains no results"),
    ):
        with pytest.raises(AssayError, match=message):
            find([str(argument)])

"""Long tables and lm-eval's files: what is read of them, and what is refused with file, row and column."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from assay.errors import AssayError
from assay.imports import read as reading
from assay.imports.read import Given, find, read
from assay.imports.table import Table
from tests.imports.files import HEADER, write

NOTHING = Given.parse({}, None)
ROW = "a,0,150M,3B,arc,acc,0.25,100,0.01\n"
LABELS = {"mix": "m", "seed": "1", "scale": "1M", "tokens": "1e9"}


def table(*paths: Path, given: Given = NOTHING) -> Table:
    return read(list(paths), given).table


def refusal(path: Path, given: Given = NOTHING) -> str:
    with pytest.raises(AssayError) as error:
        table(path, given=given)
    return str(error.value)


def test_however_a_number_is_written_the_table_is_the_same(tmp_path: Path) -> None:
    rows = (
        "a,0,150M,3e9,arc,acc,0.25,100,0.01",
        "a,1,1.5e8,3B,arc,acc,2.6e-1,100,",
        "b,0,150_000_000,3000000000,arc,acc,.27,,",
    )
    found = table(write(tmp_path / "t.csv", "\n".join([HEADER, *rows]))).frame
    assert found["scale"].tolist() == ["150M"] * 3
    assert found["tokens"].tolist() == [3_000_000_000] * 3
    assert found["seed"].tolist() == [0, 1, 0]
    assert found["value"].tolist() == [0.25, 0.26, 0.27]
    assert found["n"].isna().tolist() == [False, False, True]


def test_csv_parquet_and_packed_csv_of_the_same_rows_are_the_same_table(tmp_path: Path) -> None:
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
    ("text", "said"),
    [
        ("", "t.csv: the file is empty"),
        ("\n", "row 1 is empty, where the names of the columns have to be"),
        (HEADER + "\n", "there is no row below the header"),
        (HEADER.replace("scale", "sclae") + "\n" + ROW, "there is no column 'scale'. Did you mean 'sclae'?"),
        (HEADER.replace("stderr", "stdrr") + "\n" + ROW, "no column is called 'stdrr'. Did you mean 'stderr'?"),
        (HEADER.replace("n,", "value,") + "\n" + ROW, "the column 'value' is there twice"),
        (HEADER + "\n" + ROW + ROW.replace("0.25", "nan").replace("a,0", "a,1"), "t.csv: row 3, column 'value': 'nan'"),
        (HEADER + "\n" + ROW.replace("0.25", ""), "row 2, column 'value': ''"),
        (HEADER + "\n" + ROW.replace("0.25", "inf"), "row 2, column 'value': 'inf'"),
        (HEADER + "\n" + ROW + "\n\n" + ROW.replace("0.25", "0,25").replace("a,0", "a,1"), "row 5 has 10 cells where the header has 9"),
        (HEADER + "\n" + ROW + "\n\n" + ROW.replace("0.25", "25 %").replace("a,0", "a,1"), "row 5, column 'value': '25 %'"),
        (HEADER + "\n" + ROW.replace("150M", "big"), "row 2, column 'scale': 'big' is no number above 0"),
        (HEADER + "\n" + ROW.replace("3B", "-3B"), "row 2, column 'tokens': '-3B'"),
        (HEADER + "\n" + ROW.replace("0.01", "-1"), "row 2, column 'stderr': '-1'"),
        (HEADER + "\n" + ROW.replace("a,0", ",0"), "row 2, column 'mix': nothing stands there"),
        (HEADER + "\n" + ROW.replace("a,", '"a,'), "a quotation mark in row 2 is never closed"),
        (HEADER + "\n" + ROW + ROW.replace("0.25", "0.26"), "row 2 and"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_table_is_named_with_its_row_and_column(tmp_path: Path, text: str, said: str) -> None:
    message = refusal(write(tmp_path / "t.csv", text))
    assert said in message
    assert "t.csv" in message


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((HEADER + "\n" + ROW + ROW.replace("a,0", "mü,0")).encode("latin-1"), "row 3 is not UTF-8: byte 0xfc after 'm'"),
        ((HEADER + "\n" + ROW).encode("utf-16"), "the file is UTF-16"),
    ],
)  # fmt: skip
def test_another_encoding_is_named_with_the_place(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    assert said in refusal(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("t.parquet", "not whole Parquet"),
        ("t.csv.gz", "cannot be unpacked"),
        ("t.json", "not whole JSON"),
        ("t.xlsx", "cannot be told from its name"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path, name: str, said: str) -> None:
    assert said in refusal(write(tmp_path / name, "junk"))


def test_a_row_that_is_there_twice_is_kept_once_with_a_word(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.csv", HEADER + "\n" + ROW), write(tmp_path / "b.csv", HEADER + "\n" + ROW)
    found = table(first, second)
    assert len(found.frame) == 1
    assert "b.csv row 2" in found.notes[0]


def test_two_values_for_one_thing_are_refused_with_both_places(tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv", HEADER + "\n" + ROW)
    second = write(tmp_path / "b.csv", HEADER + "\n" + ROW.replace("0.25", "0.26"))
    with pytest.raises(AssayError) as error:
        table(first, second)
    for part in ("a.csv row 2", "b.csv row 2", "mix a, seed 0, scale 150M", "value is 0.25 and 0.26"):
        assert part in str(error.value)


def test_columns_without_a_meaning_are_left_out_with_a_word(tmp_path: Path) -> None:
    found = table(write(tmp_path / "t.csv", HEADER + ",author\n" + ROW.strip() + ",me\n"))
    assert "author" in found.notes[0]


def test_percent_in_a_metric_that_is_a_share_is_pointed_at(tmp_path: Path) -> None:
    found = table(write(tmp_path / "t.csv", HEADER + "\n" + ROW.replace("0.25", "25.0")))
    assert "looks like percent" in found.notes[0]


def test_a_table_of_many_pieces_counts_its_rows_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The piece is a constant of the module: ten rows here, so that a small file has several."""
    monkeypatch.setattr(reading, "PIECE", 10)
    rows = [f"a,{seed},1M,1B,arc,acc,0.5,,\n" for seed in range(35)]
    shares: list[float] = []
    whole = write(tmp_path / "t.csv", HEADER + "\n" + "".join(rows))
    found = read([whole], NOTHING, progress=lambda _, share: shares.append(share))
    assert len(found.table.frame) == 35
    assert shares == sorted(shares)
    assert shares[-1] == 1
    rows[29] = "a,29,1M,1B,arc,acc,half,,\n"
    assert "row 31, column 'value': 'half'" in refusal(write(whole, HEADER + "\n" + "".join(rows)))


def test_labels_that_a_table_lacks_come_from_options(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "seed,task,metric,value\n0,arc,acc,0.5\n")
    assert "Give it with --mix" in refusal(path)
    found = table(path, given=Given.parse({**LABELS, "seed": None}, None)).frame
    assert found.loc[0, ["mix", "seed", "scale"]].tolist() == ["m", 0, "1M"]


def test_labels_come_from_the_path_by_a_pattern(evaluation: Callable[..., Path], tmp_path: Path) -> None:
    for mix, seed in (("today", 0), ("more_code", 1)):
        evaluation(f"{mix}/seed{seed}/model", acc=0.5 + 0.1 * seed)
    given = Given.parse({"tokens": "3B", "scale": "150M"}, r"(?P<mix>[^/]+)/seed(?P<seed>\d+)/")
    found = table(*find([str(tmp_path)]), given=given).frame
    arc = found[(found["task"] == "arc_easy") & (found["metric"] == "acc")]
    assert arc[["mix", "seed", "value"]].to_numpy().tolist() == [["more_code", 1, 0.6], ["today", 0, 0.5]]
    assert "does not match --pattern" in refusal(evaluation("elsewhere"), given)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("(", "no regular expression"), ("mix", "no named group"), ("(?P<mxi>x)", "Did you mean 'mix'?")],
)
def test_a_pattern_that_finds_no_label_is_refused(pattern: str, said: str) -> None:
    with pytest.raises(AssayError, match=said.replace("?", r"\?")):
        Given.parse({}, pattern)


# --- lm-eval's files


def test_lm_evals_scores_are_read_with_what_was_asked(evaluation: Callable[..., Path]) -> None:
    found = table(evaluation(), given=Given.parse({**LABELS, "scale": None}, None)).frame.set_index(["task", "metric"])
    acc = found.loc[("arc_easy", "acc")]
    assert (acc["value"], acc["stderr"], acc["n"], acc["version"], acc["num_fewshot"]) == (
        0.8,
        0.19999999999999998,
        5,
        "1.0",
        0,
    )
    assert acc["scale"] == "151898880", "lm-eval counted the model's parameters"
    assert pd.isna(found.loc[("arc_easy", "acc_norm")]["stderr"])
    group = found.loc[("mmlu_stem", "acc")]
    assert (group["value"], group["n"], group["version"]) == (0.25, 4, "2"), "a group has its subtasks' questions"
    assert group["prompt"] != acc["prompt"]
    assert set(found["mix"]) == {"m"}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"acc": 0.1}, True),
        ({"text": "Q: {{question}}\nA:"}, False),
        ({"shots": 5}, False),
        ({"fewshot_seed": 1}, True),
    ],
)
def test_the_prompts_digest_changes_with_what_a_model_sees(
    evaluation: Callable[..., Path], change: dict, same: bool
) -> None:
    given = Given.parse(LABELS, None)
    prompts = [
        table(path, given=given).frame.set_index(["task", "metric"]).loc[("arc_easy", "acc"), "prompt"]
        for path in (evaluation("a"), evaluation("b", **change))
    ]
    assert (prompts[0] == prompts[1]) is same


def test_a_template_that_is_a_function_has_one_digest_wherever_it_was_in_memory(
    evaluation: Callable[..., Path],
) -> None:
    given = Given.parse(LABELS, None)
    texts = ("functools.partial(<function f at 0x7f00aa>)", "functools.partial(<function f at 0x7f11bb>)")
    found = [table(evaluation(str(i), text=text), given=given).digest for i, text in enumerate(texts)]
    assert found[0] == found[1]


def test_a_second_file_of_one_model_adds_tasks_and_may_not_contradict(evaluation: Callable[..., Path]) -> None:
    given = Given.parse(LABELS, None)
    first, again = evaluation(), evaluation(when="2026-11-24T00-00-00.0")
    assert "kept once" in table(first, again, given=given).notes[0]
    with pytest.raises(AssayError, match="disagree on mix m, seed 1"):
        table(first, evaluation(when="2026-11-25T00-00-00.0", acc=0.9), given=given)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "it has no `results`"),
        ("[1]", "it has no `results`"),
        ('{"results": {}}', "its `results` are empty"),
        ('{"results": {"arc": {"acc,none": "N/A"}}}', "no metric in it is a number"),
        ('{"results": {"arc": 3}}', "not laid out as lm-eval does"),
        ('{"results": {"arc"', "not whole JSON"),
    ],
)
def test_json_that_is_not_lm_evals_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(write(tmp_path / "results_x.json", text), Given.parse(LABELS, None))


def test_what_lm_eval_does_not_say_has_to_be_given(evaluation: Callable[..., Path]) -> None:
    message = refusal(evaluation(parameters=None), Given.parse({**LABELS, "scale": None}, None))
    assert "lm-eval does not say the scale of a run" in message
    assert "--scale" in message


# --- what arguments mean


def test_folders_globs_and_files_are_found_once(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a/one.csv", ROW), write(tmp_path / "a/b/two.csv", ROW)
    results = write(tmp_path / "a/b/results_x.json", json.dumps({}))
    write(tmp_path / "a/b/samples_x.jsonl", "")
    write(tmp_path / "a/b/config.json", "{}")
    assert set(find([str(tmp_path / "a"), str(one)])) == {one, two, results}
    assert find([str(tmp_path / "a/**/t*.csv")]) == [two]


def test_an_argument_that_matches_nothing_is_named(tmp_path: Path) -> None:
    for argument, said in ((tmp_path / "gone.csv", "there is no such file"), (tmp_path, "no results in this folder")):
        with pytest.raises(AssayError, match=said):
            find([str(argument)])

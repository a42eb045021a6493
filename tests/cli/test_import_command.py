"""`assay import`, and compare, gate and plan on what was imported, as people and machines call them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.analysis.external.result_files import HEADER, table, write
from tests.cli.invoke import Said, caller

POLICY = """name: arc
alpha: 0.05
min_seeds: 3
primary: [{task: arc_easy, metric: acc, better: higher}]
guardrails: [{task: piqa, metric: acc, better: higher, margin: 0.02}]
"""

AT_TARGET = "target: {task: arc_easy, metric: acc, scale: 1B, better: higher}\nproxy_scale: 150M\n"


@pytest.fixture
def assay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The command line, in this process, in a project with a policy and a table of three mixes."""
    write(tmp_path / "conf/policy/arc.yaml", POLICY)
    rows = table({"today": 0.5, "better": 0.56, "worse": 0.44}, seeds=range(5))
    guard = table({"today": 0.7, "better": 0.701, "worse": 0.7}, seeds=range(5), task="piqa")
    write(tmp_path / "team.csv", f"{HEADER}\n{rows}{guard}")
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


def test_an_import_is_listed_and_the_same_again_does_nothing(assay: Callable[..., Said]) -> None:
    assert "nothing was imported yet" in assay("import", "list").out
    first = assay("import", "team.csv", "--json").json
    assert (first["state"], first["name"], first["rows"], first["mixes"]) == (
        "imported",
        "team",
        30,
        ["better", "today", "worse"],
    )
    again = assay("import", "team.csv")
    assert again.code == 0
    assert "nothing was done" in again.out
    assert assay("import", "list", "--json").json == [{key: value for key, value in first.items() if key != "state"}]
    listed = assay("import", "list").out
    assert "30 rows: 3 mixes, 5 seeds, 150M, 2 tasks" in listed


def test_other_results_of_a_name_need_force(assay: Callable[..., Said], tmp_path: Path) -> None:
    assay("import", "team.csv")
    write(tmp_path / "team.csv", f"{HEADER}\n{table({'today': 0.1})}")
    refused = assay("import", "team.csv")
    assert refused.code == 2
    assert "--force" in refused.err
    assert assay("import", "team.csv", "--force", "--json").json["state"] == "replaced"


def test_several_files_and_a_store_elsewhere_in_one_call(assay: Callable[..., Said], tmp_path: Path) -> None:
    write(tmp_path / "more/seed9.csv", f"{HEADER}\n{table({'today': 0.5}, seeds=[9])}")
    made = assay("import", "team.csv", "more", "--name", "all", f"paths.store={tmp_path}/elsewhere", "--json").json
    assert made["rows"] == 31
    assert (tmp_path / "elsewhere/imports/all/results.parquet").is_file()


@pytest.mark.parametrize(("candidate", "decision", "code"), [("better", "ACCEPT", 0), ("worse", "REJECT", 1)])
def test_imported_results_are_judged_without_a_sweep(
    assay: Callable[..., Said], candidate: str, decision: str, code: int
) -> None:
    assay("import", "team.csv")
    arguments = ["gate", "results", "team", "--baseline", "today", "--candidate", candidate, "policy=arc"]
    machine = assay(*arguments, "--json")
    assert machine.code == code
    assert machine.json["verdict"] == decision
    assert list(machine.json["candidates"]) == [candidate]
    people = assay(*arguments)
    assert people.code == code
    assert decision in people.out
    markdown = assay(*arguments, "--markdown")
    assert markdown.code == code
    assert f"## {decision}: `team`" in markdown.out
    assert "| `arc_easy` |" in markdown.out


def test_without_a_candidate_every_other_mix_is_judged_and_the_worst_counts(assay: Callable[..., Said]) -> None:
    found = assay("gate", "results", "team.csv", "--baseline", "today", "policy=arc", "--json")
    assert found.code == 1, "a table's file is judged as it is, without an import"
    assert {name: one["verdict"] for name, one in found.json["candidates"].items()} == {
        "better": "ACCEPT",
        "worse": "REJECT",
    }


def test_imported_results_are_compared(assay: Callable[..., Said]) -> None:
    assay("import", "team.csv")
    found = assay("compare", "results", "team", "--baseline", "today", "policy=arc", "--json")
    assert found.code == 0
    effects = {c["task"]: c["effect"] for c in found.json["candidates"]["better"]}
    assert effects["arc_easy"] == pytest.approx(0.06, abs=0.002)


def test_plan_says_what_a_verdict_on_imported_results_lacks(assay: Callable[..., Said], tmp_path: Path) -> None:
    few = table({"today": 0.5, "new": 0.56}, seeds=[0, 1])
    write(tmp_path / "few.csv", f"{HEADER}\n{few}")
    found = assay("plan", "results", "few.csv", "--baseline", "today", "policy=arc", "--json")
    assert found.code == 0
    lacks = found.json["candidates"][0]["missing"]
    assert "new has 2 of the 3 seeds that the policy requires." in lacks
    assert "today and new were not scored on piqa acc." in lacks
    told = assay("plan", "results", "team.csv", "--baseline", "today", "policy=arc").out
    assert "Nothing is missing" in told
    assert "about the proxy only: no history is named" in told


def test_a_wide_table_and_its_weights_import_with_one_command(assay: Callable[..., Said], tmp_path: Path) -> None:
    write(tmp_path / "w.csv", "index,train_web,train_code\n1,0.5,0.5\n2,0.9,0.1\n")
    write(tmp_path / "s.csv", "index,metric/web_val_loss\n1,5.5\n2,6.0\n")
    labels = ["--seed", "0", "--scale", "1M", "--tokens", "1B"]
    made = assay("import", "add", "w.csv", "s.csv", "--name", "swarm", *labels)
    assert made.code == 0
    assert "2 rows: 2 mixes, 1 seed, 1M, 1 task, weights of 2 sources" in made.out
    assert "was read as a wide table: 'index' is the mix" in " ".join(made.err.split())
    assert "nothing was done" in assay("import", "add", "w.csv", "s.csv", "--name", "swarm", *labels).out
    write(tmp_path / "w.csv", "index,train_web,train_code\n1,0.4,0.6\n2,0.9,0.1\n")
    changed = assay("import", "add", "w.csv", "s.csv", "--name", "swarm", *labels)
    assert changed.code == 2, "other weights are other results"
    (listed,) = assay("import", "list", "--json").json
    assert (listed["name"], listed["sources"]) == ("swarm", ["web", "code"])


def test_compare_gate_and_plan_use_one_history(assay: Callable[..., Said], tmp_path: Path) -> None:
    """The history contains the candidates, at the proxy and at the target; a verdict excludes only its two mixes."""
    near = {"today": 0.5, "better": 0.56, "worse": 0.44} | {f"m{i}": 0.405 + i / 50 for i in range(12)}
    far = table({mix: value + 0.1 + i * 7 % 5 / 100 for i, (mix, value) in enumerate(near.items())}, scale="1B")
    write(tmp_path / "past.csv", f"{HEADER}\n{table(near, seeds=range(3))}{far}")
    write(tmp_path / "conf/policy/far.yaml", POLICY.replace("name: arc", "name: far") + AT_TARGET)
    common = ["results", "team.csv", "--baseline", "today", "policy=far", "history=past.csv", "--json"]
    gated, compared = assay("gate", *common).json, assay("compare", *common).json
    for name, decided in gated["candidates"].items():
        assert compared["candidates"][name] == decided["comparisons"]
    planned = assay("plan", *common).json
    assert planned["pairs"] == 13
    assert [c["candidate"] for c in planned["candidates"]] == ["better", "worse"]
    assert {d["target"]["reliability"]["n_mixes"] for d in gated["candidates"].values()} == {13}
    one = assay("plan", *common, "--candidate", "worse").json
    assert [c["candidate"] for c in one["candidates"]] == ["worse"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["import"], "no input was given"),
        (["import", "taem.csv"], "taem.csv: no file or folder has this path"),
        (["import", "wandb://mixes"], "Write wandb://ENTITY/PROJECT"),
        (["gate", "results", "taem", "--baseline", "today", "policy=arc"], "no import is named 'taem'"),
        (["gate", "results", "team.csv", "policy=arc"], "Missing option '--baseline'"),
        (["gate", "results", "team.csv", "--baseline", "tody", "policy=arc"], "Did you mean 'today'?"),
        (["gate", "results", "team.csv", "--baseline", "today", "policy=arcc"], "Did you mean 'arc'?"),
        (["gate", "results", "team.csv", "--baseline", "today", "sweep=code_replace"], "do not belong to sweep=code_replace"),
        (["gate", "--baseline", "today", "sweep=code_replace"], "No such option: --baseline"),
        (["gate", "results", "team.csv", "--baseline", "today", "policy=code"], "validation/code_github"),
        (["plan", "results", "team.csv", "--baseline", "today", "policy=arc", "history=gone"], "no import is named 'gone'"),
        (["plan", "results", "team.csv", "--baseline", "today", "policy=arc", "history=3"], "history: 3 is invalid"),
        (["plan", "sweep=code_replace", "history=gone"], "no import is named 'gone'"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_what_to_do(assay: Callable[..., Said], arguments: list[str], said: str) -> None:
    found = assay(*arguments)
    assert found.code == 2
    assert said in found.err
    assert "Traceback" not in found.err


HISTORY = {f"past{at}": 0.45 + 0.004 * at for at in range(25)}
TARGET = POLICY + "proxy_scale: 150M\ntarget: {scale: 1B, task: arc_easy, metric: acc, better: higher}\n"


def test_a_history_makes_the_verdict_one_about_the_target(assay: Callable[..., Said], tmp_path: Path) -> None:
    """Past mixes whose order at the proxy is that at the target, with checkpoints between that must not count."""
    write(tmp_path / "conf/policy/target.yaml", TARGET)
    at_proxy, early = table(HISTORY), table({mix: 1 - mean for mix, mean in HISTORY.items()}, tokens="1e9")
    means = {mix: mean + 0.2 + 0.002 * (at * 5 % 7 - 3) for at, (mix, mean) in enumerate(HISTORY.items())}
    at_target = table(means, scale="1000M", tokens="1e11")
    write(tmp_path / "past.csv", f"{HEADER}\n{at_proxy}{early}{at_target}")
    assay("import", "past.csv")
    arguments = ["results", "team.csv", "--baseline", "today", "policy=target", "history=past"]
    lacks = assay("plan", *arguments, "--json").json
    assert lacks["pairs"] == 25
    assert lacks["history"] == "The history has 25 other mixes at both 150M and 1B."
    found = assay("gate", *arguments, "--candidate", "better", "--json")
    assert (found.code, found.json["verdict"]) == (0, "ACCEPT")
    scope = found.json["candidates"]["better"]["scope"][0]
    assert (scope["code"], scope["subject"], scope["figures"]) == ("scope_target", "arc_easy", {"scale": "1B"})
    alone = assay("gate", *arguments[:-1], "--candidate", "better", "--json")
    assert alone.json["candidates"]["better"]["scope"][0]["code"] == "scope_proxy"


def test_a_history_that_the_project_names_can_be_imported(assay: Callable[..., Said], tmp_path: Path) -> None:
    """Only what rests on it asks for it: else its first import would be refused."""
    assert assay("import", "team.csv", "history=team").code == 0
    assert assay("plan", "sweep=code_replace", "history=team").code == 0
    assert assay("submit", "sweep=code_replace", "history=taem").code == 2


def test_runs_of_wandb_are_imported(assay: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    import wandb

    runs = [
        SimpleNamespace(
            id=f"{mix}{seed}", name=f"{mix}-{seed}", config={"mix": mix, "seed": seed, "parameters": 1e6, "tokens": 1e9},
            summary_metrics={"eval/arc_easy/acc": 0.5 + 0.01 * seed},
        )
        for mix in ("today", "new") for seed in range(3)
    ]  # fmt: skip
    monkeypatch.setattr(wandb, "Api", lambda **_: SimpleNamespace(runs=lambda *_, **__: runs))
    made = assay("import", "wandb://team/mixes", "--json").json
    assert (made["name"], made["rows"], made["scales"], made["origins"]) == ("mixes", 6, ["1M"], ["wandb://team/mixes"])


def gate(assay: Callable[..., Said], name: str, *more: str) -> Said:
    return assay("gate", "results", name, "--baseline", "today", "--candidate", "new", "policy=arc", *more)


def both(today: float, new: float, *, percent: Sequence[str] = (), of: Sequence[str] = ("arc_easy", "piqa")) -> str:
    """Rows of both tasks of the policy; the mixes in `percent` have values of the tasks in `of` in percent."""
    parts = [
        table({"today": today, "new": new}, seeds=range(4)),
        table({"today": 0.7, "new": 0.701}, seeds=range(4), task="piqa"),
    ]
    rows = [line.split(",") for part in parts for line in part.splitlines()]
    for row in rows:
        if row[0] in percent and row[4] in of:
            row[6] = f"{100 * float(row[6]):.4f}"
    return HEADER + "\n" + "".join(",".join(row) + "\n" for row in rows)


def test_percent_in_all_rows_gives_the_verdict_of_fractions_and_is_stated(
    assay: Callable[..., Said], tmp_path: Path
) -> None:
    write(tmp_path / "fractions.csv", both(0.45, 0.48))
    write(tmp_path / "percent.csv", both(0.45, 0.48, percent=("today", "new")))
    imported = assay("import", "percent.csv", "--json").json
    assert "appears to be in percent" in imported["notes"][0]
    fractions, percent = (
        gate(assay, name, "--json").json["candidates"]["new"] for name in ("fractions.csv", "percent")
    )
    assert percent["verdict"] == fractions["verdict"] == "ACCEPT"
    for a, b in zip(percent["comparisons"], fractions["comparisons"], strict=True):
        assert a["effect"] == pytest.approx(b["effect"], abs=1e-6)
        assert a["margin"] == b["margin"]
    codes = [reason["code"] for reason in percent["reasons"]]
    assert codes.count("unit_converted") == 1
    for view in (gate(assay, "percent"), gate(assay, "percent", "--markdown")):
        assert "converted from percent to fractions of 1" in " ".join(view.out.split())
    compared = assay("compare", "results", "percent", "--baseline", "today", "policy=arc", "--json").json
    assert any("appears to be in percent" in note for note in compared["notes"])


def test_one_arm_in_percent_is_refused_at_the_import_and_by_the_gate(
    assay: Callable[..., Said], tmp_path: Path
) -> None:
    write(tmp_path / "arm.csv", both(0.45, 0.44, percent=("new",)))
    for said in (assay("import", "arm.csv"), gate(assay, "arm.csv")):
        assert said.code == 2
        for part in (
            "arc_easy acc",
            "new seed 0 (",
            "arm.csv row 6)",
            "today seed 0 (",
            "arm.csv row 2)",
            "column `unit`",
        ):
            assert part in said.err


def test_a_declared_unit_resolves_percentages_below_one(assay: Callable[..., Said], tmp_path: Path) -> None:
    """0.45% and 0.0048 differ by 0.03 points."""
    small = both(0.0045, 0.0048, percent=("new",), of=["arc_easy"])
    write(tmp_path / "small.csv", small)
    refused = gate(assay, "small.csv")
    assert refused.code == 2
    assert "percent and fractions appear to be mixed" in refused.err
    lines = small.splitlines()
    declared = [
        lines[0] + ",unit",
        *(f"{line},{'percent' if line.startswith('new') and 'arc' in line else ''}" for line in lines[1:]),
    ]
    write(tmp_path / "declared.csv", "\n".join(declared) + "\n")
    decided = gate(assay, "declared.csv", "--json")
    assert decided.code in {0, 3}
    assert decided.json["candidates"]["new"]["comparisons"][0]["effect"] == pytest.approx(0.0003, abs=0.001)
    write(tmp_path / "all.csv", both(0.0045, 0.0048, percent=("today", "new")))
    assert assay("import", "all.csv", "--unit", "percent").code == 0
    [arc, _] = gate(assay, "all", "--json").json["candidates"]["new"]["comparisons"]
    assert arc["baseline_mean"] == pytest.approx(0.007, abs=0.002)


def test_a_seed_that_one_arm_lacks_is_named_in_every_view(assay: Callable[..., Said], tmp_path: Path) -> None:
    rows = [line for line in both(0.45, 0.48).splitlines() if not line.startswith("new,3,")]
    write(tmp_path / "three.csv", "\n".join(rows) + "\n")
    machine = gate(assay, "three.csv", "--json")
    assert machine.json["verdict"] == "ACCEPT"
    [reason] = machine.json["missing"]["new"]
    assert (reason["code"], reason["figures"]["seeds"]) == ("scores_missing", [3])
    sentence = "new has no score of arc_easy acc, piqa acc for seed 3"
    planned = assay("plan", "results", "three.csv", "--baseline", "today", "policy=arc")
    compared = assay("compare", "results", "three.csv", "--baseline", "today", "policy=arc")
    for view in (gate(assay, "three.csv"), gate(assay, "three.csv", "--markdown"), planned, compared):
        assert sentence in " ".join(view.out.replace("\\", "").split())


def test_a_wandb_run_with_a_score_that_is_not_finite_is_inconclusive(
    assay: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    import wandb

    def summary(mix: str, seed: int) -> dict[str, object]:
        diverged = (mix, seed) == ("new", 1)
        arc = 0.45 + 0.03 * (mix == "new") + 0.001 * seed * (1 + (mix == "new"))
        return {"eval/arc_easy/acc": arc, "eval/piqa/acc": "NaN" if diverged else 0.7 + 0.001 * seed}

    runs = [
        SimpleNamespace(
            id=f"{mix}{seed}", name=f"{mix}-{seed}", config={"mix": mix, "seed": seed, "parameters": 1e6, "tokens": 1e9},
            summary_metrics=summary(mix, seed),
        )
        for mix in ("today", "new") for seed in range(4)
    ]  # fmt: skip
    monkeypatch.setattr(wandb, "Api", lambda **_: SimpleNamespace(runs=lambda *_, **__: runs))
    noted = assay("import", "wandb://team/mixes", "--json").json
    assert "piqa acc of new seed 1 (wandb://team/mixes) is nan" in noted["notes"][0]
    decided = gate(assay, "mixes", "--json")
    assert (decided.code, decided.json["verdict"]) == (3, "INCONCLUSIVE")
    [reason] = decided.json["missing"]["new"]
    assert (reason["code"], reason["figures"]["seeds"], reason["figures"]["values"]) == (
        "scores_not_finite",
        [1],
        ["nan"],
    )


def test_a_history_in_percent_is_converted_and_stated(assay: Callable[..., Said], tmp_path: Path) -> None:
    write(tmp_path / "conf/policy/target.yaml", TARGET)
    means = {mix: mean + 0.2 + 0.002 * (at * 5 % 7 - 3) for at, (mix, mean) in enumerate(HISTORY.items())}
    past = table(HISTORY) + table(means, scale="1000M", tokens="1e11")
    rows = [line.split(",") for line in past.splitlines()]
    percent = "".join(",".join([*row[:6], f"{100 * float(row[6]):.4f}", *row[7:]]) + "\n" for row in rows)
    write(tmp_path / "past.csv", f"{HEADER}\n{past}")
    write(tmp_path / "percent.csv", f"{HEADER}\n{percent}")
    arguments = [
        "gate",
        "results",
        "team.csv",
        "--baseline",
        "today",
        "--candidate",
        "better",
        "policy=target",
        "--json",
    ]
    expected, decided = (
        assay(*arguments, f"history={name}").json["candidates"]["better"] for name in ("past.csv", "percent.csv")
    )
    assert decided["verdict"] == expected["verdict"] == "ACCEPT"
    assert decided["target"]["effect"] == pytest.approx(expected["target"]["effect"], abs=1e-4)
    [stated] = [reason for reason in decided["reasons"] if reason["code"] == "unit_converted"]
    assert stated["subject"] == "history"


@pytest.mark.parametrize(
    "content", [b"a,b\x1b[31mred\x00,c\nx,1\n", bytes(range(256)) * 9, b"\x7fELF\x02\x01\x01\x00\n"]
)
def test_a_binary_file_is_no_csv_and_prints_no_control_character(assay: Callable[..., Said], content: bytes) -> None:
    Path("binary.csv").write_bytes(content)
    found = assay("import", "add", "binary.csv", "--name", "binary")
    assert (found.code, "is binary and no CSV table" in found.err) == (2, True)
    assert not any(ord(character) < 32 for character in found.err)


def test_control_characters_of_a_name_are_printed_as_escapes(assay: Callable[..., Said]) -> None:
    found = assay("gate", "results", "team.csv", "--baseline", "to\x1b[31mday", "policy=arc")
    assert (found.code, "\\x1b" in found.err, "\x1b" in found.err) == (2, True, False)

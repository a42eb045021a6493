"""`assay gate branch`: in a real git repository, what a branch changes is found, judged, and told as Markdown."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from assay.config.compose import compose
from assay.plan.workspace import Workspace
from tests.analysis.external.result_files import write
from tests.cli.invoke import Said, caller
from tests.helpers.finished import finish

CONF = {
    "conf/proxy/tiny.yaml": "{name: tiny, hidden_size: 16, intermediate_size: 32, layers: 1, heads: 2, kv_heads: 1, "
    "tie_embeddings: true, rope_theta: 10000, sequence_length: 64}",
    "conf/suite/bytes.yaml": "{name: bytes, tasks: [], batch_size: 8, validation_bytes: 2000}",
    "conf/tokenizer/small.yaml": "{name: small, vocabulary: 300, sources: [prose, code]}",
    "conf/policy/prose.yaml": "{name: prose, primary: [{task: validation/prose, metric: bits_per_byte, better: lower}], "
    "alpha: 0.05, min_seeds: 3}",
    "conf/mix/half.yaml": "{weights: {prose: 1, code: 1}}",
    "conf/mix/less_code.yaml": "{base: half, edits: [{scale: {code: 0.5}}]}",
    "conf/mix/more_code.yaml": "{base: half, edits: [{scale: {code: 2}}]}",
    "sweeps/tiny.yaml": """# @package _global_
defaults: [override /proxy: tiny, override /suite: bytes, override /tokenizer: small, override /policy: prose]
sweep: {name: tiny, baseline: half, candidates: [less_code, more_code], seeds: [0, 1, 2]}
budget: {tokens: 3072}
batch: {sequences: 4, micro: 4}
tracking: {mode: disabled}
""",
}
SOURCE = "files: [{name}.jsonl]\ndomain: {name}\nlanguage: en\nlicense: CC0-1.0\nclearance: {{state: {state}, by: the tests}}\n"


class Project:
    """A team's repository, on its branch `change`."""

    def __init__(self, root: Path, top: Path) -> None:
        self.root, self.top = root, top
        for name, text in CONF.items():
            write(root / name, text)
        for name in ("prose", "code", "extra"):
            write(root / f"{name}.jsonl", json.dumps({"text": f"{name} " * 50}) + "\n")
            self.source(name)
        write(root / ".gitignore", "store/\n*.jsonl\n")
        self.git("init", "-q", "-b", "main")
        self.commit("The recipe of today")
        self.git("checkout", "-q", "-b", "change")

    def source(self, name: str, state: str = "cleared") -> None:
        write(self.root / f"conf/source/{name}.yaml", SOURCE.format(name=name, state=state))

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.top), "-c", "user.name=T", "-c", "user.email=t@example.org", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)

    def change(self, files: Mapping[str, str]) -> None:
        """Commit files on the branch."""
        for name, text in files.items():
            write(self.root / name, text)
        self.commit("A change")

    def finish(self, bits: Mapping[str, float], *, seeds: range = range(3)) -> None:
        """Runs of mixes with so many bits per byte of prose on top."""
        space = Workspace(compose(["sweep=tiny"], root=self.root))
        for mix, more in bits.items():
            for seed in seeds:
                finish(space, mix, seed, bits={"prose": more})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, tmp_path)


@pytest.fixture
def assay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    return caller(monkeypatch, capsys)


LESS = {"conf/mix/less_code.yaml": "{base: half, edits: [{scale: {code: 0.25}}]}"}


def test_a_branch_that_changes_no_recipe_has_nothing_to_judge(project: Project, assay: Callable[..., Said]) -> None:
    for files in (
        {},
        {"README.md": "words"},
        {"conf/mix/less_code.yaml": CONF["conf/mix/less_code.yaml"] + "  # why\n"},
    ):
        if files:
            project.change(files)
        found = assay("gate", "branch", "main")
        assert found.code == 0
        assert "No mix, source or sweep has changed since `main`" in found.out
    machine = assay("gate", "branch", "main", "--json")
    assert (machine.code, machine.json["verdict"], machine.json["sweeps"]) == (0, None, [])


@pytest.mark.parametrize(("more", "decision", "code"), [(-0.1, "ACCEPT", 0), (0.1, "REJECT", 1)])
def test_a_changed_mix_whose_runs_are_there_is_judged(
    project: Project, assay: Callable[..., Said], more: float, decision: str, code: int
) -> None:
    project.change(LESS)
    project.finish({"half": 0.0, "less_code": more})
    found = assay("gate", "branch", "main")
    assert found.code == code
    assert f"## {decision}: 1 mix changed since `main`" in found.out
    assert "| `less_code` | changed | `code` 33.3% \N{RIGHTWARDS ARROW} 20%" in found.out
    assert "| `half` | 0, 1, 2 | \N{EN DASH} |" in found.out
    assert f"### {decision}: `less_code`" in found.out
    assert "more_code" not in found.out, "the branch does not change it, and its runs are nobody's business here"
    machine = assay("gate", "branch", "main", "--json")
    assert machine.code == code
    assert machine.json["sweeps"][0]["candidates"] == ["less_code"]
    assert list(machine.json["sweeps"][0]["verdict"]["candidates"]) == ["less_code"]


def test_runs_of_the_mix_as_it_was_do_not_count_for_the_mix_as_it_is(
    project: Project, assay: Callable[..., Said]
) -> None:
    project.finish({"half": 0.0, "less_code": -0.1})
    project.change(LESS)
    found = assay("gate", "branch", "main")
    assert found.code == 3
    assert "| `less_code` | \N{EN DASH} | 0 (todo: never run); 1 (todo: never run); 2 (todo: never run) |" in found.out
    assert "`assay submit sweep=tiny`" in found.out
    assert assay("gate", "branch", "main", "--allow-inconclusive").code == 0


@pytest.mark.parametrize(("more", "decision", "code"), [(-0.1, "ACCEPT", 3), (0.1, "REJECT", 1)])
def test_a_baseline_that_is_edited_in_place_is_judged_against_what_it_was(
    project: Project, assay: Callable[..., Said], more: float, decision: str, code: int
) -> None:
    """Its own runs are those of the weights then and now; what the candidates lack is said beside."""
    project.finish({"half": 0.0, "less_code": 0.0, "more_code": 0.0})
    project.change({"conf/mix/half.yaml": "{weights: {prose: 3, code: 1}}"})
    for seed in range(3):
        project.finish({"half": more + 0.002 * seed}, seeds=range(seed, seed + 1))
    found = assay("gate", "branch", "main")
    assert found.code == code
    assert f"## {decision}: `half` against its previous version, in sweep `tiny`" in found.out
    assert "| `half_before` | 0, 1, 2 | \N{EN DASH} |" in found.out
    sweep, edit = assay("gate", "branch", "main", "--json").json["sweeps"]
    assert (sweep["in_place"], sweep["verdict"]["verdict"]) == (None, "INCONCLUSIVE")
    assert (edit["in_place"], edit["verdict"]["verdict"]) == ("half", decision)


def test_a_worse_mix_fails_though_inconclusive_is_allowed(project: Project, assay: Callable[..., Said]) -> None:
    project.change(LESS)
    project.finish({"half": 0.0, "less_code": 0.1})
    assert assay("gate", "branch", "main", "--allow-inconclusive").code == 1


def test_a_baseline_that_changes_puts_every_candidate_before_the_gate(
    project: Project, assay: Callable[..., Said]
) -> None:
    project.change({"conf/mix/half.yaml": "{weights: {prose: 2, code: 1}}"})
    found = assay("gate", "branch", "main", "--json").json
    assert [change["mix"] for change in found["mixes"]] == ["half", "less_code", "more_code"], "edits follow their base"
    assert found["sweeps"][0]["candidates"] == ["less_code", "more_code"]


def test_a_source_that_loses_its_clearance_blocks_what_uses_it(project: Project, assay: Callable[..., Said]) -> None:
    project.source("code", "blocked")
    project.commit("The board decided")
    found = assay("gate", "branch", "main")
    assert found.code == 4
    assert "## BLOCKED: 3 mixes changed" in found.out
    assert "- Source `code`: clearance: cleared is now blocked" in found.out
    assert "the declaration of source `code` changed" in found.out


def test_a_mix_that_no_sweep_asks_about_is_inconclusive_and_named(project: Project, assay: Callable[..., Said]) -> None:
    project.change({"conf/mix/new.yaml": "{base: half, edits: [{drop: code}]}"})
    found = assay("gate", "branch", "main")
    assert found.code == 3
    assert "no sweep contains `new`" in found.out
    project.change({"sweeps/tiny.yaml": CONF["sweeps/tiny.yaml"].replace("[less_code, more_code]", "[less_code, new]")})
    asked = assay("gate", "branch", "main", "--json").json
    assert (asked["unasked"], asked["sweeps"][0]["candidates"]) == ([], ["new"])


def test_a_mix_that_is_gone_is_listed_and_not_judged(project: Project, assay: Callable[..., Said]) -> None:
    project.change({"conf/mix/old.yaml": "{base: half}"})
    project.git("branch", "-f", "main", "HEAD")
    (project.root / "conf/mix/old.yaml").unlink()
    project.commit("Nobody uses it")
    found = assay("gate", "branch", "main")
    assert found.code == 0
    assert "| `old` | removed |" in found.out


def test_a_policy_that_changes_with_the_results_there_is_pointed_at(
    project: Project, assay: Callable[..., Said]
) -> None:
    project.finish({"half": 0.0, "less_code": -0.1, "more_code": 0.1})
    project.change({"conf/policy/prose.yaml": CONF["conf/policy/prose.yaml"].replace("0.05", "0.2")})
    found = assay("gate", "branch", "main")
    assert "changed: policy" in found.out
    assert "**The policy changed:**" in found.out
    assert found.code == 1


def test_what_main_did_since_is_not_the_branchs(project: Project, assay: Callable[..., Said]) -> None:
    project.git("checkout", "-q", "main")
    project.change(LESS)
    project.git("checkout", "-q", "change")
    project.change({"conf/mix/more_code.yaml": "{base: half, edits: [{scale: {code: 3}}]}"})
    found = assay("gate", "branch", "main", "--json").json
    assert [change["mix"] for change in found["mixes"]] == ["more_code"]


def test_what_is_not_committed_counts_and_is_named(project: Project, assay: Callable[..., Said]) -> None:
    write(project.root / "conf/mix/new.yaml", "{base: half, edits: [{drop: code}]}")
    write(project.root / "conf/mix/less_code.yaml", LESS["conf/mix/less_code.yaml"])
    found = assay("gate", "branch", "main")
    assert (
        "the evaluation includes uncommitted files of the work tree: conf/mix/less_code.yaml, conf/mix/new.yaml"
        in found.err
    )
    assert "**Not committed:** conf/mix/less_code.yaml, conf/mix/new.yaml" in found.out
    assert "| `new` | added |" in found.out


def test_one_sweep_may_be_looked_at_alone(project: Project, assay: Callable[..., Said]) -> None:
    project.change({**LESS, "conf/mix/new.yaml": "{base: half, edits: [{drop: code}]}",
                    "sweeps/other.yaml": CONF["sweeps/tiny.yaml"].replace("name: tiny", "name: other")})  # fmt: skip
    both = assay("gate", "branch", "main", "--json").json
    assert [one["sweep"] for one in both["sweeps"]] == ["other", "tiny"]
    alone = assay("gate", "branch", "main", "sweep=tiny", "--json").json
    assert ([one["sweep"] for one in alone["sweeps"]], alone["unasked"]) == (["tiny"], [])


def test_a_project_may_be_a_folder_of_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, assay: Callable[..., Said]
) -> None:
    project = Project(tmp_path / "data/recipe", tmp_path)
    monkeypatch.chdir(project.root)
    project.change(LESS)
    found = assay("gate", "branch", "main", "--json").json
    assert [change["mix"] for change in found["mixes"]] == ["less_code"]
    assert found["notes"] == []


def test_a_sweep_that_cannot_be_judged_is_an_error_beside_the_others(
    project: Project, assay: Callable[..., Said]
) -> None:
    project.change({"sweeps/tiny.yaml": CONF["sweeps/tiny.yaml"].replace("more_code]", "more_cod]")})
    found = assay("gate", "branch", "main")
    assert found.code == 2
    assert "Did you mean 'more_code'?" in found.out + found.err


def test_a_base_that_could_not_be_composed_is_said_and_everything_counts_as_new(
    project: Project, assay: Callable[..., Said]
) -> None:
    project.change({"conf/mix/half.yaml": "{wieghts: {prose: 1}}"})
    project.git("branch", "-f", "main", "HEAD")
    project.change({"conf/mix/half.yaml": CONF["conf/mix/half.yaml"]})
    found = assay("gate", "branch", "main", "--json").json
    assert "the configuration is invalid at the base revision" in found["notes"][0]
    assert {change["kind"] for change in found["mixes"]} == {"added"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["branch", "mian"], "no branch, tag or commit of this repository has this name. Did you mean 'main'?"),
        (["branch", "origin/main"], "git fetch origin main"),
        (["branch", "--", "--help"], "no branch, tag or commit of this repository has this name"),
        (["branch", "main", "sweep=tinny"], "Did you mean 'tiny'?"),
        (["branch", "main", "--candidate", "less_code"], "No such option: --candidate"),
        (["--allow-inconclusive", "sweep=tiny"], "No such option: --allow-inconclusive"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(
    project: Project, assay: Callable[..., Said], arguments: list[str], said: str
) -> None:
    project.change(LESS)
    found = assay("gate", *arguments)
    assert found.code == 2
    assert said in found.err
    assert "Traceback" not in found.err


def test_branches_without_a_commit_in_common_are_told_of_shallow_clones(
    project: Project, assay: Callable[..., Said]
) -> None:
    project.git("checkout", "-q", "--orphan", "alone")
    project.commit("From nothing")
    found = assay("gate", "branch", "main")
    assert found.code == 2
    assert "have no commit in common" in found.err
    assert "fetch-depth: 0" in found.err


def test_outside_of_a_repository_and_before_the_first_commit_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, assay: Callable[..., Said]
) -> None:
    write(tmp_path / "conf/mix/half.yaml", CONF["conf/mix/half.yaml"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    outside = assay("gate", "branch", "main")
    assert (outside.code, "is in no git work tree" in outside.err) == (2, True)
    subprocess.run(["git", "init", "-q"], check=True)
    empty = assay("gate", "branch", "main")
    assert (empty.code, "no branch, tag or commit of this repository has this name" in empty.err) == (2, True)


def test_without_git_it_says_so(project: Project, assay: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(project.root))
    found = assay("gate", "branch", "main")
    assert (found.code, "git is not installed" in found.err) == (2, True)


def submit_all(project: Project, assay: Callable[..., Said], *overrides: str) -> None:
    """Finish every run of the sweep, of which `less_code` is better, and submit it."""
    space = Workspace(compose(["sweep=tiny", *overrides], root=project.root))
    for mix, more in {"half": 0.0, "less_code": -0.1, "more_code": 0.1}.items():
        for seed in range(3):
            finish(space, mix, seed, bits={"prose": more})
    assert assay("submit", "sweep=tiny", *overrides).code == 0


@pytest.mark.parametrize("overrides", [(), ("budget.tokens=6144",)])
@pytest.mark.parametrize("removed", [False, True])
def test_an_accepted_mix_that_becomes_the_baseline_keeps_its_verdict(
    project: Project, assay: Callable[..., Said], overrides: tuple[str, ...], removed: bool
) -> None:
    submit_all(project, assay, *overrides)
    if removed:
        (project.root / "conf/mix/less_code.yaml").unlink()
    project.change({"conf/mix/half.yaml": "{weights: {prose: 2, code: 1}}"})
    said = assay("gate", "branch", "main")
    assert said.code == 0
    assert "The edited baseline equals the submitted candidate `less_code`." in said.out
    (sweep,) = assay("gate", "branch", "main", "--json").json["sweeps"]
    assert (sweep["merged"], list(sweep["verdict"]["candidates"])) == ("less_code", ["less_code"])


def test_a_rejected_mix_that_becomes_the_baseline_fails(project: Project, assay: Callable[..., Said]) -> None:
    submit_all(project, assay)
    project.change({"conf/mix/half.yaml": "{weights: {prose: 1, code: 2}}"})
    said = assay("gate", "branch", "main", "--json")
    assert (said.code, said.json["sweeps"][0]["merged"]) == (1, "more_code")


def test_an_edited_candidate_of_a_submitted_sweep_needs_runs_of_its_own(
    project: Project, assay: Callable[..., Said]
) -> None:
    """The overrides of the submission count: only the edited mix lacks runs."""
    submit_all(project, assay, "budget.tokens=6144")
    project.change(LESS)
    said = assay("gate", "branch", "main")
    assert said.code == 3
    assert "| `half` | 0, 1, 2 | \N{EN DASH} |" in said.out
    assert "| `less_code` | \N{EN DASH} | 0 (todo: never run);" in said.out


def test_a_removed_candidate_of_a_submitted_sweep_needs_no_verdict(
    project: Project, assay: Callable[..., Said]
) -> None:
    submit_all(project, assay)
    (project.root / "conf/mix/more_code.yaml").unlink()
    project.commit("It was rejected")
    said = assay("gate", "branch", "main")
    assert (said.code, "| `more_code` | removed |" in said.out) == (0, True)

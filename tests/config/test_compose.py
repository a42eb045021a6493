"""Configuration: a team's files come before the packaged ones, and a typo is named with the nearest valid name."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from assay.config.compose import compose, names
from assay.config.search_path import packaged, project_root
from assay.core.errors import AssayError
from assay.plan.workspace import Workspace


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """Make a project with one source, one mix and one sweep."""
    files = {
        "conf/source/ours.yaml": "{files: [ours/*.jsonl], domain: web, language: en, license: MIT}",
        "conf/source/books.yaml": "{files: [books/*.txt], domain: books, language: en, license: null}",
        "conf/mix/today.yaml": "{weights: {ours: 1, books: 1}}",
        "conf/mix/more.yaml": "{base: today, edits: [{scale: {ours: 2}}]}",
        "sweeps/first.yaml": "# @package _global_\n"
        "sweep: {name: first, baseline: today, candidates: [more], seeds: [0]}\nbudget: {tokens: 123_000}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_packaged_and_project_files_are_both_available(team: Path) -> None:
    study = compose(["sweep=first", "proxy=1m"], root=team)
    assert study.require_sweep().mixes == ("today", "more")
    assert set(study.sources) == {"ours", "books"}, "by domain or tag a project means its own text"
    assert study.budget.tokens == 123_000
    assert study.proxy.name == "1m"


def test_a_project_file_replaces_the_packaged_file_of_its_name(team: Path) -> None:
    (team / "conf/source/books.yaml").write_text("{files: [b], domain: books, language: fr, license: null}")
    assert compose(["sweep=first"], root=team).sources["books"].language == "fr"


def test_the_packaged_sweep_composes_in_a_project_with_own_sources(team: Path) -> None:
    assert {"code_cc", "code_github", "ours"} <= set(compose(["sweep=code_replace"], root=team).sources)


def test_a_choice_is_named_after_its_file_unless_it_has_a_name(team: Path) -> None:
    (team / "conf/policy").mkdir()
    text = "{primary: [{task: piqa, metric: acc, better: higher}], guardrails: [], alpha: 0.05, min_seeds: 3}"
    (team / "conf/policy/ours.yaml").write_text(text)
    assert compose(["sweep=first", "policy=ours"], root=team).policy.name == "ours"
    (team / "conf/policy/ours.yaml").write_text(text.replace("{primary", "{name: theirs, primary"))
    assert compose(["sweep=first", "policy=ours"], root=team).policy.name == "theirs"


def test_a_sweep_file_without_its_first_line_is_refused(team: Path) -> None:
    (team / "sweeps/first.yaml").write_text("foo: 1\n")
    with pytest.raises(AssayError, match=r"sweeps/first\.yaml is invalid; expected `# @package"):
        compose(["sweep=first"], root=team)


def test_an_override_reaches_any_field_and_precedes_the_sweep(team: Path) -> None:
    overrides = ["sweep=first", "budget.tokens=1e6", "source.ours.clearance.state=blocked", "sweep.seeds=[3,4]"]
    with pytest.raises(AssayError, match="clearance"):
        compose(overrides, root=team)  # the project's file declares no clearance to override
    study = compose([*overrides[:2], "+source.ours.clearance={state: blocked}", overrides[3]], root=team)
    assert study.budget.tokens == 1_000_000
    assert study.sources["ours"].clearance.state == "blocked"
    assert study.require_sweep().seeds == (3, 4)


def test_a_date_in_yaml_is_a_date() -> None:
    assert compose(["sweep=code_replace"]).sources["books"].clearance.date == datetime.date(2026, 11, 23)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sweep=frist", "no sweep is called 'frist'. Did you mean 'first'?"),
        ("proxy=2om", "no proxy is called '2om'. Did you mean '20m'?"),
        ("budget.tokns=1", "no key is called 'budget.tokns'. Did you mean 'tokens'?"),
        ("optm.peak_lr=1", "no key is called 'optm'. Did you mean 'optim'?"),
        ("budget.tokens=many", "budget: tokens"),
        ("budget.tokens=-5", "`tokens` -5 is invalid"),
        ("budget.tokens=.nan", "budget: tokens"),
        ("suite.batch_size=0", "`batch_size` 0"),
        ("nonsense", "override 'nonsense' is invalid"),
        ("mix.more.edits=[{dorp: books}]", "Did you mean 'drop'?"),
        ("+source.ours.licens=MIT", "no field is called 'licens'. Did you mean 'license'?"),
        ("budget.tokens=[1", "override 'budget.tokens=[1' is invalid"),
    ],
)
def test_an_invalid_override_is_refused_with_the_nearest_valid_name(team: Path, override: str, message: str) -> None:
    overrides = [override] if override.startswith("sweep=") else ["sweep=first", override]
    with pytest.raises(AssayError) as error:
        compose(overrides, root=team)
    assert message in str(error.value)


def test_a_file_that_is_not_yaml_is_refused(team: Path) -> None:
    (team / "conf/mix/more.yaml").write_text("weights: {a: [1\n")
    with pytest.raises(AssayError, match="not YAML"):
        compose(["sweep=first"], root=team)


def test_a_choice_that_is_based_on_another_does_not_inherit_its_name(team: Path) -> None:
    (team / "conf/policy").mkdir()
    (team / "conf/policy/ours.yaml").write_text("defaults: [default]\nalpha: 0.01\n")
    policy = compose(["policy=ours"], root=team).policy
    assert (policy.name, policy.alpha) == ("ours", 0.01)


@pytest.mark.parametrize("below", ["", "/inner"])
def test_a_store_that_is_a_file_is_refused_with_the_fix(team: Path, below: str) -> None:
    (team / "file").write_text("")
    with pytest.raises(AssayError, match=r"paths.store: .* is a file.\nSet `paths.store`"):
        Workspace(compose([f"paths.store=file{below}"], root=team))


@pytest.mark.parametrize(
    ("path", "text", "parts"),
    [
        (
            "conf/source/new.yaml",
            "{files: [new.txt], language: en, license: MIT}",
            ["source 'new': 'domain' is missing.", "Add the missing key.", "declared in conf/source/new.yaml"],
        ),
        ("conf/source/a::b.yaml", "{files: [a]}", ["conf/source/a::b.yaml", "'a::b' is invalid", "Rename the file."]),
        ("conf/mix/new.yaml", "{weights: {ours: many}}", ["mix 'new'", "declared in conf/mix/new.yaml"]),
        (
            "conf/policy/default.yaml",
            "{primary: [], guardrails: [], min_seeds: 2}",
            ["policy: 'alpha' is missing", "Add the missing key.", "policy 'default' is declared in conf/policy/default.yaml"],
        ),
        ("conf/mix/new.yaml", "{base: today, edits: []}", ["conf/mix/new.yaml: `edits` is empty"]),
        ("conf/mix/new.yaml", "{weights: {ours: 1, books: 1.0e-320}}", ["conf/mix/new.yaml: weight", "at least 1e-12"]),
        ("conf/config.yaml", "{budget: {tokens: null}}", ["budget", "declared in conf/config.yaml"]),
    ],
)  # fmt: skip
def test_an_incomplete_file_is_named_with_the_fix(team: Path, path: str, text: str, parts: list[str]) -> None:
    (team / path).parent.mkdir(exist_ok=True)
    (team / path).write_text(text)
    with pytest.raises(AssayError) as error:
        compose([], root=team)
    for part in parts:
        assert part.removesuffix(".") in str(error.value)


@pytest.mark.parametrize("folder", ["with space", "qu'ote", "ünïcode", "a,b=c"])
def test_a_project_folder_may_have_any_name(team: Path, folder: str) -> None:
    moved = team.rename(team.parent / folder)
    assert compose(["sweep=first"], root=moved).paths.root == str(moved)


def test_the_project_is_found_from_a_folder_inside_it(team: Path) -> None:
    assert project_root(team / "conf" / "mix") == team


@pytest.mark.parametrize("group", ["proxy", "optim", "tokenizer", "suite", "policy", "cluster"])
def test_every_packaged_preset_is_valid_and_named_after_its_file(group: str, tmp_path: Path) -> None:
    for name in names(group, [packaged()]):
        study = compose([f"{group}={name}"], root=tmp_path)
        assert getattr(study, group).name == name

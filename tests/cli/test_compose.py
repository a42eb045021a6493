"""Configuration: a team's files come before the packaged ones, and a typo is named with the nearest valid name."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from assay.cli.compose import compose, names
from assay.errors import AssayError
from assay.roots import packaged, project_root


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """A team's folder with one source, one mix and one sweep of its own."""
    files = {
        "conf/source/ours.yaml": "{files: [ours/*.jsonl], domain: web, language: en, licence: MIT}",
        "conf/source/books.yaml": "{files: [books/*.txt], domain: books, language: en, licence: null}",
        "conf/mix/today.yaml": "{weights: {ours: 1, books: 1}}",
        "conf/mix/more.yaml": "{base: today, edits: [{scale: {ours: 2}}]}",
        "sweeps/first.yaml": "# @package _global_\n"
        "sweep: {name: first, baseline: today, candidates: [more], seeds: [0]}\nbudget: {tokens: 123_000}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_packaged_presets_and_the_teams_own_are_found_together(team: Path) -> None:
    study = compose(["sweep=first", "proxy=1m"], root=team)
    assert study.require_sweep().mixes == ("today", "more")
    assert set(study.sources) == {"ours", "books"}, "by domain or tag a project means its own text"
    assert study.budget.tokens == 123_000
    assert study.proxy.name == "1m"


def test_a_teams_file_takes_the_place_of_the_packaged_one_of_its_name(team: Path) -> None:
    (team / "conf/source/books.yaml").write_text("{files: [b], domain: books, language: fr, licence: null}")
    assert compose(["sweep=first"], root=team).sources["books"].language == "fr"


def test_the_packaged_sweep_runs_in_a_project_that_has_sources_of_its_own(team: Path) -> None:
    assert {"code_cc", "code_github", "ours"} <= set(compose(["sweep=code_replace"], root=team).sources)


def test_what_is_chosen_has_its_files_name_unless_it_gives_itself_another(team: Path) -> None:
    (team / "conf/policy").mkdir()
    text = "{primary: [{task: piqa, metric: acc, better: higher}], guardrails: [], alpha: 0.05, min_seeds: 3}"
    (team / "conf/policy/ours.yaml").write_text(text)
    assert compose(["sweep=first", "policy=ours"], root=team).policy.name == "ours"
    (team / "conf/policy/ours.yaml").write_text(text.replace("{primary", "{name: theirs, primary"))
    assert compose(["sweep=first", "policy=ours"], root=team).policy.name == "theirs"


def test_a_sweep_file_without_its_first_line_is_named(team: Path) -> None:
    (team / "sweeps/first.yaml").write_text("foo: 1\n")
    with pytest.raises(AssayError, match=r"sweeps/first\.yaml does not begin with"):
        compose(["sweep=first"], root=team)


def test_an_override_reaches_any_field_and_wins_over_the_sweep(team: Path) -> None:
    overrides = ["sweep=first", "budget.tokens=1e6", "source.ours.clearance.state=blocked", "sweep.seeds=[3,4]"]
    with pytest.raises(AssayError, match="clearance"):
        compose(overrides, root=team)  # the team's file has no clearance to override yet
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
        ("budget.tokens=-5", "tokens is -5"),
        ("budget.tokens=.nan", "budget: tokens"),
        ("suite.batch_size=0", "batch_size is at least 1"),
        ("nonsense", "'nonsense' is not an override"),
        ("mix.more.edits=[{dorp: books}]", "Did you mean 'drop'?"),
        ("+source.ours.licens=MIT", "no field is called 'licens'. Did you mean 'licence'?"),
        ("budget.tokens=[1", "configuration: "),
    ],
)
def test_a_mistake_is_named_with_the_nearest_valid_name(team: Path, override: str, message: str) -> None:
    overrides = [override] if override.startswith("sweep=") else ["sweep=first", override]
    with pytest.raises(AssayError) as error:
        compose(overrides, root=team)
    assert message in str(error.value)


def test_a_file_that_is_not_yaml_is_named(team: Path) -> None:
    (team / "conf/mix/more.yaml").write_text("weights: {a: [1\n")
    with pytest.raises(AssayError, match="not YAML"):
        compose(["sweep=first"], root=team)


@pytest.mark.parametrize("folder", ["with space", "qu'ote", "ünïcode", "a,b=c"])
def test_a_project_may_lie_in_a_folder_of_any_name(team: Path, folder: str) -> None:
    moved = team.rename(team.parent / folder)
    assert compose(["sweep=first"], root=moved).paths.root == str(moved)


def test_the_project_is_found_from_a_folder_inside_it(team: Path) -> None:
    assert project_root(team / "conf" / "mix") == team


@pytest.mark.parametrize("group", ["proxy", "optim", "tokenizer", "suite", "policy", "cluster"])
def test_every_packaged_preset_is_valid_and_bears_the_name_of_its_file(group: str, tmp_path: Path) -> None:
    for name in names(group, [packaged()]):
        study = compose([f"{group}={name}"], root=tmp_path)
        assert getattr(study, group).name == name

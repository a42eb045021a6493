"""Names of files: what `check_name` accepts works everywhere, and what cannot work is refused with the file's name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.config.compose import compose, names
from assay.config.search_path import packaged
from assay.config.yaml_file import read_yaml
from assay.core.errors import ConfigError
from tests.cli.test_commands import CONF

NAMES = [
    "fineweb-2.1",
    "2013",
    "007",
    "true",
    "null",
    "1e5",
    "v1.2",
    "no",
    "off",
    "0x1F",
    "1_000",
    "2026-01-01",
    "3.50",
    "inf",
]
SOURCE = "{files: [a.jsonl], domain: web, language: no, license: CC0-1.0, clearance: {state: cleared, by: us}}"


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """Make a project with the sources `prose` and `code`, the mixes `half` and `less_code`, and the sweep `tiny`."""
    for name, text in CONF.items():
        put(tmp_path, name, text)
    for name in ("prose", "code"):
        put(tmp_path, f"conf/source/{name}.yaml", SOURCE)
    return tmp_path


def put(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "ending"), [*((name, "yaml") for name in NAMES), ("007", "yml"), ("v1.2", "yml")])
def test_every_file_name_works_in_every_place(team: Path, name: str, ending: str) -> None:
    """The name stands in each kind of file without quotes, except that a value `null` is no value."""
    quoted = f'"{name}"' if name == "null" else name
    put(team, f"conf/source/{name}.{ending}", SOURCE)
    put(team, f"conf/mix/{name}.{ending}", f"{{weights: {{{name}: 0.25, prose: 0.75}}}}")
    put(team, "conf/mix/replaced.yaml", f"{{base: {quoted}, edits: [replace: {{source: {quoted}, by: code}}]}}")
    put(team, "conf/mix/dropped.yaml", f"{{base: {quoted}, edits: [drop: {quoted}, set: {{{name}: 0.5}}]}}")
    (team / "conf/policy/prose.yaml").rename(team / f"conf/policy/{name}.{ending}")
    (team / "conf/suite/bytes.yaml").rename(team / f"conf/suite/{name}.{ending}")
    sweep = (
        CONF["sweeps/tiny.yaml"]
        .replace("name: tiny", f"name: {quoted}")
        .replace("baseline: half", f"baseline: {quoted}")
    )
    sweep = sweep.replace("/suite: bytes", f"/suite: {quoted}").replace("/policy: prose", f"/policy: {quoted}")
    put(team, f"sweeps/{name}.{ending}", sweep.replace("[less_code]", "[replaced, dropped]"))
    study = compose([f"sweep={name}"], root=team)
    assert study.require_sweep().name == name
    assert study.require_sweep().mixes == (name, "replaced", "dropped")
    assert study.mixes[name].weights == {name: 0.25, "prose": 0.75}
    assert study.sources[name].name == name
    assert study.sources[name].language == "no", "YAML reads `no` as false"
    study = compose([f"policy='{name}'", f"suite={name}"], root=team)
    assert study.policy.name == "prose", "the file has a name of its own"
    assert name in names("policy", [team])


@pytest.mark.parametrize("name", NAMES)
def test_overrides_reach_entries_of_every_name(team: Path, name: str) -> None:
    put(team, f"conf/source/{name}.yaml", SOURCE)
    put(team, f"conf/mix/{name}.yaml", f"{{weights: {{{name}: 0.25, prose: 0.75}}}}")
    overrides = [
        f"source.{name}.clearance.state=blocked",
        f"+source.{name}.origin='a dump'",
        f"mix.{name}.weights.{name}=0.5",
        f"+mix.{name}.weights.code=0.1",
        f"++mix.{name}.max_epochs=2",
        f"mix.half.weights={{{name}: 3, prose: 1}}",
        "sweep=tiny",
        f"sweep.baseline={name}",
        f"sweep.candidates=[half,{name!r}]" if name == "null" else "sweep.candidates=[half]",
    ]
    if name == "null":
        overrides[-2:] = ["sweep.baseline='null'"]
    study = compose(overrides, root=team)
    source, mix = study.sources[name], study.mixes[name]
    assert (source.clearance.state, source.origin) == ("blocked", "a dump")
    assert (mix.weights, mix.max_epochs) == ({name: 0.5, "prose": 0.75, "code": 0.1}, 2)
    assert study.mixes["half"].weights == {name: 3, "prose": 1}
    assert study.require_sweep().baseline == name
    assert name not in compose([f"~mix.{name}"], root=team).mixes


def test_a_name_with_dots_does_not_hide_one_that_is_its_beginning(team: Path) -> None:
    put(team, "conf/source/prose.v2.yaml", SOURCE)
    study = compose(["source.prose.v2.domain=books", "source.prose.domain=film"], root=team)
    assert (study.sources["prose.v2"].domain, study.sources["prose"].domain) == ("books", "film")


@pytest.mark.parametrize("name", ["my web", "a,b", "größe", "-x", "_x", "a=b", "${x}", "a:b", "#x"])
def test_a_file_whose_name_cannot_work_is_refused_with_its_name(team: Path, name: str) -> None:
    for group in ("source", "mix"):
        path = put(team, f"conf/{group}/{name}.yaml", SOURCE)
        with pytest.raises(ConfigError) as error:
            compose(["sweep=tiny"], root=team)
        assert str(path) in error.value.what
        assert error.value.fix == "Rename the file."
        path.unlink()
    put(team, f"conf/policy/{name}.yaml", CONF["conf/policy/prose.yaml"])
    assert compose(["sweep=tiny"], root=team).policy.name == "prose", "nothing selects this file"
    with pytest.raises(ConfigError):
        compose([f"policy={name}"], root=team)


@pytest.mark.parametrize(
    "name", [".#prose.yaml", "._prose.yaml", ".hidden.yml", "prose.yaml~", "prose.yaml.swp", "#prose.yaml#"]
)
def test_hidden_and_temporary_files_of_editors_are_skipped(team: Path, name: str) -> None:
    put(team, f"conf/source/{name}", "\0 no YAML: [")
    assert set(compose(["sweep=tiny"], root=team).sources) == {"prose", "code"}


def test_two_files_of_one_name_are_refused(team: Path) -> None:
    put(team, "conf/mix/half.yml", "{weights: {prose: 1}}")
    with pytest.raises(ConfigError, match=r"half\.yaml and half\.yml have the same name"):
        compose(["sweep=tiny"], root=team)


def test_a_file_may_be_based_on_another_as_in_hydra(team: Path) -> None:
    put(team, "conf/source/prose_2024.yaml", "{defaults: [prose, _self_], snapshot: 2024-01-01}")
    source = compose(["sweep=tiny", "source.prose_2024.domain=news"], root=team).sources["prose_2024"]
    assert (source.files, source.domain, str(source.snapshot)) == (("a.jsonl",), "news", "2024-01-01")
    put(team, "conf/source/prose.2024.yaml", "{defaults: [prose, _self_]}")
    with pytest.raises(ConfigError, match=r"prose\.2024\.yaml: the file name contains a dot"):
        compose([], root=team)


# --- conf/config.yaml


@pytest.mark.parametrize("ending", ["yaml", "yml"])
def test_a_project_config_is_merged_over_the_packaged_one(team: Path, ending: str) -> None:
    put(team, f"conf/config.{ending}", "taint: {severity: medium}\nbudget: {tokens: 777_000}\nhistory: past.csv\n")
    study = compose([], root=team)
    assert (study.taint.severity, study.taint.fraction) == ("medium", 0.0)
    assert (study.budget.tokens, study.history) == (777_000, "past.csv")
    assert study.training == compose([], root=packaged()).training
    assert compose(["sweep=tiny"], root=team).budget.tokens == 3072, "a sweep's file precedes the defaults"
    assert compose(["budget.tokens=5e5"], root=team).budget.tokens == 500_000


def test_a_project_config_may_choose_other_defaults(team: Path) -> None:
    put(team, "conf/config.yaml", "defaults: [proxy: 1m, override /policy: prose, _self_]\nproxy: {layers: 2}\n")
    study = compose([], root=team)
    assert (study.proxy.name, study.proxy.layers, study.policy.name, study.suite.name) == ("1m", 2, "prose", "demo")
    assert compose(["sweep=tiny"], root=team).proxy.name == "tiny"
    assert compose(["proxy=20m"], root=team).proxy.name == "20m"


def test_a_copy_of_the_packaged_config_still_works(team: Path) -> None:
    put(team, "conf/config.yaml", (packaged() / "conf/config.yaml").read_text())
    assert compose(["sweep=tiny"], root=team).require_sweep().name == "tiny"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("taints: {}", "config.yaml: no section is called 'taints'. Did you mean 'taint'?"),
        ("taint: {severty: low}", "taint: no field is called 'severty'"),
        ("taint: low", "taint: a str is invalid; expected a mapping"),
        ("taint: null", "the section 'taint' is missing"),
        ("defaults: {proxy: 1m}", "config.yaml: `defaults` is a dict; expected a list"),
        ("defaults: [proxi: 1m]", "the default `proxi: 1m` is invalid"),
        ("defaults: [proxy]", "the default 'proxy' is invalid"),
        ("defaults: [proxy: 2om]", "config.yaml: no proxy is called '2om'. Did you mean '20m'?"),
        ("- a", "config.yaml has no keys: a list is invalid"),
    ],
)
def test_an_invalid_project_config_is_refused(team: Path, text: str, message: str) -> None:
    put(team, "conf/config.yaml", text)
    with pytest.raises(ConfigError) as error:
        compose(["sweep=tiny"], root=team)
    assert message in str(error.value)


# --- weights


def test_weights_on_the_command_line_replace_the_weights_of_the_file(team: Path) -> None:
    put(team, "conf/mix/half.yaml", "{weights: {prose: 0.5, code: 0.5}, max_epochs: 4}")
    study = compose(["sweep=tiny", "mix.half.weights={code: 1}"], root=team)
    assert study.mixes["half"].weights == {"code": 1}
    [entry] = study.overridden
    assert (entry.catalog, entry.name) == ("mix", "half")
    assert entry.files == {"weights": "the command line", "max_epochs": "conf/mix/half.yaml"}


@pytest.mark.parametrize(
    "override", ["mix.half={weights: {code: 1}}", "mix={half: {weights: {code: 1}}}", "+mix.half.weights={code: 1}"]
)
def test_weights_are_replaced_at_any_depth_of_an_override(team: Path, override: str) -> None:
    assert compose(["sweep=tiny", override], root=team).mixes["half"].weights == {"code": 1}


def test_weights_in_a_sweep_file_replace_the_weights_of_the_mix(team: Path) -> None:
    put(team, "conf/mix/half.yaml", "{weights: {prose: 0.5, code: 0.5}, max_epochs: 4, description: as is}")
    put(team, "sweeps/tiny.yaml", CONF["sweeps/tiny.yaml"] + "mix: {half: {weights: {code: 2}, max_epochs: 3}}\n")
    study = compose(["sweep=tiny"], root=team)
    assert (study.mixes["half"].weights, study.mixes["half"].max_epochs) == ({"code": 2}, 3)
    [entry] = study.overridden
    files = {"weights": "sweeps/tiny.yaml", "max_epochs": "sweeps/tiny.yaml", "description": "conf/mix/half.yaml"}
    assert entry.files == files
    assert json.loads(json.dumps(study.raw["overridden"])) == [{"catalog": "mix", "name": "half", "files": files}]


def test_the_weights_of_a_sweep_that_is_based_on_a_sweep_replace_those_of_its_base(team: Path) -> None:
    put(team, "sweeps/tiny.yaml", CONF["sweeps/tiny.yaml"] + "mix: {half: {weights: {code: 2}}}\n")
    put(
        team,
        "sweeps/next.yaml",
        "# @package _global_\ndefaults: [tiny, _self_]\nsweep: {name: next}\nmix: {half: {weights: {prose: 3}}}\n",
    )
    assert compose(["sweep=next"], root=team).mixes["half"].weights == {"prose": 3}
    put(team, "sweeps/next.yaml", "# @package _global_\ndefaults: [tiny, _self_]\nsweep: {name: next, seeds: [7]}\n")
    assert compose(["sweep=next"], root=team).mixes["half"].weights == {"code": 2}


def test_one_weight_of_a_mix_can_be_overridden_and_is_listed(team: Path) -> None:
    study = compose(["sweep=tiny", "mix.half.weights.code=3", "source.prose.clearance.by=them"], root=team)
    assert study.mixes["half"].weights == {"prose": 1, "code": 3}
    assert {(entry.catalog, entry.name): entry.files for entry in study.overridden} == {
        ("mix", "half"): {"weights": "conf/mix/half.yaml", "weights.code": "the command line"},
        ("source", "prose"): {
            **dict.fromkeys(["files", "domain", "language", "license", "clearance"], "conf/source/prose.yaml"),
            "clearance.by": "the command line",
        },
    }


def test_a_mix_from_one_place_is_not_listed(team: Path) -> None:
    study = compose(["sweep=tiny", "+mix.new={weights: {code: 1}, max_epochs: 2}"], root=team)
    assert study.mixes["new"].max_epochs == 2
    assert study.overridden == ()


@pytest.mark.parametrize("weights", ["{code: 1, code: 2}", "[code, prose]", "{code: 1", "code"])
def test_weights_that_are_no_mapping_or_repeat_a_source_are_refused(team: Path, weights: str) -> None:
    with pytest.raises(ConfigError):
        compose(["sweep=tiny", f"mix.half.weights={weights}"], root=team)
    put(team, "conf/mix/half.yaml", f"weights: {weights}\n")
    with pytest.raises(ConfigError, match="half"):
        compose(["sweep=tiny"], root=team)


# --- prefixes


@pytest.mark.parametrize(
    "override", ["+sweep=tiny", "++sweep=tiny", "~sweep=tiny", "~sweep", "+policy=prose", "++proxy=1m", "~suite"]
)
def test_a_group_with_a_prefix_is_refused_with_the_right_form(team: Path, override: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose([override], root=team)
    key = override.lstrip("+~").partition("=")[0]
    assert f"`{key}` is selected without a prefix" in error.value.what
    assert error.value.fix == f"Write `{key}=NAME`."


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+budget.tokens=5", "'budget.tokens' exists"),
        ("~budget.tokns", "no key is called 'budget.tokns'"),
        ("~budget.tokens=7", "'budget.tokens' is 3072"),
        ("+++budget.tokens=5", "expected `key=value`"),
        ("=5", "expected `key=value`"),
        ("--sweep=tiny", "expected `key=value`"),
        ("budget.tokens=1,2", "the key has several values"),
        ("budget.tokens=range(1,3)", "the key has several values"),
        ("budget.tokens.more=5", "no key is called 'budget.tokens.more'"),
        ("+budget.tokens.more=5", "expected a mapping"),
        ("policy@other=prose", "expected `key=value`"),
        ("hydra.run.dir=x", "no key is called 'hydra'"),
        ("mix=half", "expected a mapping by name"),
        ("budget={tokns: 5}", "no key is called 'budget.tokns'"),
        ("history=${nowhere}", "nowhere"),
        ("history=${history}", "history: Recursive interpolation detected"),
        ("history='${'", "configuration"),
    ],
)
def test_a_wrong_override_yields_a_sentence(team: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose(["sweep=tiny", override], root=team)
    assert message in str(error.value)


def test_a_key_of_the_sweep_without_a_sweep_is_refused(team: Path) -> None:
    with pytest.raises(ConfigError, match=r"'sweep.seeds' cannot be set, because 'sweep' is null"):
        compose(["sweep.seeds=[0]"], root=team)


# --- YAML


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\na: 2\n", "line 2: the key 'a' is repeated"),
        (b"a: &a [*a]\n", "line 1: an anchor contains itself"),
        (b"a: &a {b: *a}\n", "an anchor contains itself"),
        (b"\x89PNG\r\n\x1a\n\x00", "is not UTF-8 text"),
        (b"a: \x00", "is not YAML"),
        (b"- 1\n", "a list is invalid"),
        (b"5\n", "a int is invalid"),
        (b"[" * 5000, "nested too deeply"),
        (b"a: " + b"9" * 5000, "is not YAML"),
        (b"a: !!python/object:os.system {}\n", "could not determine a constructor"),
        (b"a: !!binary aGVsbG8=\n", "a value of type bytes is invalid"),
        (b"? [a]\n: b\n", "a key is not text"),
        (b"a: 1\n---\nb: 2\n", "another document"),
        (b"#" * 2_000_001, "a file of 2,000,001 bytes is too large"),
        (
            b"".join(
                b"a%d: &a%d [%s]\n" % (i, i, b",".join([b"*a%d" % (i - 1) if i else b"1"] * 10)) for i in range(7)
            ),
            "the file has too many values",
        ),
    ],
    ids=range(15),
)
def test_a_file_that_is_no_configuration_is_refused_with_its_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "half.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert str(path) in error.value.what
    assert message in error.value.what


def test_a_link_that_leads_nowhere_or_to_itself_and_a_device_are_refused(team: Path) -> None:
    path = team / "conf/mix/more.yaml"
    for target, message in (
        ("nowhere", "leads nowhere"),
        ("more.yaml", "leads nowhere"),
        ("/dev/zero", "no regular file"),
    ):
        path.symlink_to(target)
        with pytest.raises(ConfigError) as error:
            compose(["sweep=tiny"], root=team)
        assert str(path) in error.value.what
        assert message in error.value.what
        path.unlink()
    path.symlink_to(team / "conf/mix/half.yaml")
    assert compose(["sweep=tiny"], root=team).mixes["more"].weights == {"prose": 1, "code": 1}


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(team: Path) -> None:
    (team / "sweeps/tiny.yaml").write_bytes(b"\xef\xbb\xbf" + CONF["sweeps/tiny.yaml"].replace("\n", "\r\n").encode())
    assert compose(["sweep=tiny"], root=team).budget.tokens == 3072


def test_the_package_of_a_sweep_may_follow_other_comments(team: Path) -> None:
    put(team, "sweeps/tiny.yaml", "# Copyright: us\n\n" + CONF["sweeps/tiny.yaml"])
    assert compose(["sweep=tiny"], root=team).budget.tokens == 3072


def test_numbers_with_leading_zeros_and_times_are_text(tmp_path: Path) -> None:
    path = put(tmp_path, "a.yaml", "{a: 010, b: 16:00, c: 1e-4, d: 1_000, e: 0x1F, f: .5, g: yes, h: 1:30:00}")
    assert read_yaml(path) == {
        "a": "010",
        "b": "16:00",
        "c": 1e-4,
        "d": 1000,
        "e": 31,
        "f": 0.5,
        "g": True,
        "h": "1:30:00",
    }

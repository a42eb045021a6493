"""`assay sources` and `assay taint`: what is known against sources, in a project of two."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.audit.finding_files import put_finding
from tests.cli.invoke import Said, caller

SOURCE = """files: ["data/{name}.txt"]
domain: code
language: code
license: MIT
snapshot: {day}
clearance: {{state: cleared, by: the tests, date: 2026-01-01, reference: here}}
"""


@pytest.fixture
def assay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    for name, day in (("crawl", "2020-01-01"), ("github", "2999-01-01")):
        (tmp_path / "conf/source").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / f"conf/source/{name}.yaml").write_text(SOURCE.format(name=name, day=day))
        (tmp_path / f"data/{name}.txt").write_text(f"of {name}\n")
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


def find_gutters() -> str:
    from assay.cli.arguments import load_workspace

    return put_finding(load_workspace([]), "crawl").digest


def test_sources_say_what_audits_found_and_whether_it_taints(assay: Callable[..., Said]) -> None:
    assert {one["audited"] for one in assay("sources", "--json").json} == {None}
    find_gutters()
    crawl, github = assay("sources", "--json").json
    assert (crawl["audited"], crawl["findings"]) == ("1970-01-01", ["line_number_gutter"])
    [defect] = crawl["tainted"]
    assert (defect["code"], defect["subject"]) == ("defect", "crawl")
    assert (defect["figures"]["detector"], defect["figures"]["fraction"]) == ("line_number_gutter", 0.5)
    assert github["tainted"] == []
    assert "1, tainted" in assay("sources").out


def test_stale_sources_are_those_whose_snapshot_is_old_or_unknown(assay: Callable[..., Said], tmp_path: Path) -> None:
    github = tmp_path / "conf/source/github.yaml"
    assert [one["name"] for one in assay("sources", "--stale", "180d", "--json").json] == ["crawl"]
    github.write_text(github.read_text().replace("snapshot: 2999-01-01\n", ""))
    assert [one["name"] for one in assay("sources", "--stale", "1y", "--json").json] == ["crawl", "github"]
    for age in ("a while", "99999y"):
        refused = assay("sources", "--stale", age)
        assert refused.code == 2
        assert "180d" in refused.err


def test_taint_lists_what_is_wrong_and_a_waiver_in_the_source_ends_it(
    assay: Callable[..., Said], tmp_path: Path
) -> None:
    assert "None of the 2 sources is tainted" in assay("taint").out
    digest = find_gutters()
    [one] = assay("taint", "--json").json["sources"]
    assert (one["source"], one["runs"]) == ("crawl", [])
    assert "assay audit repair crawl" in one["tainted"][0]["fix"]
    with (tmp_path / "conf/source/crawl.yaml").open("a") as file:
        file.write(
            f"waivers: [{{detector: line_number_gutter, version: '{digest[:12]}', by: A. Person, date: 2026-11-23, reason: known}}]\n"
        )
    assert assay("taint", "--json").json == {"sources": []}
    assert assay("sources", "--json").json[0]["waived"] == ["line_number_gutter: A. Person, 2026-11-23: known"]


def test_an_edited_source_is_another_version_and_the_old_one_stays_known(
    assay: Callable[..., Said], tmp_path: Path
) -> None:
    digest = find_gutters()
    (tmp_path / "data/crawl.txt").write_text("another text\n")
    assert assay("sources", "--json").json[0]["tainted"] == []
    [one] = assay("taint", "--json").json["sources"]
    assert one["tainted"][0]["figures"]["digest"] == digest


def test_a_source_that_lost_its_clearance_is_tainted_too(assay: Callable[..., Said], tmp_path: Path) -> None:
    """As after a request for removal."""
    path = tmp_path / "conf/source/github.yaml"
    path.write_text(path.read_text().replace("state: cleared, by: the tests", "state: blocked, by: legal"))
    [one] = assay("taint", "--json").json["sources"]
    [blocked] = one["tainted"]
    assert (blocked["code"], blocked["subject"]) == ("source_blocked", "github")
    assert blocked["figures"] == {"by": "legal", "reference": "here"}


def test_a_name_that_nothing_knows_is_refused(assay: Callable[..., Said]) -> None:
    refused = assay("taint", "crawll")
    assert refused.code == 2
    assert "crawl" in refused.err
    assert "not tainted" in assay("taint", "github").out


SWEEP = {
    "conf/proxy/tiny.yaml": "{name: tiny, hidden_size: 16, intermediate_size: 32, layers: 1, heads: 2, kv_heads: 1, "
    "tie_embeddings: true, rope_theta: 10000, sequence_length: 64}",
    "conf/suite/bytes.yaml": "{name: bytes, tasks: [], batch_size: 8, validation_bytes: 2000}",
    "conf/policy/ours.yaml": "{name: ours, primary: [{task: validation/github, metric: bits_per_byte, better: lower}], "
    "alpha: 0.05, min_seeds: 3}",
    "conf/mix/clean.yaml": "{weights: {github: 1}}",
    "conf/mix/half.yaml": "{base: clean, edits: [{replace: {source: github, by: crawl, fraction: 0.5}}]}",
    "sweeps/ours.yaml": "# @package _global_\n"
    "defaults: [override /proxy: tiny, override /suite: bytes, override /policy: ours]\n"
    "sweep: {name: ours, baseline: clean, candidates: [half], seeds: [0, 1, 2]}\n"
    "tokenizer: {vocabulary: 300}\nbudget: {tokens: 4096}\n",
}


def test_plan_repair_makes_the_sweep_on_repaired_sources_and_leaves_clean_mixes_alone(
    assay: Callable[..., Said], tmp_path: Path
) -> None:
    for name, text in SWEEP.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "data/crawl.txt").write_text(listing(30))
    nothing = assay("plan", "repair", "sweep=ours")
    assert "sweep 'ours' has no tainted source" in nothing.err
    find_gutters()
    planned = assay("plan", "sweep=ours", "--json").json["runs"]
    assert {run["mix"]: run["status"] for run in planned} == {"clean": "todo", "half": "refused"}, (
        "nothing is tokenized"
    )
    refused = assay("plan", "repair", "sweep=ours")
    assert refused.code == 2
    assert "Run `assay audit repair crawl`" in refused.err
    assay("audit", "repair", "crawl")
    made = assay("plan", "repair", "sweep=ours", "budget.tokens=8192", "--json").json["repair"]
    assert (made["sources"], made["mixes"]) == ({"crawl": "crawl_repaired"}, {"half": "half_repaired"})
    runs = assay("plan", "sweep=ours_repaired", "--json").json["runs"]
    assert {run["mix"]: run["status"] for run in runs} == {"clean": "todo", "half_repaired": "todo"}
    shown = assay("mix", "show", "half_repaired", "sweep=ours_repaired", "--json").json
    assert "crawl_repaired" in str(shown)
    assert "8192" in (tmp_path / "sweeps/ours_repaired.yaml").read_text()
    again = assay("plan", "repair", "sweep=ours")
    assert again.code == 2
    assert "--force" in again.err


def listing(lines: int) -> str:
    return "\n".join(f"{n:>3}     total += price[{n}] * (1 + tax)" for n in range(1, lines + 1))


def test_repair_makes_a_new_source_and_counts_what_it_left(assay: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "data/crawl.txt").write_text(listing(30))
    shown = assay("audit", "repair", "crawl", "--dry-run", "--json").json
    assert (shown["documents"], shown["repaired"], shown["unsure"], shown["written"]) == (1, 1, 0, None)
    difference = shown["samples"][0]["difference"]
    assert {"-  1     total += price[1] * (1 + tax)", "+    total += price[1] * (1 + tax)"} <= set(difference)
    made = assay("audit", "repair", "crawl", "--json").json
    assert made["name"] == "crawl_repaired"
    new = next(one for one in assay("sources", "--json").json if one["name"] == "crawl_repaired")
    assert (new["repairs"], new["license"], new["refusal"]) == ("crawl", "MIT", None)
    assert new["processing"] == "line_number_gutter repaired"
    again = assay("audit", "repair", "crawl")
    assert again.code == 2
    assert "--force" in again.err
    assert assay("audit", "repair", "crawl_repaired", "--dry-run", "--json").json["repaired"] == 0


def test_drop_unsure_omits_documents_without_a_safe_fix(assay: Callable[..., Said], tmp_path: Path) -> None:
    numbered_twice = ["".join(f"{n} {n} {name} = f({name})\n" for n in range(1, 40)) for name in "abcdef"]
    documents = [listing(30), *numbered_twice]
    (tmp_path / "conf/source/crawl.yaml").write_text(
        SOURCE.format(name="crawl", day="2020-01-01").replace("crawl.txt", "crawl.jsonl")
    )
    (tmp_path / "data/crawl.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    find_gutters()
    assert "--drop-unsure leaves these documents out" in " ".join(assay("audit", "repair", "crawl").out.split())
    assert {"line_number_gutter"} == set(findings_of(assay, "crawl_repaired"))
    made = assay("audit", "repair", "crawl", "--drop-unsure", "--force", "--json").json
    assert (made["documents"], made["repaired"], made["unsure"], made["dropped"]) == (7, 1, 6, True)
    assert "line_number_gutter" not in findings_of(assay, "crawl_repaired")
    declared = (tmp_path / "conf/source/crawl_repaired.yaml").read_text()
    assert "line_number_gutter repaired, 6 documents left out" in declared
    (tmp_path / "data/crawl.jsonl").write_text(json.dumps({"text": numbered_twice[0]}) + "\n")
    refused = assay("audit", "repair", "crawl", "--drop-unsure", "--force")
    assert (refused.code, "would be empty" in refused.err) == (2, True)
    assert (tmp_path / "conf/source/crawl_repaired.yaml").read_text() == declared


def findings_of(assay: Callable[..., Said], source: str) -> list[str]:
    return [one["detector"] for one in assay("audit", source, "--json").json["findings"]]


def test_a_sample_of_a_repair_shows_no_secret_whole_and_drives_no_terminal(
    assay: Callable[..., Said], tmp_path: Path
) -> None:
    key = "AKIA" + "Q3EGR7XWPLZ5T2MN"
    (tmp_path / "data/crawl.txt").write_text(listing(30).replace("price[3]", f"'{key}\x1b]0;title\x07'"))
    said = [assay("audit", "repair", "crawl", "--dry-run", *more) for more in ((), ("--json",))]
    assert all("AK****" in each.out and key not in each.out for each in said)
    assert "\x1b]0" not in said[0].out


def test_the_places_of_a_repaired_source_are_found_on_other_machines(
    assay: Callable[..., Said], tmp_path: Path
) -> None:
    (tmp_path / "data/crawl.txt").write_text(listing(30))
    with (tmp_path / "conf/source/crawl.yaml").open("a") as declared:
        declared.write("originals: ${paths.data}/raw\n")
    assay("audit", "repair", "crawl")
    assert str(tmp_path) not in (tmp_path / "conf/source/crawl_repaired.yaml").read_text()


def test_a_defect_without_a_fixer_is_refused_with_those_that_have_one(assay: Callable[..., Said]) -> None:
    refused = assay("audit", "repair", "crawl", "--detector", "mojibake")
    assert refused.code == 2
    assert "line_number_gutter" in refused.err

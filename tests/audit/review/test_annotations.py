"""The log of annotations: concurrent appends, merges by git, and damaged lines."""

from __future__ import annotations

import json
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from assay.audit.review.annotations import MOST_NOTE, Annotation, append, path_of, read, summary
from assay.core.errors import AssayError
from tests.cli.invoke import caller
from tests.helpers.tiny import write_sources

ONE = Annotation(
    source="crawl",
    digest="d1",
    document="a",
    text="0" * 64,
    verdict="bad",
    note="numbers\nof \u2028 lines",
    by="Ana",
    when="2026-11-23T12:00:00+00:00",
)


def test_distinct_annotations_survive_a_round_trip(tmp_path: Path) -> None:
    other = replace(ONE, document="b", verdict="good")
    for entry in (ONE, other, ONE):
        append(tmp_path, entry)
    log = read(tmp_path, "crawl")
    assert (set(log.annotations), len(log.annotations), log.unread) == ({ONE, other}, 2, 0)
    assert read(tmp_path, "nobody_looked").annotations == ()


def test_a_truncated_line_costs_only_itself(tmp_path: Path) -> None:
    path = append(tmp_path, ONE)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    assert read(tmp_path, "crawl").unread == 1
    append(tmp_path, replace(ONE, document="b"))
    log = read(tmp_path, "crawl")
    assert ({entry.document for entry in log.annotations}, log.unread) == ({"a", "b"}, 1)


def test_no_line_prevents_reading_the_others(tmp_path: Path) -> None:
    path = append(tmp_path, ONE)
    wrong = [b"[" * 100_000, b"\xff\xfe", b"null", b"7", b"<<<<<<< HEAD", json.dumps({"source": "crawl"}).encode()]
    wrong += [path.read_bytes().replace(b'"bad"', b'"terrible"').strip()]
    wrong += [path.read_bytes().replace(b"2026-11-23T12", b"some day").strip()]
    path.write_bytes(b"\n".join([*wrong, path.read_bytes()]))
    log = read(tmp_path, "crawl")
    assert (log.annotations, log.unread) == ((ONE,), len(wrong))


def test_concurrent_writers_lose_no_line(tmp_path: Path) -> None:
    def write(person: int) -> None:
        for number in range(20):
            append(tmp_path, replace(ONE, document=str(number), by=f"p{person}"))

    threads = [threading.Thread(target=write, args=(person,)) for person in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = read(tmp_path, "crawl")
    assert (len(log.annotations), log.unread) == (120, 0)


def test_git_merges_the_logs_of_two_branches(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@t.invalid", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    for branch, documents in (("main", ["a"]), ("ana", ["b", "c"]), ("ben", ["d", "b"])):
        if branch != "main":
            git("checkout", "-b", branch, "main")
        for document in documents:
            append(tmp_path, replace(ONE, document=document, by=branch))
        git("add", ".")
        git("commit", "-m", branch)
    git("merge", "ana")
    log = read(tmp_path, "crawl")
    assert {(entry.by, entry.document) for entry in log.annotations} == {
        ("main", "a"),
        ("ana", "b"),
        ("ana", "c"),
        ("ben", "d"),
        ("ben", "b"),
    }
    assert log.unread == 0


def test_the_last_annotation_of_each_person_and_version_counts() -> None:
    def annotation_of(document: str, verdict: str, by: str, hour: int, digest: str = "d1") -> Annotation:
        when = f"2026-11-23T{hour:02}:00:00+00:00"
        return replace(ONE, document=document, verdict=verdict, by=by, when=when, digest=digest)  # type: ignore[arg-type]  # a literal

    log = [
        annotation_of("a", "good", "Ana", 9),
        annotation_of("a", "bad", "Ana", 10),
        annotation_of("b", "good", "Ana", 11),
        annotation_of("b", "bad", "Ben", 12),
        annotation_of("c", "unsure", "Ben", 8),
        annotation_of("z", "bad", "Ben", 8, digest="d0"),
    ]
    for order in (log, log[::-1], log * 2):
        counts = summary(order, "d1")
        assert (counts.documents, counts.bad, counts.good, counts.unsure, counts.disputed) == (3, 1, 0, 1, 1)
        assert (counts.people, counts.last, counts.elsewhere) == (("Ana", "Ben"), "2026-11-23T12:00:00+00:00", 1)


@pytest.mark.parametrize(
    "wrong", [{"verdict": "fine"}, {"by": " "}, {"note": "x" * (MOST_NOTE + 1)}, {"when": "soon"}, {"source": "../up"}]
)
def test_invalid_annotations_are_rejected(wrong: dict[str, str]) -> None:
    with pytest.raises(AssayError):
        replace(ONE, **wrong)  # type: ignore[arg-type]  # fields of the class


def test_no_source_name_leaves_the_folder_of_logs(tmp_path: Path) -> None:
    with pytest.raises(AssayError):
        path_of(tmp_path, "../../etc/cron")


# --- the command line


def test_a_sample_is_drawn_annotated_and_counted_at_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_sources(tmp_path / "data", documents=30)
    (tmp_path / "conf/source").mkdir(parents=True)
    for name in paths:
        (tmp_path / f"conf/source/{name}.yaml").write_text(
            f"{{files: [data/{name}.jsonl], domain: {name}, language: en, license: CC0-1.0}}"
        )
    monkeypatch.chdir(tmp_path)
    call = caller(monkeypatch, capsys)
    page = tmp_path / "sample.html"
    drawn = call("audit", "sample", "web", "--n", "5", "--by", "length", "--html", str(page), "--json").json
    assert (drawn["documents"], len(drawn["picked"]), len(drawn["strata"])) == (30, 5, 10)
    assert all(entry["text"][:40] in page.read_text() for entry in drawn["picked"])
    first = drawn["picked"][0]
    reply = call(
        "audit", "annotate", "web", first["document"], "--label", "bad", "--note", "thin", "--by", "Ana", "--json"
    ).json
    assert reply["annotation"]["text"] == first["text_digest"]
    assert reply["annotated"]["bad"] == 1
    assert (tmp_path / "audits" / "web.jsonl").read_text().count("\n") == 1
    listed = {entry["name"]: entry for entry in call("sources", "--json").json}
    assert listed["web"]["annotated"]["documents"] == 1
    assert listed["books"]["annotated"]["documents"] == 0
    wrong = call("audit", "annotate", "web", first["document"], "--label", "meh", "--by", "Ana")
    assert (wrong.code, "good, bad, unsure" in wrong.err) == (2, True)
    assert call("audit", "annotate", "web", "no such", "--label", "bad", "--by", "Ana").code == 2
    assert call("audit", "sample", "web", "--by", "smell").code == 2

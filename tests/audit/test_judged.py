"""The log of who judged what: appended to by many, merged by git, read whatever happened to it."""

from __future__ import annotations

import json
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from assay.audit.judged import MOST_NOTE, Judgement, append, path_of, read, summary
from assay.errors import AssayError
from tests.cli.calls import caller
from tests.tiny import write_sources

ONE = Judgement(
    source="crawl",
    digest="d1",
    document="a",
    text="0" * 64,
    verdict="bad",
    note="numbers\nof \u2028 lines",
    by="Ana",
    when="2026-11-23T12:00:00+00:00",
)


def test_what_is_written_is_read_again_each_judgement_once(tmp_path: Path) -> None:
    other = replace(ONE, document="b", verdict="good")
    for one in (ONE, other, ONE):
        append(tmp_path, one)
    log = read(tmp_path, "crawl")
    assert (set(log.judgements), len(log.judgements), log.unread) == ({ONE, other}, 2, 0)
    assert read(tmp_path, "nobody_looked").judgements == ()


def test_a_half_written_line_costs_itself_and_nothing_else(tmp_path: Path) -> None:
    path = append(tmp_path, ONE)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    assert read(tmp_path, "crawl").unread == 1
    append(tmp_path, replace(ONE, document="b"))
    log = read(tmp_path, "crawl")
    assert ({one.document for one in log.judgements}, log.unread) == ({"a", "b"}, 1)


def test_no_line_can_keep_the_others_from_being_read(tmp_path: Path) -> None:
    path = append(tmp_path, ONE)
    wrong = [b"[" * 100_000, b"\xff\xfe", b"null", b"7", b"<<<<<<< HEAD", json.dumps({"source": "crawl"}).encode()]
    wrong += [path.read_bytes().replace(b'"bad"', b'"terrible"').strip()]
    wrong += [path.read_bytes().replace(b"2026-11-23T12", b"some day").strip()]
    path.write_bytes(b"\n".join([*wrong, path.read_bytes()]))
    log = read(tmp_path, "crawl")
    assert (log.judgements, log.unread) == ((ONE,), len(wrong))


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    def write(person: int) -> None:
        for number in range(20):
            append(tmp_path, replace(ONE, document=str(number), by=f"p{person}"))

    threads = [threading.Thread(target=write, args=(person,)) for person in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = read(tmp_path, "crawl")
    assert (len(log.judgements), log.unread) == (120, 0)


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
    assert {(one.by, one.document) for one in log.judgements} == {
        ("main", "a"),
        ("ana", "b"),
        ("ana", "c"),
        ("ben", "d"),
        ("ben", "b"),
    }
    assert log.unread == 0


def test_the_last_word_of_each_person_counts_and_only_of_this_version() -> None:
    def said(document: str, verdict: str, by: str, hour: int, digest: str = "d1") -> Judgement:
        when = f"2026-11-23T{hour:02}:00:00+00:00"
        return replace(ONE, document=document, verdict=verdict, by=by, when=when, digest=digest)  # type: ignore[arg-type]  # a literal

    log = [
        said("a", "good", "Ana", 9),
        said("a", "bad", "Ana", 10),
        said("b", "good", "Ana", 11),
        said("b", "bad", "Ben", 12),
        said("c", "unsure", "Ben", 8),
        said("z", "bad", "Ben", 8, digest="d0"),
    ]
    for order in (log, log[::-1], log * 2):
        found = summary(order, "d1")
        assert (found.documents, found.bad, found.good, found.unsure, found.disputed) == (3, 1, 0, 1, 1)
        assert (found.people, found.last, found.elsewhere) == (("Ana", "Ben"), "2026-11-23T12:00:00+00:00", 1)


@pytest.mark.parametrize(
    "wrong", [{"verdict": "fine"}, {"by": " "}, {"note": "x" * (MOST_NOTE + 1)}, {"when": "soon"}, {"source": "../up"}]
)
def test_a_judgement_says_who_what_and_when(wrong: dict[str, str]) -> None:
    with pytest.raises(AssayError):
        replace(ONE, **wrong)  # type: ignore[arg-type]  # fields of its own


def test_a_log_lies_in_the_project_whatever_the_source_is_called(tmp_path: Path) -> None:
    with pytest.raises(AssayError):
        path_of(tmp_path, "../../etc/cron")


# --- at the door


def test_a_sample_is_drawn_judged_and_counted_at_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_sources(tmp_path / "data", documents=30)
    (tmp_path / "conf/source").mkdir(parents=True)
    for name in paths:
        (tmp_path / f"conf/source/{name}.yaml").write_text(
            f"{{files: [data/{name}.jsonl], domain: {name}, language: en, licence: CC0-1.0}}"
        )
    monkeypatch.chdir(tmp_path)
    call = caller(monkeypatch, capsys)
    page = tmp_path / "sample.html"
    drawn = call("sample", "web", "--n", "5", "--by", "length", "--html", str(page), "--json").json
    assert (drawn["documents"], len(drawn["picked"]), len(drawn["strata"])) == (30, 5, 10)
    assert all(each["text"][:40] in page.read_text() for each in drawn["picked"])
    first = drawn["picked"][0]
    told = call("judge", "web", first["document"], "--verdict", "bad", "--note", "thin", "--by", "Ana", "--json").json
    assert told["judgement"]["text"] == first["text_digest"]
    assert told["judged"]["bad"] == 1
    assert (tmp_path / "audits" / "web.jsonl").read_text().count("\n") == 1
    listed = {each["name"]: each for each in call("sources", "--json").json}
    assert listed["web"]["judged"]["documents"] == 1
    assert listed["books"]["judged"]["documents"] == 0
    wrong = call("judge", "web", first["document"], "--verdict", "meh", "--by", "Ana")
    assert (wrong.code, "good, bad, unsure" in wrong.err) == (2, True)
    assert call("judge", "web", "no such", "--verdict", "bad", "--by", "Ana").code == 2
    assert call("sample", "web", "--by", "smell").code == 2

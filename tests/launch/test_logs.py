from __future__ import annotations

from pathlib import Path

import pytest

from assay.core.errors import AssayError
from assay.core.log_tail import CHUNK, last_lines
from assay.launch.logs import log_of
from assay.store.runs import Store
from tests.launch.planned_sweeps import record


def test_the_last_lines_are_those_at_the_end_in_order(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("".join(f"line {i}\n" for i in range(100_000)))
    assert last_lines(log, 3) == ["line 99997", "line 99998", "line 99999"]


def test_a_log_with_fewer_lines_is_complete(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("one\n\ntwo")
    assert last_lines(log, 10) == ["one", "two"]


def test_a_progress_bar_counts_as_its_final_line(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("".join(f"\r{i}%" for i in range(101)) + "\nnext\n")
    assert last_lines(log, 2) == ["100%", "next"]


def test_terminal_control_sequences_are_removed(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_bytes(b"\x1b]0;title\x07\x1b[2J\x1b[31mred\x1b[0m\x00\x9b1m caf\xc3\xa9 \xff\n")
    (line,) = last_lines(log, 1)
    unreadable = "\N{REPLACEMENT CHARACTER}"
    assert line == f"red{unreadable}1m caf\N{LATIN SMALL LETTER E WITH ACUTE} {unreadable}"


def test_one_endless_line_does_not_read_the_whole_file(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_bytes(b"x" * (20 * CHUNK) + b"\nend\n")
    assert last_lines(log, 1) == ["end"]


def test_a_run_that_no_worker_has_started_has_no_log(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = record(store, "web", 0)
    with pytest.raises(AssayError, match="no worker has started the run"):
        log_of(store, run.fingerprint[:8])


def test_a_run_is_found_by_the_first_digits_of_its_fingerprint(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = record(store, "web", 0)
    run.log.write_text("a\nb\nc\n")
    assert last_lines(log_of(store, run.fingerprint[:8]), 2) == ["b", "c"]
    assert last_lines(log_of(store, run), 1) == ["c"]

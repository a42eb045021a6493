"""The check of a GPU, on the CPU with models of a few thousand parameters."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripts.gpu_check import __main__ as command
from scripts.gpu_check import checks
from scripts.gpu_check.jobs import Place
from scripts.gpu_check.plan import full_plan, tiny_plan
from scripts.gpu_check.processes import JobResult
from scripts.gpu_check.results import CheckResult, Results, table

ROOT = Path(__file__).parents[2]
EAGER = ["data", "train 20m", "resume 20m", "evaluate 20m", "pack", "Trainer 20m", "train 150m", "Trainer 150m"]
COMPILED = ["data", "train 20m", "train 20m compiled", "resume 20m compiled"]
TRAINED = {
    "state": "trained",
    "losses": [6.0, 4.0],
    "precision": "bfloat16",
    "weights": "a",
    "tokens_per_second": 100.0,
    "seconds_to_first_step": 1.0,
    "mfu": 0.5,
    "peak_memory": 10,
    "steps": 6,
}


def run_command(folder: Path, *arguments: str) -> tuple[int, str, dict[str, Any]]:
    """Run the command in its own process; return its exit code, output and results."""
    out = folder / "results.json"
    process = subprocess.run(
        [sys.executable, "-m", "scripts.gpu_check", "--out", str(out), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return process.returncode, process.stdout + process.stderr, json.loads(out.read_text()) if out.exists() else {}


def by_name(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in results["checks"]}


def test_all_eager_checks_pass_on_a_cpu(tmp_path: Path) -> None:
    code, output, results = run_command(tmp_path, "--device", "cpu", "--tiny", "--seconds", "900", "--only", *EAGER)
    assert code == 0, output
    assert (results["passed"], results["complete"]) == (True, True)
    found = by_name(results)
    assert list(found) == EAGER
    assert {check["state"] for check in found.values()} == {"passed"}
    for name in ("train 20m", "train 150m", "Trainer 20m", "Trainer 150m", "pack"):
        figures = found[name]["figures"]
        assert figures["tokens_per_second"] > 0
        assert 0 < figures["mfu"] < 1
        assert figures["peak_memory"] > 0
        assert name in output
    resumed = found["resume 20m"]["figures"]
    assert resumed["weights"] == resumed["uninterrupted_weights"] == found["train 20m"]["figures"]["weights"]
    assert len(set(found["pack"]["figures"]["weights"])) == tiny_plan().packed_runs
    assert {"gpu_check_words acc", "validation/prose bits_per_byte"} <= set(found["evaluate 20m"]["figures"]["scores"])
    assert results["versions"]["torch"].split("+")[0] in output
    assert results["versions"]["transformers"] in output


@pytest.mark.slow
def test_compiled_training_passes_on_a_cpu_and_resumes_with_the_same_weights(tmp_path: Path) -> None:
    code, output, results = run_command(tmp_path, "--device", "cpu", "--tiny", "--seconds", "3000", "--only", *COMPILED)
    assert code == 0, output
    assert by_name(results)["train 20m compiled"]["figures"]["loss_vs_eager"] < checks.SAME_LOSS


def test_without_time_the_rest_is_skipped_and_the_results_are_incomplete(tmp_path: Path) -> None:
    code, output, results = run_command(
        tmp_path, "--device", "cpu", "--tiny", "--seconds", "0", "--only", "data", "pack"
    )
    assert code == 1
    assert [check["reason"] for check in results["checks"]] == [command.NO_TIME, f"{command.NEEDS} data"]
    assert (results["passed"], results["complete"]) == (False, False)
    assert "incomplete" in output


def test_a_job_that_exceeds_its_time_is_killed_and_its_check_fails(tmp_path: Path) -> None:
    code, output, results = run_command(tmp_path, "--device", "cpu", "--tiny", "--seconds", "1", "--only", "data")
    assert code == 1
    (check,) = results["checks"]
    assert (check["state"], check["reason"].splitlines()[0]) == ("failed", "stopped after 1 s, its time limit")
    assert (results["passed"], results["complete"]) == (False, True)
    assert "failed after" in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_check_leaves_no_process_and_keeps_its_results(number: signal.Signals, tmp_path: Path) -> None:
    out, temporary = tmp_path / "results.json", tmp_path / "temporary"
    temporary.mkdir()
    command_line = [sys.executable, "-m", "scripts.gpu_check", "--out", str(out), "--device", "cpu", "--tiny"]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    process = subprocess.Popen([*command_line, "--only", "data"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    wait_until(lambda: list(temporary.glob("*/jobs/1/log")) != [])
    process.send_signal(number)
    process.wait()
    wait_until(lambda: not processes_with(f"TMPDIR={temporary}"))
    assert json.loads(out.read_text())["complete"] is False
    if number == signal.SIGTERM:
        assert not list(temporary.glob("assay-gpu-check-*"))


def wait_until(condition: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition is not met in time"
        time.sleep(0.05)


def processes_with(variable: str) -> list[str]:
    """List the processes whose environment has a variable."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if variable.encode() in file.read_bytes().split(b"\0"):
                found.append(file.parent.name)
    return found


def test_results_are_written_after_each_check(tmp_path: Path) -> None:
    results = Results(file=tmp_path / "results.json", versions={}, device={})
    for number, state in enumerate(("passed", "failed")):
        results.checks.append(
            CheckResult(name=f"c{number}", state=state, reason="why\nlog", figures={"mfu": float("nan")})
        )
        results.save()
        written = json.loads(results.file.read_text())
        assert [check["name"] for check in written["checks"]] == ["c0", "c1"][: number + 1]
        assert written["complete"] is False
        assert written["checks"][0]["figures"] == {"mfu": "nan"}
    assert "why" in table(results.checks)
    assert "log" not in table(results.checks)


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="requires a machine without a GPU")
def test_without_a_gpu_one_sentence_says_so(tmp_path: Path) -> None:
    code, output, results = run_command(tmp_path)
    assert (code, results) == (2, {})
    assert "sees no GPU" in output
    assert len(output.splitlines()) == 1


def test_missing_packages_are_named_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(command.REQUIRED, "no_such_module_a", "package-a")
    monkeypatch.setitem(command.REQUIRED, "no_such_module_b", "package-b")
    assert command.main([]) == 2
    output = capsys.readouterr().out
    assert "lacks package-a package-b; run:" in output
    assert len(output.splitlines()) == 1


# --- conditions, with the figures that jobs would measure


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(plan=tiny_plan(), work=tmp_path, device="cuda", threads=1)


def outcome(place: Place, name: str, *answers: list[dict[str, Any]], **earlier: dict[str, Any]) -> dict[str, Any]:
    """Run a check on the given figures of its jobs."""
    check = next(check for check in checks.all_checks(place) if check.name == name)
    left = iter(answers)
    return check.run(place, lambda _: [JobResult(figures, None) for figures in next(left)], earlier)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "float32"}, "expected bfloat16"),
        ({"state": "diverged"}, "expected trained"),
        ({"losses": [6.0, float("nan")]}, "not finite"),
        ({"losses": [6.0, 6.0]}, "fell by 0.000 nats"),
    ],
)
def test_training_must_learn_in_bf16(place: Place, change: dict[str, Any], message: str) -> None:
    assert outcome(place, "train 20m", [TRAINED])["note"] == "bfloat16, loss 6.00 to 4.00"
    with pytest.raises(checks.CheckFailedError, match=message):
        outcome(place, "train 20m", [TRAINED | change])


def test_resumed_weights_must_equal_those_of_the_uninterrupted_run(place: Place) -> None:
    stopped, whole = TRAINED | {"state": "queued"}, {"train 20m": TRAINED}
    assert outcome(place, "resume 20m", [stopped], [TRAINED], **whole)["weights"] == "a"
    with pytest.raises(checks.CheckFailedError, match="differ from those of the uninterrupted run"):
        outcome(place, "resume 20m", [stopped], [TRAINED | {"weights": "b"}], **whole)
    with pytest.raises(checks.CheckFailedError, match="did not resume"):
        outcome(place, "resume 20m", [stopped], [TRAINED | {"steps": 12}], **whole)


def test_a_packed_run_must_equal_the_same_run_alone(place: Place) -> None:
    together = [TRAINED, TRAINED | {"weights": "b"}]
    figures = outcome(place, "pack", together, [TRAINED])
    assert (figures["tokens_per_second"], figures["gain"], figures["peak_memory"]) == (200.0, 2.0, 20)
    with pytest.raises(checks.CheckFailedError, match="than the same run alone"):
        outcome(place, "pack", together, [TRAINED | {"weights": "c"}])
    with pytest.raises(checks.CheckFailedError, match="equal weights"):
        outcome(place, "pack", [TRAINED, TRAINED], [TRAINED])


def test_compiled_training_must_reach_the_loss_of_eager_training(place: Place) -> None:
    eager = {"train 20m": TRAINED}
    assert outcome(place, "train 20m compiled", [TRAINED], **eager)["speed_vs_eager"] == 1.0
    with pytest.raises(checks.CheckFailedError, match="differs by 0.500 nats"):
        outcome(place, "train 20m compiled", [TRAINED | {"losses": [6.0, 4.5]}], **eager)


def test_scores_on_the_device_must_equal_those_on_the_cpu(place: Place) -> None:
    figures = {"bits_per_byte": 1.5, "bits_per_byte_on_cpu": 1.5, "scores": {"a acc": 0.5}}
    assert "1.500 bits per byte" in outcome(place, "evaluate 20m", [figures])["note"]
    with pytest.raises(checks.CheckFailedError, match="on the CPU"):
        outcome(place, "evaluate 20m", [figures | {"bits_per_byte": 1.6}])
    with pytest.raises(checks.CheckFailedError, match="a acc"):
        outcome(place, "evaluate 20m", [figures | {"scores": {"a acc": float("nan")}}])


def test_a_failed_job_fails_its_check_with_the_end_of_its_log(place: Place) -> None:
    check = checks.all_checks(place)[0]
    with pytest.raises(checks.CheckFailedError, match="out of memory"):
        check.run(place, lambda _: [JobResult({}, "ended with code 1\nCUDA out of memory")], {})


def test_a_gpu_with_little_memory_gets_smaller_micro_batches_of_the_same_batch() -> None:
    large, small = full_plan(140e9), full_plan(24e9)
    assert {name: load.sequences for name, load in large.loads.items()} == {"20m": 32, "150m": 16}
    for name, load in small.loads.items():
        assert load.micro < large.loads[name].micro
        assert load == replace(large.loads[name], micro=load.micro)
        assert load.sequences % load.micro == 0


def test_the_limits_of_the_checks_leave_room_within_eight_minutes(place: Place) -> None:
    assert command.SECONDS < 8 * 60
    assert all(0 < check.limit <= command.SECONDS for check in checks.all_checks(place))

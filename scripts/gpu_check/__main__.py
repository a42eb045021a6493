"""Check assay on one GPU in less than eight minutes, and write the results to one JSON file.

    make gpu-check PYTHON=python3
    python -m scripts.gpu_check --device cpu --tiny

It trains two proxies in bf16, eager and compiled, compares a resumed run bit for bit with the uninterrupted one, evaluates one,
packs four small runs on the device, and measures transformers' Trainer with the same models and batches. It uses the given
Python with its versions of torch and transformers, text that it makes itself, and no network. Exit codes: 0 passed, 1 failed
or incomplete, 2 not started.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "src"))

if TYPE_CHECKING:
    from scripts.gpu_check.checks import Check
    from scripts.gpu_check.jobs import Figures, Job, Place
    from scripts.gpu_check.processes import JobProcesses, JobResult
    from scripts.gpu_check.results import CheckResult, Results

REQUIRED = {
    "torch": "torch",
    "transformers": "transformers",
    "safetensors": "safetensors",
    "tokenizers": "tokenizers",
    "numpy": "numpy",
    "numba": "numba",
    "cattrs": "cattrs",
    "yaml": "pyyaml",
}
"""Modules without which the check cannot start, and the packages that contain them."""
SECONDS = 450.0
"""Time for all checks; the rest of the eight minutes is for imports and the end of the last check."""
CPU_FACTOR = 20
"""Factor of the checks' time limits on a CPU, where torch.compile takes minutes."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    options = _parse(arguments)
    missing = missing_packages()
    if missing:
        packages = " ".join(missing)
        print(f"gpu-check: {sys.executable} lacks {packages}; run: {sys.executable} -m pip install {packages}")
        return 2
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        print(f"gpu-check: torch {torch.__version__} sees no GPU; run it on a machine with one, or with --device cpu.")
        return 2
    from scripts.gpu_check.results import Results, table, versions

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the jobs and deletes the temporary folder
    with tempfile.TemporaryDirectory(prefix="assay-gpu-check-", ignore_cleanup_errors=True) as work:
        place = make_place(Path(work), device=options.device, tiny=options.tiny)
        results = Results(file=options.out, versions=versions(), device=describe_device(options.device))
        run_checks(place, results, seconds=options.seconds, only=options.only, report=_print_progress)
    print(f"\n{_title(results)}\n{table(results.checks)}\n")
    verdict = "passed" if results.passed else "failed" if results.complete else "incomplete"
    print(f"{verdict} after {results.seconds:.0f} s; results: {options.out}")
    for check in results.checks:
        if check.state != "passed":
            print(f"\n{check.name} {check.state}: {check.reason}")
    return 0 if results.passed else 1


def missing_packages() -> list[str]:
    """Return the packages to install before the check can start."""
    return [package for module, package in REQUIRED.items() if find_spec(module) is None]


def make_place(work: Path, *, device: str, tiny: bool) -> Place:
    """Choose the plan and the threads for a device."""
    import os

    import torch

    from scripts.gpu_check.jobs import Place
    from scripts.gpu_check.plan import full_plan, tiny_plan

    memory = float(torch.cuda.get_device_properties(0).total_memory) if device == "cuda" else None
    cores = len(os.sched_getaffinity(0))
    return Place(
        plan=tiny_plan() if tiny else full_plan(memory),
        work=work,
        device=device,
        threads=1 if tiny else max(1, min(4, cores // 4)),
    )


def describe_device(device: str) -> dict[str, Any]:
    """Describe the device for the results."""
    import torch

    from assay.train.device import peak_flops

    if device == "cpu":
        return {"name": "cpu", "capability": torch.backends.cpu.get_cpu_capability()}
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory": properties.total_memory,
        "peak_flops": peak_flops(torch.device("cuda", 0)),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]  # untyped in torch
    }


def run_checks(place: Place, results: Results, *, seconds: float, only: list[str] | None, report: Any) -> None:
    """Run all checks within a time limit, and save the results after each.

    Args:
        place: where.
        results: receives the outcomes.
        seconds: time for all checks; a check that would start after it is skipped, and the results are incomplete.
        only: names of the checks to run; `None` runs all.
        report: called with each outcome.
    """
    from scripts.gpu_check.checks import all_checks
    from scripts.gpu_check.processes import JobProcesses

    began, processes = time.monotonic(), JobProcesses(place)
    earlier: dict[str, Figures] = {}
    chosen = [check for check in all_checks(place) if only is None or check.name in only]
    results.save()
    for check in chosen:
        left = began + seconds - time.monotonic()
        limit = check.limit if place.device == "cuda" else CPU_FACTOR * check.limit
        outcome = run_check(check, place, processes, earlier, seconds=min(limit, left))
        results.checks.append(outcome)
        results.seconds = time.monotonic() - began
        results.complete = len(results.checks) == len(chosen) and not any(map(_unfinished, results.checks))
        results.save()
        report(outcome)
        if outcome.state == "passed":
            earlier[check.name] = outcome.figures


def run_check(
    check: Check, place: Place, processes: JobProcesses, earlier: dict[str, Figures], *, seconds: float
) -> CheckResult:
    """Run one check within its time limit; its jobs share the limit."""
    from scripts.gpu_check.checks import CheckFailedError, CheckSkippedError
    from scripts.gpu_check.results import CheckResult

    absent = [name for name in check.needs if name not in earlier]
    if absent:
        return CheckResult(name=check.name, state="skipped", reason=f"{NEEDS} {', '.join(absent)}")
    if seconds <= 0:
        return CheckResult(name=check.name, state="skipped", reason=NO_TIME)
    began = time.monotonic()

    def run_jobs(jobs: list[Job]) -> list[JobResult]:
        return processes.run(jobs, seconds=max(0.0, began + seconds - time.monotonic()))

    try:
        figures = check.run(place, run_jobs, earlier)
    except CheckSkippedError as skipped:
        return CheckResult(name=check.name, state="skipped", reason=str(skipped))
    except CheckFailedError as failed:
        took = time.monotonic() - began
        return CheckResult(name=check.name, state="failed", reason=str(failed), seconds=took, figures=failed.figures)
    return CheckResult(name=check.name, state="passed", seconds=time.monotonic() - began, figures=figures)


NEEDS = "requires a passed check:"
NO_TIME = "no time left"


def _unfinished(check: CheckResult) -> bool:
    """Return whether a check was left out although this Python can run it."""
    return check.state == "skipped" and check.reason.startswith((NEEDS, NO_TIME))


def _print_progress(outcome: CheckResult) -> None:
    print(f"{outcome.name}: {outcome.state} ({outcome.seconds:.0f} s)", flush=True)


def _title(results: Results) -> str:
    found = results.versions
    installed = [f"{name} {version or 'not installed'}" for name, version in found.items() if name != "executable"]
    return f"{results.device['name']}; {', '.join(installed)} ({found['executable']})"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gpu-check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("gpu-check.json"), help="JSON file to write (default: %(default)s)"
    )
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="device to check (default: %(default)s)"
    )
    parser.add_argument("--tiny", action="store_true", help="use models of a few thousand parameters")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time for all checks (default: %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="CHECK", help="run only these checks, by name (default: all)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

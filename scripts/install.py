#!/usr/bin/env python3
"""Make a virtual environment with the locked dependencies; the standard library is all that this file needs.

PyTorch is the one package that comes in builds: on Linux the package index gives the CUDA build, several gigabytes of
it, to whoever asks. Where this machine has no NVIDIA GPU, pip is first asked what it would install; if that is the
CUDA build, uv fetches the CPU build from PyTorch's own index instead. ASSAY_TORCH overrides all of it: whatever pip
takes as arguments, such as a wheel's path.

    python3 scripts/install.py [VENV] [--dev]
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
DEV_LOCK = ROOT / "requirements-dev.lock"


def torch_requirement() -> str:
    """The pinned version of PyTorch, which the lock names in a comment because its build depends on the machine."""
    for line in LOCK.read_text().splitlines():
        if line.startswith("# torch=="):
            return line.removeprefix("# ").strip()
    sys.exit("requirements.lock does not name torch; run `make lock`.")


def has_gpu() -> bool:
    """Whether an NVIDIA GPU answers."""
    if shutil.which("nvidia-smi") is None:
        return False
    return subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0


def run(*command: str | Path) -> None:
    """Run a command whose failure is ours too."""
    result = subprocess.run([str(part) for part in command], check=False)
    if result.returncode:
        sys.exit(f"install: this failed, see above: {shlex.join(str(part) for part in command)}")


def pulls_cuda(python: Path, requirement: str) -> bool:
    """Whether pip, left alone, would install a CUDA build."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        run(python, "-m", "pip", "install", "-qq", "--dry-run", "--ignore-installed", "--report", report, requirement)
        names = {item["metadata"]["name"].lower() for item in json.loads(report.read_text())["install"]}
    return any(name.startswith(("nvidia-", "cuda-", "triton")) for name in names)


def install_torch(python: Path) -> None:
    """Install the build of PyTorch that fits this machine."""
    requirement = torch_requirement()
    chosen = os.environ.get("ASSAY_TORCH")
    if chosen:
        run(python, "-m", "pip", "install", "-q", *shlex.split(chosen))
        return
    version = requirement.partition("==")[2]
    check = f"import sys, torch; sys.exit(torch.__version__.split('+')[0] != {version!r})"
    if subprocess.run([str(python), "-c", check], capture_output=True, check=False).returncode == 0:
        return
    if has_gpu() or not pulls_cuda(python, requirement):
        run(python, "-m", "pip", "install", "-q", requirement)
        return
    print("install: no GPU here, and the index has the CUDA build only; asking PyTorch's own index for the CPU build")
    run(python, "-m", "pip", "install", "-q", "uv")
    result = subprocess.run(
        [str(python), "-m", "uv", "pip", "install", "-q", "--python", str(python), "--torch-backend=cpu", requirement],
        check=False,
    )
    if result.returncode:
        sys.exit(
            "install: PyTorch's CPU build could not be fetched, and the CUDA build of several GB was not taken.\n"
            "Set ASSAY_TORCH to what pip shall install instead: a CPU wheel's path, or ASSAY_TORCH="
            f"'{requirement}' to accept the CUDA build."
        )


def main() -> None:
    """Make or update the environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("venv", nargs="?", default=ROOT / ".venv", type=Path)
    parser.add_argument("--dev", action="store_true", help="also what tests and linters need")
    arguments = parser.parse_args()
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        sys.exit(f"install: this is Python {sys.version.split()[0]}; assay needs 3.11, 3.12 or 3.13 (make PYTHON=...).")
    python = arguments.venv / "bin" / "python"
    if not python.exists():
        print(f"install: making {arguments.venv}", flush=True)
        venv.create(arguments.venv, with_pip=True)
    print("install: PyTorch, then the locked dependencies", flush=True)
    install_torch(python)
    lock = DEV_LOCK if arguments.dev else LOCK
    run(python, "-m", "pip", "install", "-q", "--no-deps", "-r", lock)
    run(python, "-m", "pip", "install", "-q", "--no-deps", "-e", ROOT)


if __name__ == "__main__":
    main()

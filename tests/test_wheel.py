"""The wheel is whole: it installs and runs outside the repository, with its configs, templates and types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_carries_every_config_and_template_and_says_that_it_is_typed(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("conf", "sweeps"):
        for file in (ROOT / folder).rglob("*.yaml"):
            assert f"assay/packaged/{file.relative_to(ROOT)}" in packed
    for file in (ROOT / "src").rglob("*"):
        if file.is_file() and file.suffix in {".py", ".yaml", ".html", ".css", ".js", ".j2", ".typed"}:
            assert str(file.relative_to(ROOT / "src")) in packed
    assert not [name for name in packed if name.endswith((".pyc", ".parquet", ".safetensors")) or "/tests/" in name]


def test_it_plans_the_packaged_sweep_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    env = {**os.environ, "PYTHONPATH": str(site)}

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], cwd=elsewhere, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("-c", "import assay; print(assay.__file__)").startswith(str(site))
    runs = json.loads(run("-m", "assay", "plan", "sweep=code_replace", "--json"))["runs"]
    assert {run["status"] for run in runs} == {"refused"}, "its texts are not here"
    assert "data/text" in runs[0]["reasons"][0]["text"]
    run("-m", "assay", "init", "mine")
    assert (elsewhere / "mine/sweeps/first.yaml").exists()

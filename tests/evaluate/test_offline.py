from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from assay.core.errors import AssayError
from assay.evaluate.offline import use_mirror

READ = """
import sys
from pathlib import Path
{before}
from assay.evaluate.offline import use_mirror
use_mirror(Path(sys.argv[1]))
import datasets, huggingface_hub, json
assert huggingface_hub.is_offline_mode()
print(json.dumps(datasets.load_dataset("baber/piqa")["validation"][0]))
"""


@pytest.mark.parametrize("before", ["", "import datasets, transformers"], ids=["before importing", "after importing"])
def test_datasets_come_from_the_mirror_and_not_from_the_hub(
    before: str, benchmarks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A request to the hub fails at a closed port.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    command = [sys.executable, "-c", READ.format(before=before), str(benchmarks)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert set(json.loads(result.stdout)) == {"goal", "sol1", "sol2", "label"}


def test_a_missing_mirror_is_reported(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="the mirror of the benchmarks does not exist"):
        use_mirror(tmp_path / "benchmarks")


def test_a_read_only_mirror_is_read(benchmarks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror, cache = tmp_path / "mirror", tmp_path / "cache"
    shutil.copytree(benchmarks / "baber___piqa", mirror / "baber___piqa", ignore=shutil.ignore_patterns("cache-*"))
    before = sorted(mirror.rglob("*"))
    for folder in (mirror, *mirror.glob("**/")):
        folder.chmod(0o555)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    # The superuser may write to read-only folders, so the test replaces the check.
    code = "import os; os.access = lambda path, mode: False\n" + READ.format(before="")
    for _ in range(2):
        result = subprocess.run([sys.executable, "-c", code, str(mirror)], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert "goal" in result.stdout
    assert sorted(mirror.rglob("*")) == before
    assert len(list((cache / "assay").iterdir())) == 1

"""Code snapshots: later edits, installations and damage do not affect a submitted job."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path

import pytest

import assay
from assay.core.errors import AssayError
from assay.launch.snapshot import CODE, Snapshot, code_digest, freeze, snapshot_of
from assay.store.runs import Store

FREEZE = """
import json, sys
from assay.launch.snapshot import freeze
from assay.store.runs import Store
frozen = freeze(Store(sys.argv[1]))
print(json.dumps([frozen.digest, str(frozen.path), frozen.environment]))
"""
WHERE = "import assay; print(assay.__file__, assay.__version__)"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Create a separate installation of the package, without a repository."""
    origin = Path(assay.__file__).parent
    shutil.copytree(origin, tmp_path / "site" / "assay", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "site"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Create a small package with data files."""
    folder = tmp_path / "small" / "assay"
    (folder / "inner" / "templates").mkdir(parents=True)
    (folder / "__init__.py").write_text("__version__ = '1'\n")
    (folder / "inner" / "__init__.py").write_text("def fail():\n    raise RuntimeError\n")
    (folder / "inner" / "templates" / "page.html").write_text("<!doctype html>\n")
    return folder


def python(code: str, *arguments: str, env: dict[str, str], cwd: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **env},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def frozen_by(site: Path, store: Path) -> tuple[Snapshot, dict[str, str]]:
    """Return the snapshot and the job variables of a process that runs the code of `site`."""
    digest, path, environment = json.loads(python(FREEZE, str(store), env={"PYTHONPATH": str(site)}))
    return Snapshot(digest, Path(path)), environment


def modules(snapshot: Snapshot) -> list[Path]:
    return sorted((snapshot.path / "assay").rglob("*.py"))


def test_an_edit_after_freezing_does_not_affect_a_process_that_starts_later(site: Path, tmp_path: Path) -> None:
    snapshot, environment = frozen_by(site, tmp_path / "store")
    (site / "assay" / "__init__.py").write_text("__version__ = 'edited'\n")
    shutil.rmtree(site / "assay" / "launch")
    assert python(WHERE, env=environment).split() == [
        str(snapshot.path / "assay" / "__init__.py"),
        assay.__version__,
    ], "though assay is installed in this environment too"
    # The working directory contains the edited code, which `python -m` would search first.
    run = [sys.executable, "-m", "assay", "--version"]
    output = subprocess.run(
        run, env={**os.environ, **environment}, cwd=site, capture_output=True, text=True, check=True
    )
    assert output.stdout.split() == ["assay", assay.__version__]


def test_a_snapshot_contains_templates_and_configs(site: Path, tmp_path: Path) -> None:
    (site / "assay" / "packaged" / "conf").mkdir(parents=True)
    (site / "assay" / "packaged" / "conf" / "config.yaml").write_text("{}\n")
    snapshot, _ = frozen_by(site, tmp_path / "store")
    for path in (site / "assay").rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            assert (snapshot.path / path.relative_to(site)).read_bytes() == path.read_bytes()
    assert (snapshot.path / "assay" / "packaged" / "conf" / "config.yaml").exists()


def test_the_digest_depends_on_names_and_contents_only(package: Path, tmp_path: Path) -> None:
    digest = code_digest(package)
    elsewhere = tmp_path / "elsewhere" / "assay"
    shutil.copytree(package, elsewhere)
    for path in elsewhere.rglob("*"):
        os.utime(path, (0, 0))
        path.chmod(0o700)
    (elsewhere / "__pycache__").mkdir()
    (elsewhere / "__pycache__" / "kernels.nbi").write_bytes(b"machine code")
    (elsewhere / "old.pyc").write_bytes(b"bytecode")
    assert code_digest(elsewhere) == digest


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "__init__.py").write_text("__version__ = '2'\n"),
        lambda folder: (folder / "inner" / "templates" / "page.html").write_text("<!doctype html>"),
        lambda folder: (folder / "inner" / "more.py").write_text(""),
        lambda folder: (folder / "inner" / "__init__.py").unlink(),
        lambda folder: (folder / "inner" / "__init__.py").rename(folder / "inner" / "other.py"),
    ],
    ids=["a module", "a byte less in a template", "an empty file more", "a file less", "a name"],
)
def test_any_change_is_another_digest_and_another_folder(
    package: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    store = Store(tmp_path / "store")
    before = freeze(store, package=package)
    change(package)
    after = freeze(store, package=package)
    assert after.digest != before.digest
    assert after.path != before.path
    assert code_digest(before.path / "assay") == before.digest, "what older jobs run is still there"


def test_the_same_code_is_copied_once(package: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    first = freeze(store, package=package)
    inodes = [path.stat().st_ino for path in modules(first)]
    second = freeze(Store(tmp_path / "store"), package=package)
    assert second == first
    assert [path.stat().st_ino for path in modules(second)] == inodes
    assert [path for path in (tmp_path / "store" / "code").iterdir() if path.is_dir()] == [first.path]


def test_a_snapshot_is_read_only(package: Path, tmp_path: Path) -> None:
    snapshot = freeze(Store(tmp_path / "store"), package=package)
    for path in (snapshot.path / "assay", *(snapshot.path / "assay").rglob("*")):
        assert not path.stat().st_mode & 0o222, path


@pytest.mark.parametrize(
    "damage",
    [
        lambda copy: (copy / "__init__.py").write_text("__version__ = 'edited'\n"),
        lambda copy: (copy / "inner" / "templates" / "page.html").unlink(),
        lambda copy: (copy / "inner" / "added.py").write_text(""),
        lambda copy: Path(cache_from_source(str(copy / "__init__.py"))).write_bytes(b"cut"),
        lambda copy: Path(cache_from_source(str(copy / "inner" / "__init__.py"))).unlink(),
        lambda copy: (copy.parent / "versions.json").write_text("{"),
        lambda copy: (copy.parent / "bytecode.json").unlink(),
    ],
    ids=["edited", "half", "added to", "bytecode cut", "bytecode gone", "versions cut", "bytecode unrecorded"],
)
def test_a_damaged_or_edited_snapshot_is_replaced(
    package: Path, tmp_path: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    store = Store(tmp_path / "store")
    snapshot = freeze(store, package=package)
    everything = [snapshot.path / "assay", *(snapshot.path / "assay").rglob("*")]
    for path in everything:
        path.chmod(path.stat().st_mode | 0o200)
    damage(snapshot.path / "assay")
    for path in filter(Path.exists, everything):
        path.chmod(path.stat().st_mode & ~0o222)
    changed = code_digest(snapshot.path / "assay") != snapshot.digest
    assert freeze(store, package=package) == snapshot
    assert code_digest(snapshot.path / "assay") == snapshot.digest
    assert ("differs from the frozen code" in caplog.text) == changed
    assert python(WHERE, env=snapshot.environment).split() == [str(snapshot.path / "assay" / "__init__.py"), "1"]
    assert sorted(path.name for path in snapshot.path.iterdir()) == ["assay", "bytecode.json", "versions.json"]
    assert json.loads((snapshot.path / "versions.json").read_text())["python"]
    for path in (snapshot.path / "assay", *(snapshot.path / "assay").rglob("*")):
        assert not path.stat().st_mode & 0o222, path
    assert len(list(snapshot.path.parent.iterdir())) == 2, "the folder and its lock; nothing is left over"


def test_modules_are_precompiled_and_loaded_without_a_time_check(package: Path, tmp_path: Path) -> None:
    snapshot = freeze(Store(tmp_path / "store"), package=package)
    for module in modules(snapshot):
        compiled = Path(cache_from_source(str(module))).read_bytes()
        assert compiled[:4] == MAGIC_NUMBER
        assert int.from_bytes(compiled[4:8], "little") == 0b01, "by hash, unchecked (PEP 552)"
        os.utime(module, (0, 0))
    before = {path: path.stat().st_mtime_ns for path in snapshot.path.rglob("*.pyc")}
    fail = "import assay.inner, traceback\ntry: assay.inner.fail()\nexcept RuntimeError: traceback.print_exc(file=sys.stdout)"
    output = python(f"import sys\n{fail}", env=snapshot.environment)
    assert str(snapshot.path / "assay" / "inner" / "__init__.py") in output, "a traceback names the file where it is"
    assert {path: path.stat().st_mtime_ns for path in snapshot.path.rglob("*.pyc")} == before


def test_two_concurrent_processes_get_one_complete_snapshot(site: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FREEZE, str(tmp_path / "store")]
    env = {**os.environ, "PYTHONPATH": str(site)}
    both = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    output = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    (first, path, _), (second, _, _) = map(json.loads, output)
    assert first == second == code_digest(Path(path) / "assay") == code_digest(site / "assay")
    assert sorted(found.name for found in (tmp_path / "store" / "code").iterdir()) == [first[:32], f"{first[:32]}.lock"]


def test_freezing_inside_a_job_returns_the_running_snapshot(site: Path, tmp_path: Path) -> None:
    snapshot, environment = frozen_by(site, tmp_path / "store")
    digest, path, again = json.loads(python(FREEZE, str(tmp_path / "store"), env=environment))
    assert Snapshot(digest, Path(path)) == snapshot
    assert again == environment, "PYTHONPATH does not grow from job to job"
    assert environment[CODE] == snapshot.digest
    elsewhere, _ = frozen_by(snapshot.path, tmp_path / "another")
    assert elsewhere.digest == snapshot.digest
    assert elsewhere.path == tmp_path / "another" / "code" / snapshot.digest[:32]


def test_submission_from_an_edited_snapshot_is_refused(package: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    snapshot = freeze(store, package=package)
    edited = snapshot.path / "assay" / "__init__.py"
    edited.chmod(0o644)
    edited.write_text("__version__ = 'edited'\n")
    with pytest.raises(AssayError, match="edited after the submission"):
        freeze(store, package=snapshot.path / "assay")


def test_existing_path_entries_follow_the_snapshot(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"/tasks{os.pathsep}/plugins")
    snapshot = freeze(Store(tmp_path / "store"), package=package)
    assert snapshot.environment["PYTHONPATH"].split(os.pathsep) == [str(snapshot.path), "/tasks", "/plugins"]


def test_a_relative_store_path_gives_an_absolute_snapshot_path(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert freeze(Store("store"), package=package).path.is_relative_to(tmp_path)


def test_the_versions_that_are_not_frozen_are_recorded(package: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    snapshot = freeze(store, package=package)
    recorded = json.loads((snapshot.path / "versions.json").read_text())
    assert recorded["torch"] == version("torch")
    assert recorded["submitit"] == version("submitit")
    assert "pytest" not in recorded, "assay itself does not need it"
    (snapshot.path / "versions.json").write_text(json.dumps({**recorded, "torch": "1.0", "gone": "2"}))
    freeze(store, package=package)
    assert json.loads((snapshot.path / "versions.json").read_text()) == recorded, "those of the last submission"


def test_a_snapshot_is_found_again_by_its_digest(package: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    snapshot = freeze(store, package=package)
    assert snapshot_of(store, snapshot.digest) == snapshot
    with pytest.raises(AssayError, match="the submitted code is missing"):
        snapshot_of(store, "0" * 64)

"""`assay doctor` checks what a sweep needs, one line per check, and every problem has a fix."""

from __future__ import annotations

import http.server
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assay.cli.doctor_machine import check_disk, check_store
from assay.cli.init_command import init
from assay.config.settings import Tracking
from assay.core.errors import Refused
from assay.report.wandb.login import require_login
from tests.cli.invoke import Said, caller
from tests.report.wandb import wandb_stub

SMALL = ("proxy.hidden_size=16", "proxy.intermediate_size=32", "proxy.layers=1", "proxy.sequence_length=64")
NO_TASKS = ("suite.tasks=[]", "suite.include_path=null", "policy.guardrails=[]")


@pytest.fixture
def assay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The command line in a new project, without a hub."""
    init(tmp_path / "project", as_json=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.delenv("ASSAY_BENCHMARKS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    capsys.readouterr()
    return caller(monkeypatch, capsys)


def test_a_new_project_passes_every_check(assay: Callable[..., Said]) -> None:
    outcome = assay("doctor", "sweep=first", *SMALL, "--json")
    checks = outcome.json
    assert outcome.code == 0, checks
    assert checks.pop("tokens_per_second") > 0
    assert {name for name, check in checks.items() if check["status"] != "ok"} == set()
    assert {"project", "store", "disk", "source my_web", "source my_code", "tokenizer", "benchmarks"} <= set(checks)
    assert {"task sample_trades", "plan", "wandb login"} <= set(checks)


def test_each_check_is_one_line_with_its_status_and_fix(assay: Callable[..., Said]) -> None:
    Path("data/my_web/sample.jsonl").write_text('{"text": "other text"}\n')
    outcome = assay("doctor", "sweep=first", *SMALL, *NO_TASKS)
    assert outcome.code == 1
    *lines, total = outcome.out.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warning", "error"}
    (line,) = [line for line in lines if " source my_web " in line]
    assert line.startswith("error")
    assert "conf/source/my_web.yaml" in line, "the fix names the file"
    assert "error" in total


PROBLEMS = {
    "missing tokenizer": (("~tokenizer.vocabulary", "+tokenizer.file=absent.json"), "tokenizer"),
    "no tokenizer": (("~tokenizer.vocabulary", "+tokenizer.file=sweeps/first.yaml"), "tokenizer"),
    "missing text": (("source.my_web.files=[data/absent/*.jsonl]",), "source my_web"),
    "uncleared text": (("source.my_code.license=null",), "source my_code"),
    "absent mirror": (("paths.benchmarks=absent",), "benchmarks"),
    "W&B without a key": (("tracking.mode=online", "tracking.patience_seconds=20"), "wandb login"),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_problem_is_an_error_with_a_fix(
    assay: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    overrides, name = PROBLEMS[problem]
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HOME", str(Path.cwd()))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    outcome = assay("doctor", "sweep=first", *SMALL, *overrides, "--json")
    assert outcome.code == 1
    assert outcome.json[name]["status"] == "error"
    assert outcome.json[name]["fix"]
    assert "Traceback" not in outcome.err


def test_a_task_without_data_and_the_hub_out_of_reach_are_reported(assay: Callable[..., Said]) -> None:
    Path("evals/sample_trades.jsonl").unlink()
    outcome = assay("doctor", "sweep=first", *SMALL, "suite.tasks=[{task: sample_trades}, {task: arc_easy}]", "--json")
    assert outcome.code == 1
    checks = outcome.json
    assert checks["benchmarks"]["status"] == "warning"
    assert "arc_easy" in checks["benchmarks"]["value"]
    assert "paths.benchmarks" in checks["benchmarks"]["fix"]
    assert {checks["task sample_trades"]["status"], checks["task arc_easy"]["status"]} == {"error"}


@pytest.fixture
def hub() -> Iterator[str]:
    """A server that answers every request with an error, as the hub does without a login."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(403)

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_hub_is_the_default_origin(assay: Callable[..., Said], hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.cli.arguments import load_workspace
    from assay.cli.doctor_sweep import _hub

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", hub)
    del assay
    tasks = "suite.tasks=[{task: arc_easy}]"
    local = _hub(load_workspace(["sweep=first", tasks]))
    assert (local.status, "hub" in local.value) == ("ok", True)
    cluster = _hub(load_workspace(["sweep=first", tasks, "cluster=slurm"]))
    assert cluster.status == "warning"
    assert "HF_HOME" in cluster.fix


def test_a_store_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert check_store(tmp_path / "file").status == "error"
    if os.getuid() != 0:  # root may write everywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        assert check_store(tmp_path / "locked").status == "error"


def test_a_shared_store_with_a_private_umask_is_a_warning(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    store.chmod(0o2775)
    before = os.umask(0o022)
    try:
        assert check_store(store).status == "warning"
        os.umask(0o002)
        assert check_store(store).status == "ok"
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.stat().st_mode) == 0o2775
    assert list(store.iterdir()) == [], "the check leaves nothing behind"


@pytest.mark.parametrize(("factor", "status"), [(0.1, "ok"), (0.75, "warning"), (2.0, "error")])
def test_free_space_is_compared_with_the_need(tmp_path: Path, factor: float, status: str) -> None:
    check = check_disk(tmp_path, needed=int(shutil.disk_usage(tmp_path).free * factor))
    assert check.status == status
    assert bool(check.fix) == (status != "ok")


def test_the_login_is_the_one_that_the_server_accepts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = Tracking(mode="online", project="recipes", entity=None)
    with wandb_stub.serve() as (url, _):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        assert require_login(settings)
        monkeypatch.delenv("WANDB_API_KEY")
        with pytest.raises(Refused, match="no API key"):
            require_login(settings)

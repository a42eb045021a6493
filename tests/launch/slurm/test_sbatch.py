"""What a batch asks SLURM for, and how it is handed over exactly once."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from assay.errors import AssayError
from assay.launch.records import Submission, SubmissionDirectory, SubmittedRun
from assay.launch.slurm.job import places
from assay.launch.slurm.ledger import Batch, Ledger, slices
from assay.launch.slurm.sbatch import hand_over, parameters, probe_script, signal_seconds
from assay.launch.snapshot import freeze
from assay.settings import Cluster, Slurm
from assay.store import Store
from tests.launch.planned import EVALUATION
from tests.launch.slurm.fakes import Commands, commands

__all__ = ["commands"]


def profile(*, timeout_hours: float = 4.0, cpus: int = 2, **slurm: Any) -> Cluster:
    return Cluster(
        name="test",
        executor="slurm",
        cpus_per_worker=cpus,
        device="auto",
        environment={},
        timeout_hours=timeout_hours,
        slurm=Slurm(**slurm),
    )


def script(folder: Path, cluster: Cluster, *, training: bool = True) -> str:
    return probe_script(folder, cluster, training=training).read_text(encoding="utf-8")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    store = Store(tmp_path / "store")
    directory = SubmissionDirectory(store.sweep("tiny") / "submissions" / "20260101T000000-abcdef")
    directory.create(
        Submission(
            id=directory.path.name,
            sweep="tiny",
            created=0.0,
            cluster="test",
            executor="slurm",
            workers=2,
            code=freeze(store).digest,
            digests={},
            runs=tuple(SubmittedRun(fingerprint=letter * 64, mix="base", seed=i) for i, letter in enumerate("abcde")),
            evaluation=EVALUATION,
            study={},
        )
    )
    return Ledger(directory)


def test_a_profile_is_what_the_script_asks_for(tmp_path: Path) -> None:
    text = script(
        tmp_path,
        profile(
            partition="gpu",
            account="pre_training",
            qos="low",
            constraint="a100|h100",
            exclude=("n1", "n2"),
            nodes=2,
            processes_per_node=4,
            gpus_per_node=4,
            memory_gb=1.5,
            setup=("module load cuda",),
            container="image.sqsh",
            container_mounts="/data",
            options={"reservation": "night"},
        ),
    )
    for line in (
        "--partition=gpu",
        "--account=pre_training",
        "--qos=low",
        "--constraint='a100|h100'",
        "--exclude=n1,n2",
        "--nodes=2",
        "--ntasks-per-node=4",
        "--gpus-per-node=4",
        "--cpus-per-task=2",
        "--mem=1536MB",
        "--time=240",
        "--reservation=night",
        "--signal=USR2@60",
        "--requeue",
        "--kill-on-invalid-dep=yes",
    ):
        assert f"#SBATCH {line}\n" in text
    assert "\nmodule load cuda\n" in text
    assert "--container-image=image.sqsh --container-mounts=/data" in text


def test_the_jobs_that_look_after_a_sweep_need_no_gpu(tmp_path: Path) -> None:
    text = script(
        tmp_path, profile(partition="gpu", control_partition="cpu", gpus_per_node=8, qos="big"), training=False
    )
    assert "#SBATCH --partition=cpu\n" in text
    assert "gpus" not in text
    assert "qos" not in text


def test_a_job_asks_for_the_cpus_of_all_runs_that_it_does_side_by_side(tmp_path: Path) -> None:
    text = script(tmp_path, profile(cpus=2, runs_per_job=12, runs_per_gpu=3, gpus_per_node=2))
    assert "#SBATCH --cpus-per-task=12\n" in text


@pytest.mark.parametrize(("hours", "seconds"), [(4.0, 60), (1 / 60, 20), (2 / 60, 40)])
def test_of_a_short_limit_the_grace_takes_a_third_at_most(hours: float, seconds: int) -> None:
    assert signal_seconds(profile(timeout_hours=hours)) == seconds


def test_a_batch_waits_for_what_it_depends_on() -> None:
    batch = Batch(
        number=2, kind="runs", key="k", created=0.0, after=("5", "6"), after_success=("7",), begin_minutes=1.5
    )
    extra = parameters(batch, profile(exclude=("n9",)))["additional_parameters"]
    assert extra["dependency"] == "afterany:5:6,afterok:7"
    assert extra["begin"] == "now+90seconds"


def test_gpus_go_round_among_the_runs_of_a_job() -> None:
    shared = Slurm(gpus_per_node=2, runs_per_gpu=2, runs_per_job=8)
    assert [place["CUDA_VISIBLE_DEVICES"] for place in places(shared, "4,7", 8)] == ["4", "7", "4", "7"]
    assert places(shared, "4,7", 1) == [{"CUDA_VISIBLE_DEVICES": "4"}]
    assert places(Slurm(runs_per_job=3, runs_per_gpu=3), "", 3) == [{}, {}, {}]
    assert places(Slurm(nodes=2, gpus_per_node=2, processes_per_node=2), "0,1", 4) == [{}]


def test_runs_are_sliced_in_the_order_of_the_submission(ledger: Ledger) -> None:
    runs = [letter * 64 for letter in "dbeca"]
    assert [[name[0] for name in part] for part in slices(ledger.directory.read(), runs, 2)] == [
        ["a", "b"],
        ["c", "d"],
        ["e"],
    ]


def test_the_newest_batch_of_a_run_is_its_place_and_causes_are_counted(ledger: Ledger) -> None:
    first = ledger.mean("runs", tasks=[["a" * 64, "b" * 64], ["c" * 64]])
    ledger.record(first, "100")
    again = ledger.mean("runs", tasks=[["b" * 64]], causes={"b" * 64: "node failed"}, exclude=["n3"])
    assert ledger.places()["b" * 64].job is None, "meant, and not known to be handed over"
    ledger.record(again, "200")
    assert {name[0]: place.job for name, place in ledger.places().items()} == {"a": "100_0", "b": "200_0", "c": "100_1"}
    assert ledger.tries() == {"b" * 64: {"node failed": 1}}
    assert first.key != again.key
    assert ledger.jobs("runs") == {"100": first.key, "200": again.key}


def test_an_answer_that_is_lost_does_not_submit_twice(ledger: Ledger, commands: Commands) -> None:
    """sbatch takes the job, and its answer never arrives: SLURM is asked for the key before anything is sent again."""
    batch = ledger.mean("tend")
    commands.fails("sbatch", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
    fields = ("77_[0%1]", "PENDING", "None", "", "0", "0", "2026-01-01T00:00:00", "N/A", "0:00", "1:00:00", batch.key)
    commands.prints("squeue", "\x1f".join(fields) + "\x1f\n")
    handed = hand_over(ledger, batch, profile(), sleep=lambda _: None)
    assert handed.job == "77"
    assert len(commands.calls("sbatch")) == 1
    assert ledger.handed(batch) == handed


def test_a_refusal_is_told_in_sbatchs_words_and_not_tried_again(ledger: Ledger, commands: Commands) -> None:
    commands.fails("sbatch", "sbatch: error: Invalid account or account/partition combination specified")
    batch = ledger.mean("tend")
    with pytest.raises(AssayError, match="Invalid account"):
        hand_over(ledger, batch, profile(), sleep=lambda _: None)
    assert len(commands.calls("sbatch")) == 1
    assert ledger.handed(batch) is None


def test_a_sweep_may_be_called_anything_and_its_jobs_are_found_by_name(tmp_path: Path) -> None:
    """sacct splits names at commas, and shows what is not ASCII as question marks."""
    directory = SubmissionDirectory(Store(tmp_path).sweep("größer, schneller") / "submissions" / "1")
    assert Ledger(directory).mean("tend").key == "assay-gr_er_schneller-1-tend1"


def test_the_script_is_shell_whatever_the_folders_are_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a b'c $(touch hurt)"
    folder.mkdir()
    monkeypatch.chdir(folder)
    subprocess.run(["sh", "-n", probe_script(folder, profile(), training=True)], check=True)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"runs_per_job": 0}, "cluster.slurm.runs_per_job is 0"),
        ({"gpus_per_node": -1}, "cluster.slurm.gpus_per_node is -1"),
        ({"memory_gb": 0.0}, "cluster.slurm.memory_gb is 0.0"),
        ({"partition": "two words"}, "cluster.slurm.partition is 'two words'"),
        ({"nodes": 2, "runs_per_gpu": 2}, "trained by 2 processes, and runs_per_gpu is 2"),
    ],
)
def test_a_profile_that_cannot_be_meant_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(AssayError) as refused:
        Slurm(**values)
    assert said in str(refused.value)


def test_slurms_section_and_executor_belong_together() -> None:
    with pytest.raises(AssayError, match="executor is 'local', and the section `slurm` is there"):
        Cluster(
            name="x",
            executor="local",
            cpus_per_worker=1,
            device="cpu",
            environment={},
            timeout_hours=1.0,
            slurm=Slurm(),
        )

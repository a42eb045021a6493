"""Resources of a batch, and its submission exactly once."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from assay.config.cluster import Cluster, Slurm
from assay.config.compose import compose
from assay.core.errors import AssayError
from assay.launch.slurm.audit.records import AuditDirectory
from assay.launch.slurm.batches import JobBatch, JobKind, Ledger
from assay.launch.slurm.job import assign_gpus
from assay.launch.slurm.monitor import split_runs
from assay.launch.slurm.sbatch import (
    parameters,
    probe_script,
    request_resources,
    signal_seconds,
    submit_arrays,
    submit_batch,
)
from assay.launch.snapshot import freeze
from assay.store.runs import Store
from assay.store.submissions import Submission, SubmissionDirectory, SubmittedRun
from tests.launch.planned_sweeps import EVALUATION
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


def script(folder: Path, cluster: Cluster, kind: JobKind = "runs") -> str:
    return probe_script(folder, cluster, kind).read_text(encoding="utf-8")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger[SubmissionDirectory]:
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


def test_the_script_requests_the_resources_of_the_profile(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"exclusive": True}, "--exclusive"),
        ({"exclusive": "user"}, "--exclusive=user"),
        ({"nice": 100}, "--nice=100"),
        ({"nice": 1e2}, "--nice=100"),
        ({"no_requeue": True}, "--no-requeue"),
        ({"begin": "16:00"}, "--begin=16:00"),
    ],
)
def test_options_may_be_flags_numbers_and_text(tmp_path: Path, options: dict[str, Any], line: str) -> None:
    assert f"#SBATCH {line}\n" in script(tmp_path, profile(options=options))


def test_an_option_of_false_is_left_out(tmp_path: Path) -> None:
    text = script(tmp_path, profile(options={"exclusive": False, "requeue": False}))
    assert "exclusive" not in text
    assert "requeue" not in text


@pytest.mark.parametrize(("gpus", "count"), [("h100:1", 1), ("a100:2,h100:1", 3), ("4", 4), (2, 2)])
def test_gpus_may_have_a_type(tmp_path: Path, gpus: int | str, count: int) -> None:
    cluster = profile(gpus_per_node=gpus, runs_per_job=12, runs_per_gpu=2)
    assert f"#SBATCH --gpus-per-node={gpus}\n" in script(tmp_path, cluster)
    assert request_resources(cluster, "runs").gpus_per_node == count
    assert cluster.slurm is not None
    assert cluster.slurm.at_once == 2 * count


def test_a_profile_file_may_hold_flags_numbers_and_typed_gpus(tmp_path: Path) -> None:
    """The values keep their kind from the file to the script: YAML reads 16:00 as a number to base 60."""
    (tmp_path / "conf/cluster").mkdir(parents=True)
    (tmp_path / "conf/cluster/night.yml").write_text(
        "{executor: slurm, cpus_per_worker: 1, device: auto, environment: {}, timeout_hours: 1, slurm: {gpus_per_node: h100:1, "
        "options: {exclusive: true, nice: 100, begin: 16:00}}}"
    )
    overrides = ["cluster=night", "+cluster.slurm.options.oversubscribe=true", "cluster.slurm.options.nice=7"]
    text = script(tmp_path, compose(overrides, root=tmp_path).cluster)
    for line in ("--exclusive", "--nice=7", "--begin=16:00", "--oversubscribe", "--gpus-per-node=h100:1"):
        assert f"#SBATCH {line}\n" in text


def test_a_monitor_job_requests_no_gpu(tmp_path: Path) -> None:
    text = script(tmp_path, profile(partition="gpu", control_partition="cpu", gpus_per_node=8, qos="big"), "monitor")
    assert "#SBATCH --partition=cpu\n" in text
    assert "gpus" not in text
    assert "qos" not in text


def test_a_job_requests_the_cpus_of_all_its_concurrent_runs(tmp_path: Path) -> None:
    text = script(tmp_path, profile(cpus=2, runs_per_job=12, runs_per_gpu=3, gpus_per_node=2))
    assert "#SBATCH --cpus-per-task=12\n" in text


@pytest.mark.parametrize(("hours", "seconds"), [(4.0, 60), (1 / 60, 20), (2 / 60, 40)])
def test_the_grace_time_is_at_most_a_third_of_the_time_limit(hours: float, seconds: int) -> None:
    assert signal_seconds(profile(timeout_hours=hours)) == seconds


def test_a_batch_has_its_dependencies_and_delay() -> None:
    batch = JobBatch(
        number=2, kind="runs", key="k", created=0.0, after=("5", "6"), after_success=("7",), begin_minutes=1.5
    )
    extra = parameters(batch, profile(exclude=("n9",)))["additional_parameters"]
    assert extra["dependency"] == "afterany:5:6,afterok:7"
    assert extra["begin"] == "now+90seconds"


def test_gpus_are_distributed_over_the_runs_of_a_job() -> None:
    shared = Slurm(gpus_per_node=2, runs_per_gpu=2, runs_per_job=8)
    assert [place["CUDA_VISIBLE_DEVICES"] for place in assign_gpus(shared, "4,7", 8)] == ["4", "7", "4", "7"]
    assert assign_gpus(shared, "4,7", 1) == [{"CUDA_VISIBLE_DEVICES": "4"}]
    assert assign_gpus(Slurm(runs_per_job=3, runs_per_gpu=3), "", 3) == [{}, {}, {}]
    assert assign_gpus(Slurm(nodes=2, gpus_per_node=2, processes_per_node=2), "0,1", 4) == [{}]


def test_runs_are_split_in_the_order_of_the_submission(ledger: Ledger[SubmissionDirectory]) -> None:
    runs = [letter * 64 for letter in "dbeca"]
    assert [[name[0] for name in part] for part in split_runs(ledger.directory.read(), runs, 2)] == [
        ["a", "b"],
        ["c", "d"],
        ["e"],
    ]


def test_the_newest_task_of_a_run_counts_and_retry_causes_are_counted(ledger: Ledger[SubmissionDirectory]) -> None:
    first = ledger.declare("runs", tasks=[["a" * 64, "b" * 64], ["c" * 64]])
    ledger.record(first, "100")
    again = ledger.declare("runs", tasks=[["b" * 64]], causes={"b" * 64: "node failed"}, exclude=["n3"])
    assert ledger.newest_tasks()["b" * 64].job is None, "declared, without a job id"
    ledger.record(again, "200")
    assert {name[0]: place.job for name, place in ledger.newest_tasks().items()} == {
        "a": "100_0",
        "b": "200_0",
        "c": "100_1",
    }
    assert ledger.count_retries() == {"b" * 64: {"node failed": 1}}
    assert first.key != again.key
    assert ledger.jobs("runs") == {"100": first.key, "200": again.key}


def test_an_answer_that_is_lost_does_not_submit_twice(ledger: Ledger[SubmissionDirectory], commands: Commands) -> None:
    """sbatch submits the job, and its answer is lost: the job name is looked up before another attempt."""
    batch = ledger.declare("monitor")
    commands.fails("sbatch", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
    commands.prints("squeue", squeue_row("77_[0%1]", "PENDING", batch.key))
    assert submit_batch(ledger, batch, profile(), sleep=lambda _: None) == "77"
    assert len(commands.calls("sbatch")) == 1
    assert ledger.job(batch) == "77"


def squeue_row(job: str, state: str, name: str) -> str:
    fields = (job, state, "None", "", "0", "0", "2026-01-01T00:00:00", "N/A", "0:00", "1:00:00", name)
    return "\x1f".join(fields) + "\x1f\n"


def test_tasks_beyond_the_array_limit_are_split_over_arrays_with_their_own_causes(
    ledger: Ledger[SubmissionDirectory], commands: Commands
) -> None:
    commands.prints("scontrol", "MaxArraySize = 2\nMaxJobCount = 100\n")
    commands.script("sbatch", f"echo Submitted batch job $(wc -l < {commands.folder}/sbatch.calls)")
    requeued: list[str] = []
    jobs = submit_arrays(
        ledger, "runs", ["a", "b", "c"], profile(), causes={"c": "vanished"}, requeue=requeued.append, exclude=("n1",)
    )
    assert jobs == ["1", "2"]
    batches = [(batch.tasks, batch.causes, batch.exclude) for batch in ledger.batches()]
    assert batches == [((("a",), ("b",)), {}, ("n1",)), ((("c",),), {"c": "vanished"}, ("n1",))]
    assert sorted(requeued) == ["a", "b", "c"]
    assert submit_arrays(ledger, "runs", [], profile()) == []


def test_a_batch_without_a_job_id_is_recovered_by_name_or_is_unknown(
    ledger: Ledger[SubmissionDirectory], commands: Commands
) -> None:
    taken, unknown = ledger.declare("runs", [["a"], ["b"]]), ledger.declare("monitor")
    commands.prints("squeue", squeue_row("77_0", "COMPLETED", taken.key) + squeue_row("77_1", "PENDING", taken.key))
    commands.prints("sacct")
    assert ledger.recover() == [unknown]
    assert ledger.jobs() == {"77": taken.key}
    assert [(task.job, task.items, task.worker) for task in ledger.queued_tasks()] == [("77_1", ("b",), "b1-1")]
    assert {job: state.kind for job, state in ledger.states(ledger.tasks()).items()} == {
        "77_0": "completed",
        "77_1": "pending",
    }


def test_an_audit_uses_the_same_ledger_as_a_sweep(tmp_path: Path) -> None:
    directory = AuditDirectory(tmp_path / "store/audits/.jobs/20260101T000000-abcdef")
    batch = directory.ledger.declare("shards", [["k1", "k2"]])
    assert batch.key == "assay-audits-20260101T000000-abcdef-shards1"
    assert [task.items for task in Ledger(directory).tasks()] == [("k1", "k2")]


def test_audit_jobs_get_the_cores_and_memory_of_one_training_node_without_gpus() -> None:
    cluster = profile(
        partition="gpu", control_partition="cpu", gpus_per_node=4, runs_per_job=4, memory_gb=32.0, qos="big"
    )
    asked = request_resources(cluster, "shards")
    assert (asked.partition, asked.nodes, asked.gpus_per_node, asked.qos) == ("cpu", 1, 0, None)
    assert (asked.cpus_per_node, asked.memory_mb_per_node, asked.minutes) == (8, 32768, 240)
    control = request_resources(cluster, "monitor")
    assert (control.partition, control.cpus_per_node, control.memory_mb_per_node) == ("cpu", 2, 16384)
    assert control.minutes == 60


def test_a_rejected_batch_is_not_retried_and_quotes_sbatch(
    ledger: Ledger[SubmissionDirectory], commands: Commands
) -> None:
    commands.fails("sbatch", "sbatch: error: Invalid account or account/partition combination specified")
    batch = ledger.declare("monitor")
    with pytest.raises(AssayError, match="Invalid account"):
        submit_batch(ledger, batch, profile(), sleep=lambda _: None)
    assert len(commands.calls("sbatch")) == 1
    assert ledger.job(batch) is None


def test_job_names_contain_only_characters_that_slurm_keeps(tmp_path: Path) -> None:
    """sacct splits names at commas, and replaces non-ASCII characters with question marks."""
    directory = SubmissionDirectory(Store(tmp_path).sweep("größer, schneller") / "submissions" / "1")
    assert Ledger(directory).declare("monitor").key == "assay-gr_er_schneller-1-monitor1"


def test_the_script_is_valid_shell_for_any_folder_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a b'c $(touch hurt)"
    folder.mkdir()
    monkeypatch.chdir(folder)
    subprocess.run(["sh", "-n", probe_script(folder, profile(), "runs")], check=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"runs_per_job": 0}, "cluster.slurm.runs_per_job: 0 is invalid"),
        ({"gpus_per_node": -1}, "cluster.slurm.gpus_per_node: -1 is invalid"),
        ({"gpus_per_node": "h100"}, "cluster.slurm.gpus_per_node: 'h100' is invalid; expected a number"),
        ({"options": {"exclusive": ""}}, "or `true` for an option without a value"),
        ({"options": {"--nice": 1}}, "cluster.slurm.options.--nice: the name is invalid"),
        ({"options": {"job_name": "x"}}, "cluster.slurm.options.job_name: assay sets this option to identify its jobs"),
        ({"options": {"reservation": "a\nb"}}, "expected text in one line"),
        ({"memory_gb": 0.0}, "cluster.slurm.memory_gb: 0.0 is invalid"),
        ({"partition": "two words"}, "cluster.slurm.partition: 'two words' is invalid"),
        ({"nodes": 2, "runs_per_gpu": 2}, "expected 1 if 2 processes train a run"),
    ],
)
def test_an_invalid_profile_is_rejected(values: dict[str, Any], message: str) -> None:
    with pytest.raises(AssayError) as refused:
        Slurm(**values)
    assert message in str(refused.value)


def test_the_slurm_section_requires_the_slurm_executor() -> None:
    with pytest.raises(AssayError, match="executor .local. is invalid with a section `slurm`"):
        Cluster(
            name="x",
            executor="local",
            cpus_per_worker=1,
            device="cpu",
            environment={},
            timeout_hours=1.0,
            slurm=Slurm(),
        )

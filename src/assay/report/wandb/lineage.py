"""Create W&B artifacts from source to verdict, each with the names of its inputs.

W&B's client cannot declare the inputs of a run in offline mode. Every artifact therefore lists the names of its inputs
in its own metadata (`from`). In online mode, the client also declares the inputs as uses, from which W&B draws the
lineage graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from assay.core.errors import Damaged, NotFound
from assay.core.fingerprint import SHORT, fingerprint
from assay.corpus.manifest import read_manifest
from assay.report.model import SourceShown, overall_weights
from assay.report.wandb.content import Artifact, Content, artifact_name, clipped, day, tags, wandb_id

if TYPE_CHECKING:
    from assay.config.recipe import RunSpec
    from assay.report.model import Report
    from assay.store.runs import RunDirectory, Status, Store

CHECKPOINT_FILES = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")


def corpora(store: Store, spec: RunSpec) -> dict[str, Artifact]:
    """Return the artifacts of the corpora that a run trains on, by source."""
    return {name: corpus(store, name, identity) for name, identity in spec.corpora.items()}


def corpus(store: Store, name: str, identity: str) -> Artifact:
    """Return the artifact of a tokenized source.

    Without a readable manifest, the artifact has only the identity.
    """
    metadata: dict[str, Any] = {"identity": identity}
    try:
        manifest = read_manifest(store.corpora / identity)
    except (NotFound, Damaged, OSError, KeyError, TypeError, AttributeError):  # deleted, or damaged
        return Artifact(name=artifact_name("corpus", name), type="corpus", description=name, metadata=metadata)
    counted = {key: getattr(manifest, key) for key in ("tokens", "documents", "bytes", "validation_documents")}
    files = {file: record.sha256 for file, record in manifest.files.items()}
    return Artifact(
        name=artifact_name("corpus", name),
        type="corpus",
        description=f"{name}, tokenized: {manifest.tokens:,} tokens of {manifest.documents:,} documents.",
        metadata={
            **metadata,
            **counted,
            "tokenizer": manifest.tokenizer,
            "files": files,
            "from": [f"source-{name}@{manifest.source_digest}"],
        },
    )


def source(shown: SourceShown, digest: str | None) -> Artifact:
    """Return the artifact of a declared source with the digest of its text."""
    return Artifact(
        name=artifact_name("source", shown.name),
        type="source",
        description=shown.description or shown.name,
        metadata={
            "digest": digest,
            "domain": shown.domain,
            "language": shown.language,
            "license": shown.license,
            "clearance": shown.clearance,
            "decided": shown.decided,
            "snapshot": shown.snapshot.isoformat() if shown.snapshot else None,
        },
    )


def mix(name: str, spec: RunSpec) -> Artifact:
    """Return the artifact of a resolved mix: weights over corpora by stage."""
    return Artifact(
        name=artifact_name("mix", name),
        type="mix",
        description=f"{name}: {len(spec.corpora)} sources.",
        metadata={
            "weights": overall_weights(spec),
            "stages": [{"name": stage.name, "steps": stage.steps, "weights": stage.weights} for stage in spec.stages],
            "pools": spec.pools,
            "from": [f"corpus-{source}@{identity}" for source, identity in spec.corpora.items()],
        },
    )


def checkpoint(run: RunDirectory, spec: RunSpec, status: Status, mix_name: str, *, upload: bool) -> Artifact | None:
    """Return the artifact of a run's final weights; None for an untrained run.

    The artifact has the digest and the path of the weights.
    """
    if status.weights is None:
        return None
    files = [name for name in CHECKPOINT_FILES if (run.model / name).exists()] if upload else []
    return Artifact(
        name=f"checkpoint-{run.fingerprint[:SHORT]}",
        type="checkpoint",
        description=f"{mix_name}, seed {spec.seed}, after {spec.tokens:,} tokens.",
        metadata={
            "run": run.fingerprint,
            "sha256": status.weights,
            "path": f"runs/{run.fingerprint}/model",
            "uploaded": bool(files),
            "from": [artifact_name("mix", mix_name), *(f"corpus-{name}@{key}" for name, key in spec.corpora.items())],
        },
        files={name: str(run.model / name) for name in files},
    )


def evaluation(run_fingerprint: str, evaluation_fingerprint: str, scores: Mapping[str, float]) -> Artifact:
    """Return the artifact of a run's scores in one evaluation."""
    return Artifact(
        name=f"evaluation-{run_fingerprint[:SHORT]}",
        type="evaluation",
        description=f"{len(scores)} scores.",
        metadata={
            "run": run_fingerprint,
            "evaluation": evaluation_fingerprint,
            "scores": dict(scores),
            "from": [f"checkpoint-{run_fingerprint[:SHORT]}"],
        },
    )


def prepare_content(store: Store, report: Report) -> Content:
    """Return the W&B run with a sweep's sources, corpora and mixes.

    The lineage of all runs of the sweep begins at this W&B run.
    """
    specs = {run.mix: run.spec for run in report.runs if run.spec is not None}
    identities = {name: key for spec in specs.values() for name, key in spec.corpora.items()}
    made = {name: corpus(store, name, key) for name, key in identities.items()}
    digests = {name: _source_digest(artifact) for name, artifact in made.items()}
    starts = [run.result.status.started for run in report.runs if run.result and run.result.status.started]
    return Content(
        id=wandb_id(fingerprint("wandb prepare", {"sweep": report.sweep.name})),
        name=clipped(f"{day(min(starts, default=None))}_{report.sweep.name}_prepare"),
        group=clipped(report.sweep.name),
        job_type="prepare",
        tags=tags(["prepare", f"sweep:{report.sweep.name}"]),
        notes=f"Training data of {report.sweep.name}: sources, corpora and mixes.",
        config={"kind": "prepare", "sweep": report.sweep.name, "corpora": identities},
        summary={"sources": len(identities), "mixes": len(specs)},
        uses=tuple(source(shown, digests.get(shown.name)) for shown in report.sources if shown.name in identities),
        makes=(*made.values(), *(mix(name, spec) for name, spec in specs.items())),
    )


def _source_digest(made: Artifact) -> str | None:
    inputs = made.metadata.get("from") or [""]
    return str(inputs[0]).partition("@")[2] or None

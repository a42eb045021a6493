"""Artifacts of W&B, from source to verdict: each names what it was made of, whatever W&B itself was told of that.

W&B's client cannot say offline what a run uses, so that every artifact has the names of what it comes from in its own
metadata (`from`); a client that is online declares the same as uses, which is what W&B draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from assay.corpus.manifest import read_manifest
from assay.errors import AssayError
from assay.fingerprint import SHORT, fingerprint
from assay.publish.report import SourceShown, overall_weights
from assay.publish.tracking.content import Artifact, Content, artifact_name, clipped, day, tags, wandb_id

if TYPE_CHECKING:
    from assay.publish.report import Report
    from assay.recipe import RunSpec
    from assay.store import RunDirectory, Status, Store

CHECKPOINT_FILES = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")


def corpora(store: Store, spec: RunSpec) -> dict[str, Artifact]:
    """The corpora that a run trains on, by source."""
    return {name: corpus(store, name, identity) for name, identity in spec.corpora.items()}


def corpus(store: Store, name: str, identity: str) -> Artifact:
    """A tokenised source, as its manifest says it; of one that was deleted the identity is left."""
    metadata: dict[str, Any] = {"identity": identity}
    try:
        manifest = read_manifest(store.corpora / identity)
    except (AssayError, OSError, KeyError, TypeError, AttributeError):  # deleted, or damaged
        return Artifact(name=artifact_name("corpus", name), type="corpus", description=name, metadata=metadata)
    counted = {key: getattr(manifest, key) for key in ("tokens", "documents", "bytes", "validation_documents")}
    files = {file: record.sha256 for file, record in manifest.files.items()}
    return Artifact(
        name=artifact_name("corpus", name),
        type="corpus",
        description=f"{name}, tokenised: {manifest.tokens:,} tokens of {manifest.documents:,} documents.",
        metadata={
            **metadata,
            **counted,
            "tokenizer": manifest.tokenizer,
            "files": files,
            "from": [f"source-{name}@{manifest.source_digest}"],
        },
    )


def source(shown: SourceShown, digest: str | None) -> Artifact:
    """A source as it was declared, and the digest of its text."""
    return Artifact(
        name=artifact_name("source", shown.name),
        type="source",
        description=shown.description or shown.name,
        metadata={
            "digest": digest,
            "domain": shown.domain,
            "language": shown.language,
            "licence": shown.licence,
            "clearance": shown.clearance,
            "decided": shown.decided,
            "snapshot": shown.snapshot.isoformat() if shown.snapshot else None,
        },
    )


def mix(name: str, spec: RunSpec) -> Artifact:
    """A mix, resolved: weights over corpora, stage by stage."""
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
    """A run's final weights: their digest and where the store has them; `None` where it is not trained."""
    if status.weights is None:
        return None
    there = [name for name in CHECKPOINT_FILES if (run.model / name).exists()] if upload else []
    return Artifact(
        name=f"checkpoint-{run.fingerprint[:SHORT]}",
        type="checkpoint",
        description=f"{mix_name}, seed {spec.seed}, after {spec.tokens:,} tokens.",
        metadata={
            "run": run.fingerprint,
            "sha256": status.weights,
            "path": f"runs/{run.fingerprint}/model",
            "uploaded": bool(there),
            "from": [artifact_name("mix", mix_name), *(f"corpus-{name}@{key}" for name, key in spec.corpora.items())],
        },
        files={name: str(run.model / name) for name in there},
    )


def evaluation(run_fingerprint: str, evaluation_fingerprint: str, scores: Mapping[str, float]) -> Artifact:
    """A run's scores on one evaluation."""
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
    """A sweep's sources, corpora and mixes: the run from which the lineage of all its runs begins."""
    specs = {run.mix: run.spec for run in report.runs if run.spec is not None}
    identities = {name: key for spec in specs.values() for name, key in spec.corpora.items()}
    made = {name: corpus(store, name, key) for name, key in identities.items()}
    digests = {name: _source_digest(artifact) for name, artifact in made.items()}
    began = [run.result.status.started for run in report.runs if run.result and run.result.status.started]
    return Content(
        id=wandb_id(fingerprint("wandb prepare", {"sweep": report.sweep.name})),
        name=clipped(f"{day(min(began, default=None))}_{report.sweep.name}_prepare"),
        group=clipped(report.sweep.name),
        job_type="prepare",
        tags=tags(["prepare", f"sweep:{report.sweep.name}"]),
        notes=f"What {report.sweep.name} trains on: its sources, their corpora and the mixes of them.",
        config={"kind": "prepare", "sweep": report.sweep.name, "corpora": identities},
        summary={"sources": len(identities), "mixes": len(specs)},
        uses=tuple(source(one, digests.get(one.name)) for one in report.sources if one.name in identities),
        makes=(*made.values(), *(mix(name, spec) for name, spec in specs.items())),
    )


def _source_digest(made: Artifact) -> str | None:
    came = made.metadata.get("from") or [""]
    return str(came[0]).partition("@")[2] or None

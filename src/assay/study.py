"""Everything that one command was told: sources, mixes, recipe, suite, policy, and the sweep, typed and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay import ablations
from assay.audit.taint import TaintRule
from assay.corpus.tokenizer import TokenizerSpec
from assay.errors import AssayError, did_you_mean
from assay.mixes import MixDeclaration
from assay.plan import Sweep
from assay.recipe import Batch, Budget, Optimiser, ProxyModel, Stage
from assay.settings import Cluster, Clustering, Paths, Tracking
from assay.sources import Source
from assay.structure import from_mapping, to_mapping
from assay.suite import Policy, Suite
from assay.train.settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class Study:
    """A composed configuration."""

    sources: dict[str, Source]
    mixes: dict[str, MixDeclaration]
    proxy: ProxyModel
    optim: Optimiser
    budget: Budget
    batch: Batch
    stages: tuple[Stage, ...]
    tokenizer: TokenizerSpec
    suite: Suite
    policy: Policy
    cluster: Cluster
    training: TrainSettings
    tracking: Tracking
    taint: TaintRule
    clustering: Clustering
    """Of documents, for people to look at. Bears no identity, and records of studies from before have none."""
    paths: Paths
    sweep: Sweep | None
    history: str | None
    """An import, or a file of the project: past results that a verdict may rest on. Bears no identity."""
    raw: dict[str, Any]
    """The plain values that all of it was read from, an ablation's arms in its place; jobs read it again from there."""

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Study:
        """Read a composed configuration.

        Raises:
            AssayError: a key is unknown or missing, or a value is refused; the place is named.
        """
        known = {"source", "mix", "stages", "sweep", "history", "clustering", *_SECTIONS}
        for key in raw:
            if key not in known:
                raise AssayError(f"configuration: no section is called {key!r}. {did_you_mean(str(key), known)}")
        _check_stages(raw.get("stages"))
        sections = {key: from_mapping(kind, _section(raw, key), where=key) for key, kind in _SECTIONS.items()}
        sources = {
            name: from_mapping(Source, {"name": name, **body}, where=f"source {name!r}")
            for name, body in (raw.get("source") or {}).items()
        }
        raw = _expanded(raw, sources, sections["optim"])
        return cls(
            sources=sources,
            mixes={name: MixDeclaration.parse(name, body) for name, body in (raw.get("mix") or {}).items()},
            stages=tuple(from_mapping(Stage, body, where="stages") for body in raw.get("stages") or ()),
            sweep=from_mapping(Sweep, raw["sweep"], where="sweep") if raw.get("sweep") else None,
            history=_history(raw.get("history")),
            clustering=from_mapping(Clustering, raw.get("clustering") or {}, where="clustering"),
            raw=dict(raw),
            **sections,
        )

    @property
    def looks(self) -> tuple[float, ...]:
        """Shares of a run after which it is scored on its way: those asked for, and those that the policy reads."""
        early = () if self.policy.early.stop == "none" else self.policy.early.looks
        return tuple(sorted({*self.training.looks, *self.policy.average.shares, *early}))

    def require_sweep(self) -> Sweep:
        """The sweep, for commands that need one."""
        if self.sweep is None:
            raise AssayError("no sweep was named.", fix="Add `sweep=NAME`; NAME.yaml is a file in sweeps/.")
        return self.sweep


_SECTIONS: dict[str, type[Any]] = {
    "proxy": ProxyModel,
    "optim": Optimiser,
    "budget": Budget,
    "batch": Batch,
    "tokenizer": TokenizerSpec,
    "suite": Suite,
    "policy": Policy,
    "cluster": Cluster,
    "training": TrainSettings,
    "tracking": Tracking,
    "taint": TaintRule,
    "paths": Paths,
}


def _check_stages(stages: Any) -> None:
    if not isinstance(stages, list) or not stages:
        raise AssayError("stages: there is none.", fix="Give at least one, as conf/config.yaml does.")
    if all(isinstance(stage, Mapping) and stage.get("mix") is not None for stage in stages):
        raise AssayError(
            "stages: every one names a mix of its own, so that candidates could not differ.",
            fix="Give `mix: null` to the stage that trains on the mix under test.",
        )


def _expanded(raw: Mapping[str, Any], sources: Mapping[str, Source], optimiser: Optimiser) -> Mapping[str, Any]:
    """The configuration with the arms of the sweep's ablation written out; as it is where it has none."""
    body = dict(raw.get("sweep") or {})
    ablation = body.pop("ablation", None)
    if ablation is None:
        return raw
    where = f"sweep {body.get('name')!r}"
    if "arms" in body or not isinstance(body.get("baseline"), str):
        raise AssayError(f"{where}: an ablation makes its own `arms`, and needs a `baseline` to make them of.")
    mixes = {name: MixDeclaration.parse(name, mix) for name, mix in (raw.get("mix") or {}).items()}
    setting = ablations.Setting(
        baseline=body["baseline"],
        candidates=tuple(body.get("candidates") or ()),
        mixes=mixes,
        sources=sources,
        stages=tuple(from_mapping(Stage, stage, where="stages") for stage in raw["stages"]),
        optimiser=optimiser,
    )
    made = ablations.expand(ablations.parse_ablation(ablation), setting)
    arms = {"baseline": made.baseline, "candidates": list(made.candidates), "arms": [*map(to_mapping, made.arms)]}
    return {
        **raw,
        "mix": {**raw["mix"], **made.mixes},
        "stages": [to_mapping(stage) for stage in made.stages],
        "sweep": {**body, **arms},
    }


def _history(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise AssayError(f"history: {value!r} is no name.", fix="Name an import or a file, or leave it null.")


def _section(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    body = raw.get(key)
    if not isinstance(body, Mapping):
        raise AssayError(f"configuration: the section {key!r} is missing.", fix=f"Choose one with `{key}=NAME`.")
    return body

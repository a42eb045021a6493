"""Parse the composed configuration of one command into typed and validated values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from assay.config import ablations
from assay.config.cluster import Cluster
from assay.config.mixes import MixDeclaration
from assay.config.policy import Policy
from assay.config.recipe import BatchSize, Budget, Optimizer, ProxyModel, Stage
from assay.config.settings import Paths, TopicDefaults, Tracking
from assay.config.sources import Source
from assay.config.suite import Suite
from assay.config.sweep import Sweep
from assay.config.taint import TaintRule
from assay.config.tokenizer import TokenizerSpec
from assay.config.training import TrainSettings
from assay.core.errors import ConfigError, did_you_mean
from assay.core.serde import from_mapping, to_mapping


@dataclass(frozen=True, kw_only=True)
class OverriddenEntry:
    """A source or mix whose keys come from more than one place."""

    catalog: Literal["source", "mix"]
    """Kind of the entry."""
    name: str
    """Name of the source or mix."""
    files: dict[str, str] = field(hash=False)
    """File of each key, relative to the project, or `the command line`."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A composed configuration."""

    sources: dict[str, Source]
    """Declared sources by name (`conf/source/`)."""
    mixes: dict[str, MixDeclaration]
    """Declared mixes by name (`conf/mix/`, and those of an ablation)."""
    proxy: ProxyModel
    """Shape of the proxy model."""
    optim: Optimizer
    """Optimizer and learning rate."""
    budget: Budget
    """Tokens of a run."""
    batch: BatchSize
    """Sequences of one optimizer step."""
    stages: tuple[Stage, ...]
    """Parts of a run, in order."""
    tokenizer: TokenizerSpec
    """Tokenizer of all corpora."""
    suite: Suite
    """Tasks that a run is scored on."""
    policy: Policy
    """Requirements of the gate."""
    cluster: Cluster
    """Profile of the machine or cluster that trains the runs."""
    training: TrainSettings
    """Settings of the trainer that do not affect the weights."""
    tracking: Tracking
    """Logging to W&B."""
    taint: TaintRule
    """Conditions under which a source may not be used for training."""
    topics: TopicDefaults
    """Default options of `assay audit topics`. They do not affect a run's identity. Earlier versions do not record
    them."""
    paths: Paths
    """Folders."""
    sweep: Sweep | None
    """The sweep, if the command names one."""
    history: str | None
    """Past results for verdicts about the target: a name of external results, or a file of the project. These results
    do not affect a run's identity."""
    overridden: tuple[OverriddenEntry, ...] = ()
    """Sources and mixes with keys that a sweep's file or the command line overrides. Earlier versions do not record
    them."""
    raw: dict[str, Any]
    """Plain values of the configuration, with an ablation expanded. Jobs read the study from these values."""

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Study:
        """Read a composed configuration.

        Raises:
            ConfigError: a key is unknown or missing, or a value is invalid. The message names the section.
        """
        known = {"source", "mix", "stages", "sweep", "history", "topics", "overridden", *_SECTIONS}
        for key in raw:
            if key not in known:
                raise ConfigError(f"configuration: no section is called {key!r}. {did_you_mean(str(key), known)}")
        stages = _stages(raw.get("stages"))
        sections = {key: from_mapping(kind, _section(raw, key), where=key) for key, kind in _SECTIONS.items()}
        sources = {
            name: from_mapping(Source, {"name": name, **body}, where=f"source {name!r}")
            for name, body in _entries(raw, "source").items()
        }
        _check_tokenizer_sources(sections["tokenizer"], sources)
        given, raw = raw, _expanded(raw, sources, sections["optim"])
        return cls(
            sources=sources,
            mixes={name: MixDeclaration.parse(name, body) for name, body in _entries(raw, "mix").items()},
            stages=stages if raw is given else _stages(raw["stages"]),
            sweep=from_mapping(Sweep, raw["sweep"], where="sweep") if raw.get("sweep") is not None else None,
            history=_history(raw.get("history")),
            topics=from_mapping(TopicDefaults, raw.get("topics") or {}, where="topics"),
            overridden=tuple(
                from_mapping(OverriddenEntry, entry, where="overridden") for entry in raw.get("overridden") or ()
            ),
            raw=dict(raw),
            **sections,
        )

    @property
    def interim_fractions(self) -> tuple[float, ...]:
        """Fractions of a run after which it is evaluated, from training settings and policy."""
        early = () if self.policy.early_stopping.stop == "none" else self.policy.early_stopping.interim_analyses
        return tuple(sorted({*self.training.interim_evaluations, *self.policy.average.shares, *early}))

    @property
    def task_folder(self) -> Path | None:
        """Folder of the suite's own lm-eval tasks; None without own tasks."""
        include_path = self.suite.include_path
        return None if include_path is None else self.paths.resolve(include_path)

    def require_sweep(self) -> Sweep:
        """Return the sweep; raise an error for a study without a sweep."""
        if self.sweep is None:
            raise ConfigError(
                "sweep: no sweep is selected.", fix="Add `sweep=NAME` to select the file sweeps/NAME.yaml."
            )
        return self.sweep


_SECTIONS: dict[str, type[Any]] = {
    "proxy": ProxyModel,
    "optim": Optimizer,
    "budget": Budget,
    "batch": BatchSize,
    "tokenizer": TokenizerSpec,
    "suite": Suite,
    "policy": Policy,
    "cluster": Cluster,
    "training": TrainSettings,
    "tracking": Tracking,
    "taint": TaintRule,
    "paths": Paths,
}


def _check_tokenizer_sources(tokenizer: TokenizerSpec, sources: Mapping[str, Source]) -> None:
    for name in tokenizer.sources:
        if name in sources and sources[name].role == "validation":
            raise ConfigError(
                f"tokenizer {tokenizer.name!r}: source {name!r} is invalid; expected a source without `role: validation`.",
                fix=f"Remove {name} from the tokenizer's `sources`.",
            )


def _entries(raw: Mapping[str, Any], catalog: str) -> dict[str, Mapping[str, Any]]:
    """Return the sources or mixes of a configuration by name."""
    entries = raw.get(catalog)
    if entries is None:
        return {}
    if not isinstance(entries, Mapping):
        raise ConfigError(
            f"{catalog}: a {type(entries).__name__} is invalid; expected a mapping by name.",
            fix="Write the keys of each entry below its name.",
        )
    for name, body in entries.items():
        if not isinstance(body, Mapping):
            raise ConfigError(
                f"{catalog} {name!r}: a {type(body).__name__} is invalid; expected a mapping of its keys.",
                fix="Write `key: value` pairs.",
            )
    return dict(entries)


def _stages(stages: Any) -> tuple[Stage, ...]:
    if not isinstance(stages, list) or not stages:
        raise ConfigError("`stages` is empty; expected at least one stage, as in conf/config.yaml.", fix="Add a stage.")
    parsed = tuple(from_mapping(Stage, stage, where="stages") for stage in stages)
    if all(stage.mix is not None for stage in parsed):
        raise ConfigError(
            "stages: every stage names a mix, so all arms would be the same; expected at least one stage with `mix: null`.",
            fix="Set `mix: null` in the stage that trains on the mix under test.",
        )
    return parsed


def _expanded(raw: Mapping[str, Any], sources: Mapping[str, Source], optimizer: Optimizer) -> Mapping[str, Any]:
    """Replace the sweep's ablation, if any, by its arms, mixes and stages."""
    sweep = raw.get("sweep")
    if sweep is not None and not isinstance(sweep, Mapping):
        raise ConfigError(
            f"sweep: a {type(sweep).__name__} is invalid; expected a mapping.",
            fix="Select a file with `sweep=NAME`.",
        )
    body = dict(sweep or {})
    ablation = body.pop("ablation", None)
    if ablation is None:
        return raw
    where = f"sweep {body.get('name')!r}"
    candidates = body.get("candidates") or ()
    if not isinstance(candidates, list | tuple):
        raise ConfigError(
            f"{where}: `candidates` is a {type(candidates).__name__}; expected a list of mixes.",
            fix="Write for example `candidates: [more_code]`.",
        )
    if "arms" in body or not isinstance(body.get("baseline"), str):
        raise ConfigError(
            f"{where}: an ablation needs a `baseline` and defines the arms.", fix="Set `baseline`, and remove `arms`."
        )
    mixes = {name: MixDeclaration.parse(name, mix) for name, mix in _entries(raw, "mix").items()}
    setting = ablations.AblationSetting(
        baseline=body["baseline"],
        candidates=tuple(candidates),
        mixes=mixes,
        sources=sources,
        stages=tuple(from_mapping(Stage, stage, where="stages") for stage in raw["stages"]),
        optimizer=optimizer,
    )
    expansion = ablations.expand(ablations.parse_ablation(ablation), setting)
    arms = {
        "baseline": expansion.baseline,
        "candidates": list(expansion.candidates),
        "arms": [to_mapping(arm) for arm in expansion.arms],
    }
    return {
        **raw,
        "mix": {**_entries(raw, "mix"), **expansion.mixes},
        "stages": [to_mapping(stage) for stage in expansion.stages],
        "sweep": {**body, **arms},
    }


def _history(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise ConfigError(
        f"history: {value!r} is invalid; expected a name of external results, a file or null.",
        fix="Write `history=NAME`, `history=FILE` or `history=null`.",
    )


def _section(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    body = raw.get(key)
    if body is None:
        raise ConfigError(f"configuration: the section {key!r} is missing.", fix="Restore it, as in conf/config.yaml.")
    if not isinstance(body, Mapping):
        raise ConfigError(
            f"{key}: a {type(body).__name__} is invalid; expected a mapping of its keys.",
            fix="Write `key: value` pairs.",
        )
    return body

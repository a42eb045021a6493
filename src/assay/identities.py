"""What a study's names stand for on this machine: digests of sources, corpora, weights, the specs of runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.arms import Arm
from assay.audit.taint import Taint, Taints, Unreadable
from assay.corpus.manifest import corpus_identity, read_manifest
from assay.corpus.read import source_digest
from assay.corpus.tokenizer import make_tokenizer, tokenizer_identity
from assay.errors import AssayError, did_you_mean
from assay.evaluate.harness import harness_version
from assay.evaluate.mirror import mirror_digest
from assay.files import read_json, write_json
from assay.fingerprint import fingerprint
from assay.mixes import Mix, cap_epochs, cap_of, is_natural, names_of, resolve
from assay.recipe import RunSpec, StageSpec, split_steps
from assay.store import Store
from assay.suite import EvaluationSpec

if TYPE_CHECKING:
    from assay.corpus.loader import SequenceReader
    from assay.sources import Source
    from assay.study import Study

Progress = Callable[[str, float], None]
"""Told what is being made and which share of it is done."""

WEIGHT_DIGITS = 12
"""Weights are identity to this many digits, so that the order of additions in an edit makes no new run."""


class Identities:
    """Where a study's names become identities, and identities become files."""

    def __init__(
        self, study: Study, *, digests: Mapping[str, str] | None = None, evaluation: EvaluationSpec | None = None
    ) -> None:
        """Take up a study, as it is now or as it was frozen when it was submitted.

        Args:
            study: what the command was told.
            digests: of sources by name, where they are frozen: text is taken for what it was then.
            evaluation: the evaluation of every run, where it is frozen.
        """
        self.study = study
        self._evaluation = evaluation
        self.store = Store(study.paths.resolve(study.paths.store))
        self._digests: dict[str, str] = dict(digests or {})
        self._tokens: dict[str, int] = {}
        self._records: dict[str, tuple[Path, str]] = {}
        self._corpora: dict[str, str] = {}
        self._specs: dict[str, RunSpec] = {}

    # --- sources and corpora

    def source(self, name: str) -> Source:
        """A declared source, its relative files taken from the project's root."""
        if name not in self.study.sources:
            raise AssayError(f"no source is called {name!r}. {did_you_mean(name, self.study.sources)}")
        source = self.study.sources[name]
        files = tuple(file if "://" in file else str(self.study.paths.resolve(file)) for file in source.files)
        return replace(source, files=files)

    def digest(self, name: str) -> str:
        """SHA-256 of a source's files."""
        if name not in self._digests:
            self._digests[name] = self._digest(self.source(name))
        return self._digests[name]

    def _digest(self, source: Source) -> str:
        """From the files; where they were moved away, what they were when their corpus was made.

        Raw text is archived once it is tokenised. What was trained on it keeps its identity and its verdict.
        """
        declared = fingerprint("declaration", [source.name, list(source.files), source.format, source.text_field])
        record = self.store.corpora / "sources" / f"{declared[:32]}.json"
        try:
            digest = source_digest(source, cache=self.store.root)
        except AssayError:
            with contextlib.suppress(FileNotFoundError, AssayError, KeyError, TypeError):
                return str(read_json(record)["digest"])
            raise
        self._records[source.name] = (record, digest)
        return digest

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Every source that the sweep trains on or measures: of its arms that may be trained, and of its tokenizer."""
        arms = [mix for mix in self.study.require_sweep().mixes if not self._source_refusals(mix)]
        used = {name for mix in arms for stage in self._mixes_of(mix) for name in self.names(stage)}
        return tuple(sorted(used | set(self.tokenizer.sources)))

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer's declaration; one that names no sources is trained on the baseline's."""
        spec = self.study.tokenizer
        if spec.file is not None:
            return replace(spec, file=str(self.study.paths.resolve(spec.file)))
        if spec.sources:
            return spec
        return replace(spec, sources=self.names(self.study.require_sweep().baseline))

    @cached_property
    def tokenizer_id(self) -> str:
        """Identity of the tokenizer."""
        return tokenizer_identity(self.tokenizer, {name: self.digest(name) for name in self.tokenizer.sources})

    def tokenizer_folder(self) -> Path:
        """Where the tokenizer is, or will be."""
        return self.store.tokenizers / self.tokenizer_id

    def corpus_id(self, name: str) -> str:
        """Identity of a source's corpus; known before the corpus is made."""
        if name not in self._corpora:
            self._corpora[name] = corpus_identity(self.digest(name), self.tokenizer_id)
        return self._corpora[name]

    def tokens_of(self, names: Iterable[str]) -> dict[str, int]:
        """Training tokens of those sources whose corpus was made."""
        for name in names:
            if name not in self._tokens:
                try:
                    manifest = read_manifest(self.store.corpora / self.corpus_id(name))
                except AssayError:
                    continue  # not made, or its files are missing; who needs the source is told so by `plan`
                self._tokens[name] = manifest.tokens
        return {name: self._tokens[name] for name in names if name in self._tokens}

    @property
    def tokens(self) -> dict[str, int]:
        """Training tokens of the sweep's sources, where they are known."""
        return self.tokens_of(self.sources)

    @property
    def bytes_per_token(self) -> dict[str, float]:
        """Of the training text of the sweep's sources, where they are tokenised."""
        manifests = {name: read_manifest(self.store.corpora / self.corpus_id(name)) for name in self.tokens}
        return {name: one.bytes / one.tokens for name, one in manifests.items() if one.tokens}

    def prepare(self, sources: Iterable[str] | None = None, *, progress: Progress | None = None) -> dict[str, Path]:
        """Make the tokenizer and the corpora that are missing.

        Returns:
            The folder of each corpus, by source.
        """

        def tell(what: str) -> Callable[[float], None] | None:
            return None if progress is None else lambda share: progress(what, share)

        from assay.corpus.build import prepare  # NumPy comes with it, and most commands look only

        spec, names = self.tokenizer, tuple(self.sources if sources is None else sources)
        for name in {*names, *spec.sources}:
            refusal = self.source(name).refusal
            if refusal:
                raise AssayError(f"{refusal}; it is not tokenised.")
        make_tokenizer(
            spec,
            {name: self.source(name) for name in spec.sources},
            self.tokenizer_id,
            self.store.tokenizers,
            digests={name: self.digest(name) for name in spec.sources},
            progress=tell("tokenizer"),
        )
        for name in names:
            prepare(
                self.source(name),
                digest=self.digest(name),
                tokenizer=self.tokenizer_folder(),
                identity=self.corpus_id(name),
                folder=self.store.corpora,
                progress=tell(name),
            )
            if name in self._records:
                record, digest = self._records[name]
                write_json(record, {"source": name, "digest": digest})
        return {name: self.store.corpora / self.corpus_id(name) for name in names}

    @property
    def digests(self) -> dict[str, str]:
        """Of the sweep's sources, for jobs that are to take them for what they are now."""
        return {name: self.digest(name) for name in self.sources}

    # --- mixes and runs

    def arm(self, name: str) -> Arm:
        """An arm of the sweep; a mix that is none changes nothing but the mix."""
        return Arm(name=name) if self.study.sweep is None else self.study.sweep.arm(name)

    def _pooled(self, name: str) -> tuple[str, ...]:
        """Sources of an arm whose size decides its pools."""
        arm = self.arm(name)
        if arm.target_tokens is None:
            return tuple(arm.epochs)
        return tuple(source for mix in self._mixes_of(name) for source in self.names(mix))

    def available(self, name: str, sources: Iterable[str]) -> dict[str, int]:
        """Training tokens of those sources whose corpus was made, as an arm has them: of a pool, where it is shrunk."""
        tokens = self.tokens_of(sources)
        if not self.arm(name).pooled or self.waiting(name):
            return tokens
        with contextlib.suppress(AssayError):  # pools that cannot be made; `plan` says why
            pools = self.spec(name, 0).pools or {}
            return {source: pools.get(source, count) for source, count in tokens.items()}
        return tokens

    def _mixes_of(self, arm: str) -> list[str]:
        """The mixes that an arm of the sweep trains on, stage by stage."""
        return [stage.mix or arm for stage in self.study.stages]

    def touched(self, mix: str) -> list[str]:
        """Every source that decides an arm's weights: of the mixes of its stages, and of the tokenizer."""
        names = {name for stage in self._mixes_of(mix) for name in self.names(stage)}
        return sorted(names | set(self.tokenizer.sources))

    @cached_property
    def taints(self) -> Taints:
        """What audits found in the sources."""
        return Taints(self.store.root, self.study.taint)

    def tainted(self, mix: str) -> list[Taint | Unreadable]:
        """The defects of an arm's sources that nobody has waived, and what was found but cannot be read."""
        found: list[Taint | Unreadable] = []
        for name in self.touched(mix):
            try:
                digest = self.digest(name)
            except AssayError:  # not there: `_source_refusals` says so
                continue
            try:
                found += self.taints.of(self.source(name), digest)
            except AssayError as error:
                found.append(Unreadable(source=name, digest=digest, problem=error.what.rstrip(".")))
        return found

    def _source_refusals(self, mix: str) -> list[str]:
        """Sources of an arm, and of the tokenizer, that are not cleared or not there."""
        found = []
        for name in self.touched(mix):
            refusal = self.source(name).refusal
            if refusal:
                found.append(refusal)
                continue
            unstated = self.study.taint.unstated(self.source(name))
            if unstated:
                found.append(f"source {name!r} does not state its {', '.join(unstated)} (taint.provenance asks for it)")
            try:
                self.digest(name)
                if name not in self._records and not (self.store.corpora / self.corpus_id(name)).exists():
                    source_digest(self.source(name), cache=self.store.root)  # says what is missing
            except AssayError as error:
                found.append(str(error).replace("\n", " "))
        return found

    def mix(self, name: str) -> Mix:
        """A declared mix, resolved.

        Raises:
            AssayError: it cannot be; or it is in natural proportion to sources that are not tokenised yet.
        """
        names = self.names(name)
        tokens = self.tokens_of(names) if is_natural(name, self.study.mixes) else None
        return resolve(name, self.study.mixes, self.study.sources, tokens=tokens)

    def names(self, mix: str) -> tuple[str, ...]:
        """A mix's sources, which are known before its weights are."""
        return names_of(mix, self.study.mixes, self.study.sources)

    def _by_size(self, name: str) -> bool:
        """Whether a mix's weights depend on how many tokens its sources have."""
        return is_natural(name, self.study.mixes) or cap_of(name, self.study.mixes) is not None

    @cached_property
    def _mixes_used(self) -> tuple[str, ...]:
        sweep = self.study.require_sweep()
        return tuple(dict.fromkeys([*sweep.mixes, *(s.mix for s in self.study.stages if s.mix is not None)]))

    def waiting(self, mix: str) -> str | None:
        """What has to be made before the arm's weights and pools are known; ``None`` where they are."""
        names = {name for one in self._mixes_of(mix) if self._by_size(one) for name in self.names(one)}
        names |= set(self._pooled(mix))
        unknown = sorted(names - set(self.tokens_of(names)))
        if not unknown:
            return None
        what = "weights and pools" if self.arm(mix).pooled else "weights"
        return f"never run; its {what} are known once {', '.join(unknown)} are tokenised (`assay prepare`)"

    def unmeasured(self) -> list[str]:
        """Sources that have to be tokenised before the sweep's weights and pools are known."""
        found = {source for name in self._mixes_used if self._by_size(name) for source in self.names(name)}
        found |= {source for name in self.study.require_sweep().mixes for source in self._pooled(name)}
        cleared = {source for source in found if self.study.sources[source].refusal is None}
        return sorted(cleared - set(self.tokens_of(cleared)))

    @cached_property
    def vocabulary(self) -> int:
        """Size of the tokenizer's vocabulary, which is known once it is made, or was declared."""
        if self.study.tokenizer.vocabulary is not None:
            return self.study.tokenizer.vocabulary
        from tokenizers import Tokenizer

        return int(Tokenizer.from_file(self.tokenizer.file).get_vocab_size())

    @property
    def parameters(self) -> int:
        """Trainable parameters of the proxy."""
        return self.study.proxy.parameters(self.vocabulary)

    @property
    def steps(self) -> int:
        """Optimiser steps of a run: the budget in whole steps."""
        step = self.study.batch.sequences * self.study.proxy.sequence_length
        budget = self.study.budget.resolve(self.parameters)
        if budget < step:
            raise AssayError(
                f"budget: {budget:,} tokens are less than one step of {step:,}.", fix="Raise budget.tokens."
            )
        return budget // step

    @property
    def budget(self) -> int:
        """Tokens of a run, in whole steps."""
        return self.steps * self.study.batch.sequences * self.study.proxy.sequence_length

    def weights(
        self, name: str, tokens: int, *, taken: Mapping[str, float] | None = None, arm: str | None = None
    ) -> dict[str, float]:
        """A mix's weights under its cap on epochs, for so many tokens after so many that were taken before.

        Args:
            name: the mix.
            tokens: of the stretch of the run that trains on it.
            taken: by source, of the stretches before.
            arm: whose run it is, where that is not the arm of the mix's name.
        """
        mix = self.mix(name)
        if mix.max_epochs is None:
            return mix.weights
        tokens_of = self.tokens_of(mix.weights)
        unknown = [source for source in mix.weights if source not in tokens_of]
        if unknown:
            raise AssayError(
                f"mix {name!r}: max_epochs needs the tokens of {', '.join(unknown)}, which are not tokenised yet.",
                fix="Run `assay prepare` with the same arguments first; `assay submit` does it by itself.",
            )
        return cap_epochs(mix, tokens, self.arm(arm or name).available(tokens_of, self.budget), taken)

    def spec(self, mix: str, seed: int) -> RunSpec:
        """The spec of one run: everything that decides its weights."""
        if mix not in self._specs:
            self._specs[mix] = self._first_spec(mix)
        return replace(self._specs[mix], seed=seed)

    def _first_spec(self, mix: str) -> RunSpec:
        """The spec of a mix's seed 0, from which those of its other seeds differ in the seed alone."""
        study, arm = self.study, self.arm(mix)
        counts = split_steps(study.stages, self.steps)
        per_step = study.batch.sequences * study.proxy.sequence_length
        stages, taken = [], dict.fromkeys(study.sources, 0.0)
        for stage, steps in zip(study.stages, counts, strict=True):
            weights = self.weights(stage.mix or mix, steps * per_step, taken=taken, arm=mix)
            for name, weight in weights.items():
                taken[name] += weight * steps * per_step
            rounded = {name: round(weight, WEIGHT_DIGITS) for name, weight in weights.items()}
            stages.append(StageSpec(name=stage.name, weights=rounded, steps=steps, anneal=stage.anneal))
        used = sorted({name for stage in stages for name in stage.weights})
        return RunSpec(
            model=study.proxy,
            vocabulary=self.vocabulary,
            tokenizer=self.tokenizer_id,
            corpora={name: self.corpus_id(name) for name in used},
            stages=tuple(stages),
            optimiser=arm.optimiser(study.optim),
            batch_sequences=study.batch.sequences,
            seed=0,
            pools=arm.pools(
                {name: taken[name] for name in used},
                self.tokens_of(used) if arm.pooled else {},
                budget=self.budget,
                least=study.proxy.sequence_length,
            ),
            dropout=arm.dropout,
        )

    def labels(self, mix: str, seed: int) -> dict[str, Any]:
        """What people call a run."""
        sweep = self.study.require_sweep()
        about = sweep.arm(mix).about
        return {
            "sweep": sweep.name,
            "mix": mix,
            "seed": seed,
            "role": "baseline" if mix == sweep.baseline else "candidate",
            "proxy": self.study.proxy.name,
            "parameters": self.parameters,
            **({"arm": about} if about else {}),
        }

    def reader(self, spec: RunSpec) -> SequenceReader:
        """The data of a run, from corpora that were made."""
        from assay.corpus.loader import SequenceReader
        from assay.corpus.shards import Corpus

        return SequenceReader(
            {name: Corpus.open(self.store.corpora / identity) for name, identity in spec.corpora.items()},
            [(stage.weights, stage.steps * spec.batch_sequences) for stage in spec.stages],
            seed=spec.seed,
            sequence_length=spec.model.sequence_length,
            pools=spec.pools,
        )

    # --- evaluation

    @property
    def mirror(self) -> Path | None:
        """The local mirror of the benchmarks, where one is configured."""
        benchmarks = self.study.paths.benchmarks
        return None if benchmarks is None else self.study.paths.resolve(benchmarks)

    @cached_property
    def evaluation(self) -> EvaluationSpec:
        """The evaluation that every run of the sweep gets: the same for every arm."""
        if self._evaluation is not None:
            return self._evaluation
        suite = self.study.suite
        validation = {name: self.corpus_id(name) for name in self.sources} if suite.validation_bytes else {}
        return EvaluationSpec(
            tasks=suite.tasks,
            batch_size=suite.batch_size,
            validation_bytes=suite.validation_bytes,
            validation=validation,
            harness=harness_version(),
            datasets="hub" if self.mirror is None or not suite.tasks else mirror_digest(self.mirror),
        )

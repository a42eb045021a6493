"""Resolve declared sources to digests, corpora, token counts and taints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from assay.audit.taint import Taints, blocks
from assay.config.mixes import names_of
from assay.config.reason import Code, Reason
from assay.core.errors import AssayError, ConfigError, Damaged, NotFound, Refused, did_you_mean
from assay.core.files import read_json, write_json
from assay.core.fingerprint import fingerprint
from assay.corpus.content_check import check_content
from assay.corpus.encoder import TextEncoder
from assay.corpus.manifest import Manifest, corpus_identity, read_manifest
from assay.corpus.round_trip import PROBE, measure_round_trip
from assay.corpus.source_notes import listing_notes
from assay.corpus.source_reader import source_digest
from assay.corpus.tokenizer import tokenizer_identity
from assay.corpus.tokenizer_file import EndToken, TokenizerFile

if TYPE_CHECKING:
    from assay.config.sources import ClearanceState, Source
    from assay.config.study import Study
    from assay.config.tokenizer import TokenizerSpec
    from assay.store.runs import Store


PROMPT_ENCODING = 2
"""Current version of the encoding in evaluations, which encodes text as in training; see `EvaluationSpec.encoding`."""


class SourceIndex:
    """The declared sources of a study, with the identities of texts, corpora and the tokenizer."""

    def __init__(
        self,
        study: Study,
        store: Store,
        *,
        digests: Mapping[str, str] | None = None,
        tokenizer_id: str | None = None,
    ) -> None:
        """Index the sources of a study.

        Args:
            study: declares the sources, the tokenizer and the taint rule.
            store: contains the corpora and the audit findings.
            digests: frozen digests by source. The index does not read the files of these sources.
            tokenizer_id: identity of the tokenizer of submitted runs (default: derived from its file or sources).
        """
        self.study: Final = study
        self.store: Final = store
        self._digests = dict(digests or {})
        self._tokenizer_id = tokenizer_id
        self._from_files: set[str] = set()
        self._checked: set[str] = set()
        self._corpora: dict[str, str] = {}
        self._tokens: dict[str, int] = {}

    def source(self, name: str) -> Source:
        """Return a declared source, with relative files resolved against the project root."""
        if name not in self.study.sources:
            raise NotFound(f"no source is called {name!r}. {did_you_mean(name, self.study.sources)}")
        source = self.study.sources[name]
        files = tuple(file if "://" in file else str(self.study.paths.resolve(file)) for file in source.files)
        return replace(source, files=files)

    # --- text

    def digest(self, name: str) -> str:
        """Return the SHA-256 of a source's files, or the recorded SHA-256 if the files are archived."""
        if name not in self._digests:
            self._digests[name] = self._read_digest(self.source(name))
        return self._digests[name]

    def digests(self, names: Iterable[str]) -> dict[str, str]:
        """Return the digests of several sources, for example to freeze them in a submission."""
        return {name: self.digest(name) for name in names}

    @property
    def known_digests(self) -> dict[str, str]:
        """Digests that are frozen or were already computed, by source."""
        return dict(self._digests)

    def record_digest(self, name: str) -> None:
        """Record a digest that was computed from files, so that the files can be archived.

        Archiving the text then keeps the identity of its runs.
        """
        if name in self._from_files:
            write_json(self._digest_record(self.source(name)), {"source": name, "digest": self.digest(name)})

    def _read_digest(self, source: Source) -> str:
        try:
            digest = source_digest(source, cache=self.store.root)
        except NotFound as absent:
            return _recorded_digest(self._digest_record(source), absent)
        self._from_files.add(source.name)
        return digest

    def _digest_record(self, source: Source) -> Path:
        facts = [source.name, list(source.files), source.format, source.text_field]
        if source.separator is not None:  # a source without one keeps its record
            facts.append(source.separator)
        declared = fingerprint("declaration", facts)
        return self.store.corpora / "sources" / f"{declared[:32]}.json"

    def listing_notes(self, name: str) -> list[Reason]:
        """Return notes on skipped files of a source; empty for frozen digests and archived files."""
        return listing_notes(self.source(name)) if name in self._from_files else []

    # --- tokenizer and corpora

    @cached_property
    def tokenizer(self) -> TokenizerSpec:
        """The tokenizer's declaration. By default, assay trains the tokenizer on the baseline mix's sources."""
        spec = self.study.tokenizer
        if spec.file is not None:
            return replace(spec, file=str(self.study.paths.resolve(spec.file)))
        if spec.sources:
            return spec
        baseline = self.study.require_sweep().baseline
        return replace(spec, sources=names_of(baseline, self.study.mixes, self.study.sources))

    @cached_property
    def tokenizer_id(self) -> str:
        """Identity of the tokenizer, which is known before the tokenizer is made."""
        if self._tokenizer_id is not None:
            return self._tokenizer_id
        return tokenizer_identity(self.tokenizer, self.digests(self.tokenizer.sources), file=self.tokenizer_file)

    @cached_property
    def tokenizer_file(self) -> TokenizerFile | None:
        """The file that the study declares as its tokenizer; None for a tokenizer that assay trains."""
        return None if self.tokenizer.file is None else TokenizerFile.read(self.tokenizer)

    @property
    def end_token(self) -> EndToken | None:
        """The end-of-text token of `tokenizer_file`.

        Raises:
            AssayError: the file is no tokenizer, or its end-of-text token is unknown.
        """
        return None if self.tokenizer_file is None else self.tokenizer_file.end

    @cached_property
    def encoder(self) -> TextEncoder | None:
        """The encoder of `tokenizer_file`.

        Raises:
            AssayError: the file is no tokenizer, or its end-of-text token is unknown.
        """
        file = self.tokenizer_file
        return None if file is None else TextEncoder(file.definition, file.end.name)

    @cached_property
    def tokenizer_alters_text(self) -> bool:
        """Whether decoding may lose text: the tokenizer alters or cannot encode a probe text of many scripts."""
        if self.encoder is None:
            return False
        try:
            return measure_round_trip(self.encoder, [PROBE]).lost > 0
        except Refused:  # the sources may lack the characters that it cannot encode
            return True

    @cached_property
    def prompt_encoding(self) -> int | None:
        """Version of the encoding in evaluations; None if all versions of assay encode text as in training."""
        with contextlib.suppress(ConfigError, Damaged, NotFound, Refused):  # `check_tokenizer` reports it
            file = self.tokenizer_file
            if file is not None and ({"template", "decoder"} & set(file.changes) or self.tokenizer_alters_text):
                return PROMPT_ENCODING
        return None

    @property
    def tokenizer_folder(self) -> Path:
        """Folder of the tokenizer, which may not exist yet."""
        return self.store.tokenizers / self.tokenizer_id

    def corpus_id(self, name: str) -> str:
        """Return the identity of a source's corpus, which is known before the corpus is made."""
        if name not in self._corpora:
            self._corpora[name] = corpus_identity(self.digest(name), self.tokenizer_id)
        return self._corpora[name]

    def corpus_folder(self, name: str) -> Path:
        """Return the folder of a source's corpus, which may not exist yet."""
        return self.store.corpora / self.corpus_id(name)

    def tokens(self, names: Iterable[str]) -> dict[str, int]:
        """Return the number of training tokens of each tokenized source. Omit sources that are not tokenized."""
        names = tuple(names)
        for name in names:
            if name not in self._tokens and (manifest := self._manifest(name)) is not None:
                self._tokens[name] = manifest.tokens
        return {name: self._tokens[name] for name in names if name in self._tokens}

    def bytes_per_token(self, names: Iterable[str]) -> dict[str, float]:
        """Return the UTF-8 bytes per training token of each tokenized source; omit other sources."""
        manifests = {name: self._manifest(name) for name in names}
        return {name: kept.restored_bytes / kept.tokens for name, kept in manifests.items() if kept and kept.tokens}

    def _manifest(self, name: str) -> Manifest | None:
        try:
            return read_manifest(self.corpus_folder(name))
        except NotFound:
            return None  # no corpus, or no text; `plan` reports the problem for each arm that needs the source

    # --- clearance and taints

    @cached_property
    def taints(self) -> Taints:
        """The taints by source version. A taint is an audit finding that excludes a source from training."""
        return Taints(self.store.root, self.study.taint)

    def uncleared(self, name: str) -> Reason | None:
        """Return why the current version of a source is not cleared; ``None`` if this version is cleared."""
        source = self.source(name)
        if source.refusal is not None or source.clearance.version is None:
            return source.refusal  # without reading its files
        try:
            return source.refuse(self.digest(name))
        except NotFound:  # `refusals` reports it
            return None

    def clearance(self, name: str) -> ClearanceState:
        """Return the effective clearance of the present version of a source."""
        state = self.source(name).effective_clearance
        return "pending" if state == "cleared" and self.uncleared(name) is not None else state

    def blocks(self, name: str) -> tuple[Reason, ...]:
        """Return why a source may not be used: clearance, or unwaived defects."""
        try:
            digest = self.digest(name)
        except NotFound:  # `refusals` reports the missing files
            digest = None
        return blocks([(self.source(name), digest)], self.taints)

    def refusals(self, name: str) -> list[Reason]:
        """Return why training may not use a source: clearance, provenance, or missing files."""
        source = self.source(name)
        uncleared = self.uncleared(name)
        if uncleared is not None:
            return [uncleared]
        refusals = []
        if unstated := self.study.taint.unstated(source):
            refusals.append(Reason(code=Code.SOURCE_UNSTATED, subject=name, figures={"unstated": unstated}))
        try:
            self.digest(name)
            if name not in self._from_files and not self.corpus_folder(name).exists():
                source_digest(source, cache=self.store.root)  # the error names the missing file
            self._check_content(name)
        except AssayError as error:
            message = str(error).replace("\n", " ")
            refusals.append(Reason(code=Code.SOURCE_UNAVAILABLE, subject=name, figures={"error": message}))
        return refusals

    def _check_content(self, name: str) -> None:
        """Refuse files that cannot be tokenized, before a cluster job fails. Skip tokenized sources."""
        if name in self._checked or name not in self._from_files:
            return
        with contextlib.suppress(
            ConfigError, Damaged, NotFound, Refused
        ):  # the tokenizer is not identified, for example without its sources
            if self.corpus_folder(name).exists():
                return
        check_content(self.source(name))
        self._checked.add(name)


def _recorded_digest(record: Path, absent: NotFound) -> str:
    """Return the recorded digest of a source whose files are missing.

    assay recorded the digest when it built the source's corpus.

    Raises:
        NotFound: no corpus was built from the source; the error is `absent`.
        Damaged: the record exists but has no digest.
    """
    try:
        return str(read_json(record)["digest"])
    except FileNotFoundError:
        raise absent from None
    except (KeyError, TypeError):
        raise Damaged(
            f"{record}: the record contains no digest of the source.",
            fix="Restore the record, or move it away and restore the files of the source.",
        ) from None

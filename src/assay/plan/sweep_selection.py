"""Select the sweep of a command, as submitted or as currently configured.

Commands on a submitted sweep use its submissions (see `submitted_sweep`). A later edit of `conf/` or a forgotten
override therefore cannot change the selected runs. Overrides are not applied but compared with the submission. An
override that changes the runs is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.config.compose import GROUPS, compose
from assay.config.mixes import names_of
from assay.config.override import split_override, unquoted
from assay.config.reason import Code, Reason
from assay.config.sources import NAME
from assay.config.study import Study
from assay.core.errors import ConfigError, Damaged, NotFound, Refused
from assay.core.fingerprint import Difference, differences
from assay.core.serde import to_mapping
from assay.plan.submitted_sweep import TRUST, mix_chain, read_submitted_sweep, with_current_trust
from assay.plan.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from assay.plan.submitted_sweep import SubmittedSweep
    from assay.store.runs import Store

RULES = ("policy", "suite")
"""Sections that the registration of a sweep governs (see `registration`)."""
RUNS = ("proxy", "optim", "budget", "batch", "stages", "tokenizer", "sweep", "mix", "source")
"""Sections that determine the runs of a sweep."""
APPLIED = ("cluster", "training", "tracking", "history", "topics")
"""Sections that determine no run. Overrides of these sections apply to a submitted sweep."""
COMPARED = (*RUNS, *RULES, "history", "tracking")
"""Sections whose differences are reported. The cluster differs by machine, and affects no result."""
TEXTS = ("question", "description", "about")
"""Keys that contain only descriptions."""
LONGEST = 40
"""Maximum length of a value in a reported difference."""


@dataclass(frozen=True, kw_only=True)
class SelectedSweep:
    """The study to which a command refers."""

    workspace: Workspace
    """The selected study: as submitted or as configured."""
    configured: Workspace | None = None
    """The submitted runs under the configured policy and suite; ``None`` if nothing was submitted, or the configuration is
    invalid."""
    submitted: SubmittedSweep | None = None
    """The submissions of the sweep; ``None`` if there are none."""
    current: bool = False
    """Whether the current configuration was requested although the sweep was submitted."""
    changed: tuple[str, ...] = ()
    """Keys in which the current and the submitted configuration differ, with both values."""
    declared: Study | None = None
    """The current configuration of a submitted sweep; ``None`` if it is invalid."""
    problem: ConfigError | None = None
    """Error of the current configuration; ``None`` if it is valid."""
    overrides: tuple[str, ...] = ()
    """Overrides of the command line."""

    @property
    def other_runs(self) -> bool:
        """Whether the runs of the selected study differ from the submitted runs."""
        if self.submitted is None or not self.current:
            return False
        return any(_section(key.split(" ")[0]) in RUNS for key in self.changed)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Which configuration is used, as far as the configurations differ."""
        return self._reasons(self.changed)

    def reasons_for(self, *, present: bool, registered: bool) -> tuple[Reason, ...]:
        """Return the reasons for a verdict, without policy and suite if these are current or registered."""
        covered = present or registered
        kept = tuple(key for key in self.changed if not (covered and _section(key.split(" ")[0]) in RULES))
        return self._reasons(kept)

    def refuse_unapplied_rules(self, unapplied: Sequence[str]) -> None:
        """Refuse overrides of policy and suite that a verdict under the registered or submitted rules would ignore.

        Args:
            unapplied: keys in which the current configuration differs from the rules of the verdict, with both values.

        Raises:
            Refused: an override sets one of these keys, or the current configuration is invalid.
        """
        for override in self.overrides:
            key = _key(override)
            section = _section(key)
            if section not in RULES:
                continue
            paths = [(change, change.split(" ")[0]) for change in unapplied]
            found = [c for c, path in paths if _covers(section if section == "suite" else key, path)]
            if not found and self.problem is None:
                continue
            what = ", ".join(found) if found else "the current configuration is invalid"
            raise Refused(
                f"override {override!r} would be ignored: the verdict uses the registered policy and suite ({what}).",
                fix="Remove the override. Where a command has --policy-now, this option selects the configured policy and"
                " suite, and the verdict records this choice.",
            )

    def _reasons(self, changed: tuple[str, ...]) -> tuple[Reason, ...]:
        if self.submitted is None:
            return ()
        day = self.submitted.day
        if self.current:
            code = Code.CURRENT_CONFIGURATION
            return (Reason(code=code, figures={"day": day, "changed": changed}),) if changed else ()
        reasons = []
        if self.problem is not None:
            error = self.problem.what.replace("\n", " ")
            reasons.append(Reason(code=Code.CONFIGURATION_INVALID, figures={"day": day, "error": error}))
        elif changed:
            figures = {"day": day, "changed": changed}
            reasons.append(Reason(code=Code.SUBMITTED_CONFIGURATION, figures=figures))
        reasons += [
            Reason(
                code=Code.SUBMISSION_SUPERSEDED,
                subject=earlier.id,
                figures={"day": earlier.day, "runs": earlier.runs, "changed": earlier.differences},
            )
            for earlier in self.submitted.superseded
        ]
        return tuple(reasons)


def select_sweep(overrides: Sequence[str], *, current: bool = False, root: Path | None = None) -> SelectedSweep:
    """Select the sweep `sweep=NAME` as submitted, or as configured if it was never submitted.

    Args:
        overrides: Hydra overrides.
        current: whether to use the current configuration of a submitted sweep.
        root: the project's folder (default: derived from the working directory).

    Raises:
        ConfigError: the configuration is invalid, and nothing was submitted or `current` is set.
        Refused: an override changes the runs of a submitted sweep, and `current` is not set.
        Damaged: another version of assay wrote the configuration of the newest submission.
    """
    configured, problem = _compose(overrides, root)
    place = configured or compose(_without_sweep(overrides), root=root)
    name = configured.sweep.name if configured is not None and configured.sweep is not None else _sweep_of(overrides)
    submitted = None if name is None else _read(place, name, current=current)
    if configured is None and (submitted is None or current):
        assert problem is not None, "a configuration is valid or has a problem"
        raise problem
    if configured is not None and (submitted is None or current):
        changed = () if submitted is None else describe(compare(submitted.study, configured))
        return SelectedSweep(
            workspace=Workspace(configured),
            submitted=submitted,
            current=current,
            changed=changed,
            overrides=tuple(overrides),
        )
    assert submitted is not None, "returned or raised above"
    found = [] if configured is None else compare(submitted.study, configured)
    _refuse_other_runs(submitted, overrides, found, invalid=configured is None)
    study = with_current_trust(_with_applied(submitted.study, place, overrides), place)
    return SelectedSweep(
        workspace=submitted.workspace(study),
        configured=None if configured is None else submitted.with_rules_of(configured),
        submitted=submitted,
        changed=describe(found),
        declared=configured,
        problem=problem,
        overrides=tuple(overrides),
    )


def locate_sweep(overrides: Sequence[str], *, root: Path | None = None) -> tuple[Store, str | None]:
    """Return store and name of the sweep, even if its submitted or current configuration is unreadable.

    Args:
        overrides: Hydra overrides.
        root: the project's folder (default: derived from the working directory).

    Raises:
        ConfigError: the configuration without the sweep is invalid.
    """
    configured, _ = _compose(overrides, root)
    place = configured or compose(_without_sweep(overrides), root=root)
    declared = configured.sweep.name if configured is not None and configured.sweep is not None else None
    return Workspace(place).store, declared or _sweep_of(overrides)


def _compose(overrides: Sequence[str], root: Path | None) -> tuple[Study | None, ConfigError | None]:
    """Compose the current configuration; return its error if a submission may replace the invalid files.

    Raises:
        ConfigError: no sweep is selected, or the overrides are invalid rather than the files.
    """
    try:
        return compose(overrides, root=root), None
    except ConfigError as error:
        name = _sweep_of(overrides)
        if name is None or _fault_of_overrides(name, overrides, root):
            raise
        return None, error


def _fault_of_overrides(name: str, overrides: Sequence[str], root: Path | None) -> bool:
    """Return whether the sweep's files are valid without the other overrides."""
    others = [override for override in overrides if _key(override) != "sweep"]
    if not others:
        return False
    try:
        compose([f"sweep='{name}'"], root=root)
    except ConfigError:
        return False
    return True


def _read(place: Study, name: str, *, current: bool) -> SubmittedSweep | None:
    try:
        return read_submitted_sweep(Workspace(place).store, name, paths=place.raw["paths"])
    except Damaged:
        if current:
            return None
        raise


# --- overrides


def _key(override: str) -> str:
    return split_override(override).key


def _sweep_of(overrides: Sequence[str]) -> str | None:
    """Return the name of the selected sweep; ``None`` without exactly one override `sweep=NAME` with a valid name."""
    selecting = [parsed for parsed in map(split_override, overrides) if parsed.key == "sweep"]
    if len(selecting) != 1 or selecting[0].action != "set":
        return None
    name = unquoted((selecting[0].raw or "").strip())
    return name if NAME.fullmatch(name) else None


def _without_sweep(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that apply without a sweep, for the folders and the clearances of an undeclared sweep."""
    return [override for override in overrides if _section(_key(override)) != "sweep"]


def _section(key: str) -> str:
    return key.partition(".")[0]


def _applies(key: str) -> bool:
    """Return whether an override does not change a sweep's runs, so that this module need not refuse the override."""
    parts = key.split(".")
    trusted = parts[0] == "source" and len(parts) > 2 and parts[2] in TRUST
    return key == "sweep" or trusted or parts[0] in ("paths", "taint", *APPLIED, *RULES)


def _refuse_other_runs(
    submitted: SubmittedSweep, overrides: Sequence[str], found: Sequence[Difference], *, invalid: bool
) -> None:
    """Refuse overrides that change the runs of the sweep."""
    name = submitted.newest.sweep
    defining = [override for override in overrides if not _applies(_key(override))]
    if invalid and defining:
        raise Refused(
            f"sweep {name!r}: {' '.join(defining)} cannot be compared with the submission of {submitted.day}, because the"
            " current configuration is invalid.",
            fix="Remove the overrides: the submitted configuration is used.",
        )
    for override in defining:
        changed = [difference for difference in found if _covers(_key(override), difference.path)]
        if changed:
            raise Refused(
                f"sweep {name!r}: {override} changes its runs, which were submitted on {submitted.day}:"
                f" {', '.join(describe(changed))}.",
                fix="Remove the override: commands use the submitted configuration. Where a command has --current, this"
                " option selects the current configuration.",
            )


def _covers(key: str, path: str) -> bool:
    return path == key or path.startswith(f"{key}.") or key.startswith(f"{path}.")


def _with_applied(study: Study, current: Study, overrides: Sequence[str]) -> Study:
    """Return the study with the overrides that determine no run."""
    keys = [key for override in overrides if _section(key := _key(override)) in APPLIED]
    if not keys:
        return study
    raw: Any = copy.deepcopy(study.raw)
    for key in keys:
        _copy(raw, current.raw, key.split("."))
    return Study.parse(raw)


def _copy(target: dict[str, Any], source: Mapping[str, Any], key: Sequence[str]) -> None:
    """Set or remove one key of a nested mapping as another mapping has it."""
    first, *rest = key
    if first not in source:
        target.pop(first, None)
    elif rest and isinstance(source[first], Mapping):
        target[first] = dict(target.get(first) or {})
        _copy(target[first], source[first], rest)
    else:
        target[first] = source[first]


# --- differences


def compare(submitted: Study, current: Study) -> list[Difference]:
    """List the keys of a submitted sweep in which the current configuration differs, of the mixes and sources that it uses."""
    return [
        difference
        for difference in differences(_plain(submitted, submitted), _plain(current, submitted))
        if difference.path.rpartition(".")[2] not in TEXTS
    ]


def _plain(study: Study, submitted: Study) -> dict[str, Any]:
    """Return the compared sections of a study, with the mixes and sources that a submitted sweep uses."""
    sweep = submitted.require_sweep()
    mixes = {mix for stage in submitted.stages for mix in ([stage.mix] if stage.mix else sweep.mixes)}
    chains = {name: None for mix in sorted(mixes) for name in mix_chain(mix, submitted)}
    sources = {name: None for mix in sorted(mixes) for name in _source_names(mix, submitted)}
    sources |= dict.fromkeys(submitted.tokenizer.sources)
    return {
        **{
            section: _joined(to_mapping(getattr(study, section)))
            for section in COMPARED
            if section not in ("mix", "source")
        },
        "mix": {name: _joined(to_mapping(study.mixes[name])) for name in chains if name in study.mixes},
        "source": {name: _identifying(study, name) for name in sources if name in study.sources},
    }


def _source_names(mix: str, study: Study) -> tuple[str, ...]:
    try:
        return names_of(mix, study.mixes, study.sources)
    except (ConfigError, NotFound, Refused):  # the plan reports an invalid mix
        return ()


def _identifying(study: Study, name: str) -> dict[str, Any]:
    plain = _joined(to_mapping(study.sources[name]))
    return {key: value for key, value in plain.items() if key not in TRUST}


def _joined(value: Any) -> Any:
    """Join lists of plain values into one value each, so that an added seed is one difference."""
    if isinstance(value, Mapping):
        return {str(key): _joined(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        if not any(isinstance(inner, (Mapping, list, tuple)) for inner in value):
            return f"[{', '.join(map(str, value))}]"
        return {str(place): _joined(inner) for place, inner in enumerate(value)}
    return value


def describe(found: Sequence[Difference]) -> tuple[str, ...]:
    """Describe differences by key with both values, one for each mix, source, and group whose name changed."""
    texts: dict[str, str] = {}
    for difference in found:
        key = _described_key(difference.path, found)
        if key is not None and (key not in texts or difference.path == f"{key}.name"):
            texts[key] = _describe(key, difference)
    return tuple(texts.values())


def _described_key(path: str, found: Sequence[Difference]) -> str | None:
    """Return the key under which a difference is listed; ``None`` for a changed name without a changed value."""
    section, _, rest = path.partition(".")
    if section in ("mix", "source"):
        key = f"{section}.{rest.split('.')[0]}"
        return path if sum(_covers(key, difference.path) for difference in found) == 1 else key
    if section in GROUPS:
        inside = [difference.path for difference in found if _section(difference.path) == section]
        if inside == [f"{section}.name"]:
            return None
        return section if f"{section}.name" in inside else path
    return path


def _describe(key: str, difference: Difference) -> str:
    if difference.path in (key, f"{key}.name"):
        return f"{key} {_value(difference.left)} -> {_value(difference.right)}"
    return f"{key} changed"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "declared"
    text = "unset" if value is None else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."

"""Derive the sweep with the seeds that would decide an inconclusive sweep (`assay plan extend`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.analysis import explanations
from assay.analysis.followup.sweep_file import format_derived_sweep, split_overrides, write_sweep_file
from assay.analysis.gate import Decision
from assay.analysis.stats.power import MOST_SEEDS
from assay.analysis.verdict import added_seeds_reason, decide_sweep, register_selection
from assay.config.search_path import SWEEPS
from assay.config.study import Study
from assay.core.errors import Refused
from assay.core.serde import json_shape
from assay.plan.workspace import Workspace

if TYPE_CHECKING:
    from assay.analysis.gate import SweepVerdict, Verdict
    from assay.analysis.next_steps import Option
    from assay.config.reason import Reason
    from assay.config.sweep import Sweep
    from assay.plan.plan import Plan
    from assay.plan.sweep_selection import SelectedSweep


@json_shape(omit=["space"])
@dataclass(frozen=True, kw_only=True)
class ExtendedSweep:
    """A sweep with additional seeds that would decide an inconclusive sweep.

    Attributes:
        name: name of the new sweep.
        extends: the inconclusive sweep.
        file: file of the new sweep.
        seeds: all seeds of the new sweep.
        added: the new seeds.
        sentences: notes for the user.
        command_overrides: overrides that commands on the new sweep still need.
        space: the study with the new sweep.
    """

    name: str
    extends: str
    file: Path
    seeds: tuple[int, ...]
    added: tuple[int, ...]
    sentences: tuple[str, ...]
    command_overrides: tuple[str, ...]
    space: Workspace


def write_extended_sweep(
    selected: SelectedSweep, overrides: Sequence[str], *, out: Path | None, force: bool, render: Callable[[Reason], str]
) -> ExtendedSweep:
    """Write a sweep with the undecided candidates and the additional seeds that would decide them.

    Args:
        selected: the sweep. If it was submitted, the file contains the submitted values that the configuration changed.
        overrides: the command's overrides, including `sweep=NAME`.
        out: the file (default: `sweeps/NAME_decide.yaml` of the project).
        force: whether to replace an existing file.
        render: renders a reason as a sentence.

    Raises:
        AssayError: the sweep is decided, is not finished, or no number of seeds would decide it; or the file exists.
    """
    space = selected.workspace
    sweep = space.study.require_sweep()
    registered, plan, registration = register_selection(selected)
    _require_finished(plan)
    verdict = decide_sweep(registered, plan, registration=registration)
    more, sentences = _needed_seeds(verdict, sweep, render)
    first = max(sweep.seeds) + 1
    added = tuple(range(first, first + more))
    root = space.study.paths.root
    file = (out if out is not None else Path(root) / SWEEPS / f"{sweep.name}_decide.yaml").absolute()
    name, seeds = file.stem, (*sweep.seeds, *added)
    candidates, left_out = _candidates_to_extend(verdict, sweep)
    sentences += left_out
    own: dict[str, Any] = {"name": name, "extends": sweep.name, "seeds": list(seeds)}
    own |= {"candidates": candidates} if candidates is not None else {}
    extended = Workspace(Study.parse({**space.study.raw, "sweep": {**space.study.raw["sweep"], **own}}))
    base, kept, command_overrides = split_overrides(overrides)
    if selected.submitted is None:
        settings: dict[str, Any] = {}
    else:
        kept, settings = [], submitted_settings(selected)
    text = format_sweep(base, own, kept, raw=space.study.raw, about=sentences[0], settings=settings)
    write_sweep_file(file, text, force=force)
    added_note = render(added_seeds_reason(extended.study.require_sweep()))
    notes = [*sentences, added_note]
    if file.parent != (Path(root) / SWEEPS).absolute():
        notes.append(f"Commands read sweeps only from {Path(root) / SWEEPS}/. Move the file there.")
    return ExtendedSweep(
        name=name,
        extends=sweep.name,
        file=file,
        seeds=seeds,
        added=added,
        sentences=tuple(notes),
        command_overrides=command_overrides,
        space=extended,
    )


def _candidates_to_extend(verdict: SweepVerdict, sweep: Sweep) -> tuple[list[str] | None, list[str]]:
    """Return the undecided candidates (None for all candidates), and notes on the other candidates."""
    decided = {name: one.decision for name, one in verdict.candidates.items() if one.decision != Decision.INCONCLUSIVE}
    if not decided:
        return (None if sweep.arms else list(sweep.candidates)), []
    listed = ", ".join(f"{name} {decision}" for name, decision in decided.items())
    if sweep.arms:
        return None, [f"Decided arms are kept, because arms of this sweep are compared with each other: {listed}."]
    note = f"Decided candidates are left out: {listed}. The correction for several candidates covers only the other candidates."
    return [name for name in sweep.candidates if name not in decided], [note]


def submitted_settings(selected: SelectedSweep) -> dict[str, Any]:
    """Return the submitted values, by section, that the current configuration has changed.

    Raises:
        Refused: the current configuration is invalid, or has keys that a sweep file cannot remove.
    """
    study, name = selected.workspace.study, selected.workspace.study.require_sweep().name
    if selected.declared is None:
        raise Refused(
            f"sweep {name!r}: its sweep file cannot be extended, because the current configuration is invalid.",
            fix="Correct the configuration, and run this command again.",
        )
    settings: dict[str, Any] = {}
    for path in dict.fromkeys(key.split(" ")[0] for key in selected.changed):
        section, _, rest = path.partition(".")
        if section in ("sweep", "history", "tracking"):
            continue
        key = rest.split(".")[0] if section in ("mix", "source") else None
        old, new = study.raw[section], selected.declared.raw.get(section)
        if key is not None:
            value = _changed_entry(old[key], (new or {}).get(key), where=f"{section}.{key}", sweep=name)
            settings.setdefault(section, {})[key] = value
        else:
            settings[section] = _changed_values(old, new, where=section, sweep=name)
    return settings


def _changed_entry(old: Mapping[str, Any], new: Mapping[str, Any] | None, *, where: str, sweep: str) -> Any:
    """Return the submitted values of a mix or source that differ. Return weights as a whole: a sweep file replaces them."""
    if new is None:
        return old
    if "weights" not in old:
        return _changed_values(old, new, where=where, sweep=sweep)
    rest, now = ({key: value for key, value in entry.items() if key != "weights"} for entry in (old, new))
    changed: dict[str, Any] = _changed_values(rest, now, where=where, sweep=sweep)
    return changed | ({} if old["weights"] == new.get("weights") else {"weights": old["weights"]})


def _changed_values(old: Any, new: Any, *, where: str, sweep: str) -> Any:
    """Return the submitted values that differ. Return lists as a whole, because a sweep file replaces lists."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return old
    added = [key for key in new if key not in old and new[key] is not None]
    if added:
        raise Refused(
            f"sweep {sweep!r}: {where}.{added[0]} was added after the submission, and a sweep file cannot remove it.",
            fix="Restore the submitted configuration, and run this command again.",
        )
    return {
        key: _changed_values(value, new[key], where=f"{where}.{key}", sweep=sweep) if key in new else value
        for key, value in old.items()
        if key not in new or new[key] != value
    }


def _require_finished(plan: Plan) -> None:
    """Raise an error for a sweep with unfinished runs, because the unfinished runs may decide it."""
    open_runs = [run.label for run in plan.runs if run.status in ("todo", "running")]
    if open_runs:
        shown = ", ".join(open_runs[:3]) + (", ..." if len(open_runs) > 3 else "")
        raise Refused(
            f"sweep {plan.sweep.name!r} is not finished: {len(open_runs)} of its runs have no result yet ({shown}).",
            fix="Complete these runs with `assay submit` and the same arguments. Their results may decide the sweep.",
        )


def _needed_seeds(verdict: SweepVerdict, sweep: Sweep, render: Callable[[Reason], str]) -> tuple[int, list[str]]:
    """Return the number of seeds to add, and the reasons as sentences."""
    undecided = [decided for decided in verdict.candidates.values() if decided.decision == Decision.INCONCLUSIVE]
    if not undecided:
        decisions = ", ".join(f"{name} {decided.decision}" for name, decided in verdict.candidates.items())
        raise Refused(
            f"sweep {sweep.name!r} is decided: {decisions}.",
            fix="Use `assay gate` to print the verdict. More seeds are not needed.",
        )
    options: dict[str, Option] = {}
    more: dict[str, int] = {}
    for candidate in undecided:
        step = next((option for option in candidate.options if option.kind == "seeds"), None)
        if step is not None and step.seeds:
            options[candidate.candidate], more[candidate.candidate] = step, step.seeds - _shared_seeds(candidate)
    without_seeds = [candidate for candidate in undecided if candidate.candidate not in more]
    if not more:
        others = " ".join(f"{candidate.candidate}: {_other_options(candidate, render)}" for candidate in without_seeds)
        raise Refused(
            f"sweep {sweep.name!r} is predicted to stay undecided with any number of seeds up to {MOST_SEEDS}.",
            fix=f"Other options: {others}",
        )
    name = max(more, key=lambda name: more[name])
    sentences = [f"{name}: {render(explanations.option(options[name]))}"]
    sentences += [
        f"{candidate.candidate} stays undecided with any number of seeds. Other options: {_other_options(candidate, render)}"
        for candidate in without_seeds
    ]
    return more[name], sentences


def _shared_seeds(verdict: Verdict) -> int:
    """Return the number of seeds for which both arms have scores of every voting metric."""
    return min((c.n_seeds for c in verdict.comparisons if c.role != "monitor"), default=0)


def _other_options(verdict: Verdict, render: Callable[[Reason], str]) -> str:
    """Return the options that do not add seeds, as text."""
    options = [render(explanations.option(option)) for option in verdict.options if option.kind != "seeds"]
    return " ".join(options) or "none known."


def format_sweep(
    base: str,
    own: Mapping[str, Any],
    overrides: Sequence[str],
    *,
    raw: Mapping[str, Any],
    about: str,
    settings: Mapping[str, Any] | None = None,
) -> str:
    """Return the YAML text of a sweep with more seeds, including the command line's overrides.

    Args:
        base: Hydra name of the original sweep, which keeps its ablations and other keys.
        own: keys of the new sweep: its name, the sweep it extends, its seeds and candidates.
        overrides: Hydra overrides, without those of `COMMAND_ONLY`.
        raw: plain values of the study, with the overrides applied.
        about: reason for the number of seeds, as a sentence.
        settings: further sections of the file.

    Raises:
        AssayError: an override deletes a key, which a sweep file cannot express.
    """
    note = f"{base} with seeds added after its verdict was seen: the error rate exceeds the policy's alpha."
    kept = [
        override
        for override in overrides
        if not override.lstrip("+").startswith(("sweep.seeds=", "sweep.name=", "sweep.extends=", "sweep.candidates="))
    ]
    return format_derived_sweep(base, own, kept, raw=raw, about=f"{note}\n{about}", more=settings)

"""Index the scores of one scale by mix, task and metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from assay.analysis.stats.evaluation_columns import SAME_CHANCE, require_equal_chance
from assay.analysis.stats.tables import (
    SCORE_KEY,
    TOKENS_APART,
    Metric,
    Seed,
    as_floats,
    group_codes,
    last_checkpoints,
    plain_seed,
    seed_order,
)
from assay.analysis.stats.units import UNIT
from assay.config.reason import Code, Reason
from assay.core.errors import Damaged, NotFound, Refused, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

T = TypeVar("T")

Key = tuple[str, str, str]
"""A mix, a task and its metric."""

BUDGETS_APART = 0.05
"""Largest relative difference of two arms' budgets.

A smaller difference occurs if the last score of a run is one evaluation early. If losses fall as tokens^-0.28 (Hoffmann
et al. 2022), 5% fewer tokens leave 1.4% more reducible loss."""

EVALUATION_SETTINGS = {"version": "task version", "num_fewshot": "number of few-shot examples", "prompt": "prompt"}
"""Optional columns that describe how a task was evaluated, with their labels. Scores under different settings are not comparable."""


@dataclass(frozen=True)
class Scores:
    """The scores of one metric of one mix, by seed."""

    by_seed: dict[Seed, float]
    """Finite scores."""
    broken: dict[Seed, float]
    """NaN and infinite scores."""
    n_items: int | None
    chance: float | None
    unit: str | None = None
    """Declared unit; None if the table declares none."""

    def seed_of(self, value: float) -> Seed | None:
        """Return a seed with this score; None if no seed has this score."""
        return next((seed for seed, own in self.by_seed.items() if own == value), None)


@dataclass(frozen=True)
class _Settings:
    """Evaluation settings of one metric of one mix.

    `row` is the first row in the table, and `entries` are the distinct entries of a column.
    """

    row: int
    entries: list[str]


class ScoreTable:
    """The scores of one scale at each run's last checkpoint, by mix, task and metric.

    Attributes:
        mixes: mixes in the table's order.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        """Index normalized rows of one scale.

        Raises:
            AssayError: a row is duplicated, or the seeds of a mix answered different numbers of items.
        """
        frame = _without_duplicates(frame)
        self._frame = frame
        self._codes, first = group_codes(frame, ["mix", "task", "metric"])
        names = frame[["mix", "task", "metric"]].iloc[first].itertuples(index=False)
        self._keys: list[Key] = [(str(mix), str(task), str(metric)) for mix, task, metric in names]
        self._numbers = {key: number for number, key in enumerate(self._keys)}
        self.mixes = list(dict.fromkeys(mix for mix, _, _ in self._keys))
        order = np.argsort(self._codes, kind="stable")
        self._ends = np.append(np.searchsorted(self._codes[order], np.arange(len(first))), len(order))
        self._values = frame["value"].to_numpy(dtype=float)[order]
        seeds, first_seeds = group_codes(frame, ["seed"])
        self._seed_names = [plain_seed(seed) for seed in frame["seed"].iloc[first_seeds]]
        self._seed_codes = seeds[order]
        self._n_items = self._item_counts(as_floats(frame, "n")[order])
        self._chance = self._chance_levels(as_floats(frame, "chance")[order])
        self._units = frame[UNIT].iloc[first].tolist() if UNIT in frame else [None] * len(first)
        self._tokens = _budgets(frame)
        self._cache: dict[Key, Scores] = {}
        self._derived: dict[Hashable, Any] = {}
        self._seeds: dict[str, list[Seed]] = {}

    def derive(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return `compute()`, computed at the first call with this key, so that all candidates share it."""
        if key not in self._derived:
            self._derived[key] = compute()
        return self._derived[key]  # type: ignore[no-any-return]  # the key determines the type

    def _per_metric(self, ufunc: np.ufunc, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Reduce sorted values to one value per mix, task and metric; NaN if no value is known."""
        return np.asarray(ufunc.reduceat(values, self._ends[:-1])) if len(values) else values

    def _item_counts(self, n: NDArray[np.float64]) -> NDArray[np.float64]:
        low, high = self._per_metric(np.fmin, n), self._per_metric(np.fmax, n)
        for mix, task, metric in (self._keys[number] for number in np.flatnonzero(low < high)):
            raise Refused(
                f"the seeds of {mix} answered different numbers of items of {task} {metric}.",
                fix="Evaluate all seeds with one version of the suite.",
            )
        return high

    def _chance_levels(self, chance: NDArray[np.float64]) -> NDArray[np.float64]:
        low, high = self._per_metric(np.fmin, chance), self._per_metric(np.fmax, chance)
        for number in np.flatnonzero(high - low > SAME_CHANCE):
            mix, task, metric = self._keys[number]
            levels = {f"one seed of {mix}": float(low[number]), "another seed": float(high[number])}
            require_equal_chance(task, metric, levels)
        return high

    @cached_property
    def _metrics(self) -> dict[str, list[Metric]]:
        metrics: dict[str, list[Metric]] = {}
        for mix, task, metric in self._keys:
            metrics.setdefault(mix, []).append((task, metric))
        return metrics

    @cached_property
    def every_metric(self) -> frozenset[Metric]:
        """Metrics that were measured on at least one mix."""
        return frozenset((task, metric) for _, task, metric in self._keys)

    def metrics(self, mix: str) -> list[Metric]:
        """Return the metrics that were measured on a mix, in the table's order."""
        return self._metrics.get(mix, [])

    def scores(self, mix: str, task: str, metric: str) -> Scores:
        """Return the scores of one metric of one mix; empty if not measured."""
        key = (mix, task, metric)
        if key not in self._cache:
            self._cache[key] = self._read(self._numbers[key]) if key in self._numbers else Scores({}, {}, None, None)
        return self._cache[key]

    def _read(self, number: int) -> Scores:
        rows = slice(self._ends[number], self._ends[number + 1])
        values = self._values[rows]
        names = [self._seed_names[code] for code in self._seed_codes[rows].tolist()]
        every = dict(zip(names, values.tolist(), strict=True))
        n, chance = float(self._n_items[number]), float(self._chance[number])
        broken = (
            {} if np.isfinite(values).all() else {s: value for s, value in every.items() if not math.isfinite(value)}
        )
        return Scores(
            by_seed={s: value for s, value in every.items() if s not in broken} if broken else every,
            broken=broken,
            n_items=None if math.isnan(n) else int(n),
            chance=None if math.isnan(chance) else chance,
            unit=unit if isinstance(unit := self._units[number], str) else None,
        )

    def every_seed(self, mix: str) -> list[Seed]:
        """Return the seeds that have any score of the mix, including those that are not finite."""
        scores = [self.scores(mix, task, metric) for task, metric in self.metrics(mix)]
        return sorted({seed: None for own in scores for seed in (*own.by_seed, *own.broken)}, key=seed_order)

    def seeds(self, mix: str) -> list[Seed]:
        """Return the seeds of the mix that have at least one finite score."""
        if mix not in self._seeds:
            known = {s: None for task, metric in self.metrics(mix) for s in self.scores(mix, task, metric).by_seed}
            self._seeds[mix] = sorted(known, key=seed_order)
        return self._seeds[mix]

    def require(self, mix: str, what: str) -> None:
        """Raise an error for a mix without results.

        Raises:
            AssayError: the mix has no results; the message suggests the nearest name.
        """
        if mix not in self._metrics:
            raise NotFound(f"the {what} {mix!r} has no results. {did_you_mean(mix, self.mixes)}")

    @cached_property
    def _settings(self) -> dict[str, dict[str, dict[str, _Settings]]]:
        """Evaluation settings by column, mix and metric."""
        return {column: self._settings_by_mix(column) for column in EVALUATION_SETTINGS if column in self._frame}

    def _settings_by_mix(self, column: str) -> dict[str, dict[str, _Settings]]:
        import pandas as pd

        codes, known = pd.factorize(self._frame[column])
        rows = np.flatnonzero(codes >= 0)
        _, first = np.unique(self._codes[rows] * max(len(known), 1) + codes[rows], return_index=True)
        by_mix: dict[str, dict[str, _Settings]] = {}
        for row in rows[np.sort(first)].tolist():
            mix, task, metric = self._keys[self._codes[row]]
            settings = by_mix.setdefault(mix, {}).setdefault(f"{task} {metric}", _Settings(row, []))
            settings.entries[:] = sorted({*settings.entries, str(known[codes[row]])})
        return by_mix

    def require_same_settings(self, baseline: str, candidate: str) -> None:
        """Raise an error for two mixes whose evaluation settings differ.

        Raises:
            AssayError: task versions, few-shot counts or prompts differ between the mixes or between the seeds of a
                mix.
        """
        for column, by_mix in self._settings.items():
            arms = by_mix.get(baseline, {}), by_mix.get(candidate, {})
            pairs = (
                (metric, own, other.get(metric, own))
                for arm, other in (arms, arms[::-1])
                for metric, own in arm.items()
            )
            apart = [pair for pair in pairs if len(pair[1].entries) > 1 or pair[1].entries != pair[2].entries]
            if apart:
                metric, own, other = min(apart, key=lambda pair: pair[1].row)
                both = ", ".join(dict.fromkeys([*own.entries, *other.entries]))
                raise Refused(
                    f"{metric} of {baseline} and {candidate} has more than one {EVALUATION_SETTINGS[column]}: {both[:80]}.",
                    fix="Evaluate all runs with one version of the suite.",
                )

    def require_same_budget(self, baseline: str, candidate: str) -> None:
        """Raise an error for two mixes with different token budgets.

        The budgets are compared overall, and for each seed that both mixes have.

        Raises:
            AssayError: the budgets differ by more than 5%.
        """
        arms = self._tokens.get(baseline, {}), self._tokens.get(candidate, {})
        if not all(arms):
            return
        seeds = [(f" with seed {seed}", arms[0][seed], arms[1][seed]) for seed in arms[0] if seed in arms[1]]
        for which, a, b in [("", max(arms[0].values()), max(arms[1].values())), *seeds]:
            if abs(a - b) > BUDGETS_APART * max(a, b):
                raise Refused(
                    f"{baseline} was trained on {a:,.0f} tokens{which} and {candidate} on {b:,.0f}. The budget could explain a"
                    " difference of their scores.",
                    fix="Compare runs with equal token budgets.",
                )

    def require_even_seeds(self, used: Mapping[str, Sequence[Seed]]) -> None:
        """Raise an error for seeds with fewer tokens than others, if the arms are compared by their means.

        Two arms that share a seed are compared at this seed, so that both may have fewer tokens there. Without shared
        seeds, a seed with fewer tokens changes the mean of its arm only.

        Args:
            used: seeds of each arm's mean, by mix.

        Raises:
            AssayError: a seed has over 5% fewer tokens than the longest run of both arms; names all such seeds.
        """
        known = {
            (mix, seed): self._tokens[mix][seed]
            for mix, seeds in used.items()
            for seed in seeds
            if seed in self._tokens.get(mix, {})
        }
        most = max(known.values(), default=0.0)
        short = {run: tokens for run, tokens in known.items() if tokens < (1 - BUDGETS_APART) * most}
        if short:
            named = ", ".join(f"{mix} seed {seed} on {tokens:,.0f}" for (mix, seed), tokens in short.items())
            raise Refused(
                f"{' and '.join(used)} are compared by the means of different seeds, and their runs have different token"
                f" budgets: the longest run was trained on {most:,.0f} tokens, but {named}. The budget could explain a"
                " difference of their scores.",
                fix="Remove the rows of these seeds, or train them to the full budget.",
            )

    def uneven_budgets(self, baseline: str, candidate: str) -> list[Reason]:
        """List differences of token counts between two mixes or between seeds of one mix."""
        reasons = []
        most = {mix: max(by_seed.values()) for mix in (baseline, candidate) if (by_seed := self._tokens.get(mix))}
        for mix, full in most.items():
            short = {str(seed): at for seed, at in self._tokens[mix].items() if at < (1 - TOKENS_APART) * full}
            if short:
                figures = {"seeds": short, "longest": full}
                reasons.append(Reason(code=Code.UNEVEN_SEED_TOKENS, subject=mix, figures=figures))
        if len(most) == 2 and min(most.values()) < (1 - TOKENS_APART) * max(most.values()):
            figures = {"baseline": baseline, "baseline_tokens": most[baseline], "candidate_tokens": most[candidate]}
            reasons.append(Reason(code=Code.UNEVEN_MIX_TOKENS, subject=candidate, figures=figures))
        return reasons


def _without_duplicates(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the last checkpoint of each run.

    Raises:
        AssayError: a mix, seed, task and metric has several rows.
    """
    frame = last_checkpoints(frame)
    if len(group_codes(frame, SCORE_KEY)[1]) == len(frame):
        return frame
    duplicates = frame[frame.duplicated(SCORE_KEY, keep=False)]
    row = duplicates.iloc[0]
    place = f"mix {row['mix']}, seed {row['seed']}, task {row['task']}, metric {row['metric']}"
    same = duplicates[(duplicates[SCORE_KEY] == row[SCORE_KEY]).all(axis=1)]
    raise Damaged(
        f"the results have {len(same)} rows for {place}; {len(duplicates)} rows are duplicates.",
        fix="Keep one row for each mix, seed, task and metric, or add a `tokens` column that identifies the checkpoint.",
    )


def _budgets(frame: pd.DataFrame) -> dict[str, dict[Seed, float]]:
    """Return the largest token count of any score, by mix and seed."""
    if "tokens" not in frame:
        return {}
    codes, first = group_codes(frame, ["mix", "seed"])
    most = np.full(len(first), math.nan)
    np.fmax.at(most, codes, frame["tokens"].to_numpy(dtype=float))
    runs = frame[["mix", "seed"]].iloc[first].assign(tokens=most).dropna().sort_values(["mix", "seed"])
    by_mix: dict[str, dict[Seed, float]] = {}
    for mix, seed, tokens in runs.itertuples(index=False):
        by_mix.setdefault(str(mix), {})[plain_seed(seed)] = float(tokens)
    return by_mix

"""The long tables that comparisons are made of, checked where they come in.

`results` has one row for each mix, seed, task and metric: `mix, seed, task, metric, value`, and if known `scale`,
`tokens`, `n`, `stderr`, `chance`, `version`, `num_fewshot`, `prompt`. `items` has one for each question of it: `mix, seed, task, metric, item, value`, and
if known `group` (what belongs together, such as a passage) and `weight` (the score is the weighted mean; bytes for
bits per byte).
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.errors import AssayError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from assay.suite import Policy

Seed = int | str
Metric = tuple[str, str]
"""A task and its metric."""

SCORE_KEY = ["mix", "seed", "task", "metric"]
ITEM_KEY = [*SCORE_KEY, "item"]

TOKENS_APART = 0.01
"""Token counts that differ by more than this share are not the same: said with the verdict."""

BUDGETS_APART = 0.05
"""Arms whose budgets differ by more than this share are refused. Below are runs whose last score is one evaluation early: where losses fall as
tokens^-0.28 (Hoffmann et al. 2022), 5% fewer tokens leave 1.4% more of what is left to lose."""

UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
"""What a scale's letter stands for: 150M is 150 million parameters."""

QUESTIONS = {"version": "task version", "num_fewshot": "number of few-shot examples", "prompt": "prompt"}
"""Columns, where a table has them, that say what was asked, and their names for people. Scores of other questions are no comparison."""

AGREE = 1e-4
"""How closely the items have to add up to the score: float32 sums differ by less, another set of questions by more."""


@dataclass(frozen=True)
class Scores:
    """One metric of one mix, by seed."""

    by_seed: dict[Seed, float]
    """Finite ones only."""
    broken: dict[Seed, float]
    """Values that are NaN or infinite."""
    n_items: int | None
    chance: float | None


@dataclass(frozen=True)
class PairedItems:
    """One metric of two arms, question by question."""

    baseline: NDArray[np.float64]
    """(seeds, items)."""
    candidate: NDArray[np.float64]
    weights: NDArray[np.float64]
    """(items,)."""
    clusters: NDArray[np.object_]
    """(items,): the group where there is one, else the question itself, so that a question asked twice counts once."""


class Results:
    """A results table that was checked, by mix, task and metric."""

    def __init__(self, frame: pd.DataFrame, *, scale: str | None) -> None:
        """Check the table.

        Args:
            frame: long results, see the module.
            scale: the proxy scale to read where the table has several.

        Raises:
            AssayError: a column is missing, a value is no number, a row is there twice, or scales are mixed.
        """
        frame = last_checkpoints(at_scale(with_columns(frame, [*SCORE_KEY, "value"], "results"), scale))
        _refuse_twice(frame)
        columns = {name: _numbers(frame, name) for name in ("value", "n", "chance")}
        seeds = [_plain(seed) for seed in frame["seed"]]
        self._scores: dict[tuple[str, str, str], Scores] = {}
        self._tokens: dict[str, dict[Seed, float]] = {}
        for (mix, task, metric), rows in _rows_of(frame, ["mix", "task", "metric"]).items():
            values = dict(zip((seeds[at] for at in rows), columns["value"][rows].tolist(), strict=True))
            n, chance = (_known(columns[name][rows]) for name in ("n", "chance"))
            if len(n) > 1:
                raise AssayError(f"the seeds of {mix} answered different numbers of questions of {task} {metric}.")
            self._scores[str(mix), str(task), str(metric)] = Scores(
                by_seed={seed: value for seed, value in values.items() if math.isfinite(value)},
                broken={seed: value for seed, value in values.items() if not math.isfinite(value)},
                n_items=int(n[0]) if n else None,
                chance=max(chance, default=None),
            )
        self.mixes = [str(mix) for mix in frame["mix"].drop_duplicates()]
        self._asked = {
            column: {
                (str(mix), f"{task} {metric}"): sorted(set(map(str, rows)))
                for (mix, task, metric), rows in frame.dropna(subset=column).groupby(
                    ["mix", "task", "metric"], sort=False
                )[column]
            }
            for column in QUESTIONS
            if column in frame
        }
        if "tokens" in frame:
            ends = frame.groupby(["mix", "seed"], observed=True)["tokens"].max().dropna()
            for mix, seed, most in ends.reset_index().itertuples(index=False):
                self._tokens.setdefault(str(mix), {})[_plain(seed)] = float(most)

    def metrics(self, mix: str) -> list[Metric]:
        """What the mix was measured on, in the table's order."""
        return [(task, metric) for name, task, metric in self._scores if name == mix]

    def scores(self, mix: str, task: str, metric: str) -> Scores:
        """One metric of one mix; empty where it was not measured."""
        return self._scores.get((mix, task, metric), Scores({}, {}, None, None))

    def seeds(self, mix: str) -> list[Seed]:
        """The seeds that the mix has any score of."""
        found = {s: None for (name, _, _), scores in self._scores.items() if name == mix for s in scores.by_seed}
        return sorted(found, key=seed_order)

    def require(self, mix: str, what: str) -> None:
        """Refuse a mix that has no results.

        Raises:
            AssayError: with the nearest name.
        """
        if mix not in self.mixes:
            raise AssayError(f"the {what} {mix!r} has no results. {did_you_mean(mix, self.mixes)}")

    def require_same_questions(self, baseline: str, candidate: str) -> None:
        """Refuse two mixes that were asked a task in two ways, where the table says how.

        Raises:
            AssayError: task versions, few-shot numbers or prompts differ, between the mixes or between the seeds of one.
        """
        for column, asked in self._asked.items():
            for (mix, metric), ways in asked.items():
                other = asked.get((candidate if mix == baseline else baseline, metric), ways)
                if mix in (baseline, candidate) and (len(ways) > 1 or other != ways):
                    both = ", ".join(dict.fromkeys([*ways, *other]))
                    raise AssayError(
                        f"{metric} was asked of {baseline} and {candidate} by more than one {QUESTIONS[column]}: {both[:80]}.",
                        fix="Evaluate all runs with one version of the suite.",
                    )

    def require_same_budget(self, baseline: str, candidate: str) -> None:
        """Refuse two mixes of which one was trained on more tokens, in all or with one of the seeds that both have.

        Raises:
            AssayError: the budgets differ by more than 5%.
        """
        arms = self._tokens.get(baseline, {}), self._tokens.get(candidate, {})
        if not all(arms):
            return
        seeds = [(f" with seed {seed}", arms[0][seed], arms[1][seed]) for seed in arms[0] if seed in arms[1]]
        for which, a, b in [("", max(arms[0].values()), max(arms[1].values())), *seeds]:
            if abs(a - b) > BUDGETS_APART * max(a, b):
                raise AssayError(
                    f"{baseline} was trained on {a:,.0f} tokens{which} and {candidate} on {b:,.0f}: the budget would explain a"
                    " difference.",
                    fix="Compare runs of one budget.",
                )

    def uneven_budgets(self, baseline: str, candidate: str) -> list[str]:
        """Sentences on tokens that are not the same, between the two mixes or between the seeds of one."""
        found = []
        most = {mix: max(by_seed.values()) for mix in (baseline, candidate) if (by_seed := self._tokens.get(mix))}
        for mix, full in most.items():
            short = {s: at for s, at in self._tokens[mix].items() if at < (1 - TOKENS_APART) * full}
            if short:
                listed = ", ".join(f"seed {seed} at {at:,.0f}" for seed, at in short.items())
                found.append(f"The seeds of {mix} end at different token counts: {listed}, the longest at {full:,.0f}.")
        if len(most) == 2 and min(most.values()) < (1 - TOKENS_APART) * max(most.values()):
            a, b = most[baseline], most[candidate]
            found.append(
                f"{baseline} was trained on {a:,.0f} tokens and {candidate} on {b:,.0f}: some of a difference may be the budget's."
            )
        return found


class Items:
    """An items table that was checked, by run and metric."""

    def __init__(self, frame: pd.DataFrame | None) -> None:
        """Check the table; None stands for no items at all.

        Raises:
            AssayError: a column is missing or a value is no number.
        """
        self._rows: dict[Any, NDArray[np.intp]] = {}
        if frame is None:
            return
        # Sorted once, so that the questions of two runs line up. Of a question that a benchmark holds twice, copies do too.
        frame = with_columns(frame, [*ITEM_KEY, "value"], "items").sort_values(["item", "value"], kind="stable")
        self._item = frame["item"].to_numpy(dtype=object)
        self._value = frame["value"].to_numpy(dtype=float)
        self._weight = _numbers(frame, "weight") if "weight" in frame else np.ones(len(frame))
        self._group: list[str | None] = [None] * len(frame)
        if "group" in frame:
            known = zip(frame["group"], frame["group"].notna(), strict=True)
            self._group = [str(group) if there else None for group, there in known]
        self._rows = _rows_of(frame, SCORE_KEY)

    def paired(
        self, results: Results, task: str, metric: str, *, baseline: str, candidate: str, seeds: list[Seed]
    ) -> PairedItems | None:
        """The items of two arms side by side.

        Args:
            results: the scores, which the items have to add up to.
            task: the task's name.
            metric: the metric's name.
            baseline: the baseline's mix.
            candidate: the candidate's mix.
            seeds: those that both arms have.

        Returns:
            None where there are no items.

        Raises:
            AssayError: arms or seeds answered different questions, only some runs have items, or the items do not add up.
        """
        runs = [(mix, seed) for mix in (baseline, candidate) for seed in seeds]
        found = [self._rows.get((mix, seed, task, metric)) for mix, seed in runs]
        rows = [at for at in found if at is not None]
        if not rows:
            return None
        self._refuse_other_questions(found, runs, f"{task} {metric}")
        first = rows[0]
        values = np.stack([self._value[at] for at in rows])
        clusters = self._clusters(first)
        recorded = np.array([results.scores(mix, task, metric).by_seed[seed] for mix, seed in runs])
        given = self._weight[first]
        weights = _weights_of_score(values, recorded, given, clusters)
        if weights is None:
            mix, seed = runs[0]
            score = float(values[0] @ given / given.sum())
            raise AssayError(
                f"the items of {task} {metric} do not add up to the scores: {score:.6g} and {recorded[0]:.6g} for {mix} seed {seed}.",
                fix="Results and items are of different evaluations, or a weight is missing.",
            )
        return PairedItems(values[: len(seeds)], values[len(seeds) :], weights, clusters)

    def _clusters(self, rows: NDArray[np.intp]) -> NDArray[np.object_]:
        of_rows = [self._group[at] for at in rows]
        groups = set(of_rows)
        # One group of everything would say that there is but one question; it only names the task.
        named = groups if len(groups) > 1 else set()
        pairs = zip(of_rows, self._item[rows], strict=True)
        return np.array(
            [f"item {item}" if g is None or g not in named else f"group {g}" for g, item in pairs], dtype=object
        )

    def _refuse_other_questions(
        self, found: list[NDArray[np.intp] | None], runs: list[tuple[str, Seed]], what: str
    ) -> None:
        named = [f"{mix} seed {seed}" for mix, seed in runs]
        without = [name for name, rows in zip(named, found, strict=True) if rows is None]
        if without:
            raise AssayError(
                f"{what}: {', '.join(without)} has no items, while other runs do.", fix="Evaluate them again."
            )
        asked = [self._item[rows] for rows in found]
        for name, questions in zip(named, asked, strict=True):
            if np.array_equal(questions, asked[0]):
                continue
            odd = sorted(set(asked[0].tolist()) ^ set(questions.tolist()), key=str)
            example = f", such as {str(odd[0])[:24]!r}" if odd else ""
            raise AssayError(
                f"{what}: {named[0]} answered {len(asked[0])} questions and {name} {len(questions)}, of which"
                f" {len(odd)} are not the same questions with the same prompts{example}.",
                fix="Evaluate all arms with one version of the suite.",
            )


def scale_key(scale: Any) -> Any:
    """What two spellings of a scale have in common: parameters as a number, else the name in small letters.

    >>> scale_key("150M") == scale_key(150e6) == scale_key("150000000"), scale_key("Proxy ")
    (True, 'proxy')
    """
    if isinstance(scale, (int, float, np.integer, np.floating)):
        return float(scale)
    name = str(scale).strip().lower()
    found = re.fullmatch(r"(\d+(?:\.\d*)?(?:e[+]?\d+)?)([kmbt]?)", name)
    # 0.15B and 150M are one scale, whatever floating point makes of the product.
    return float(f"{float(found[1]) * UNITS[found[2]]:.9g}") if found else name


def with_columns(frame: pd.DataFrame, needed: list[str], what: str) -> pd.DataFrame:
    """The frame with numeric values; refuses a table that lacks a column or an entry of those that name a score.

    Args:
        frame: a long table.
        needed: its columns, `value` last.
        what: what to call the table in an error.

    Raises:
        AssayError: a column is missing (with the nearest name), a value is no number, or a row lacks an entry.
    """
    require_frame(frame, what)
    for name in needed:
        if name not in frame.columns:
            raise AssayError(f"{what} has no column {name!r}. {did_you_mean(name, [str(c) for c in frame.columns])}")
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise AssayError(f"{what} has two columns {str(twice[0])!r}.", fix="Keep one of them.")
    # An index may have the names of columns, which is ambiguous to pandas.
    frame = frame.reset_index(drop=True)
    for name in {"value", "tokens"} & set(frame.columns):
        frame = frame.assign(
            **{name: _as_numbers(frame[name], f"{what}: {'tokens' if name == 'tokens' else 'a value'}")}
        )
    for name in needed[:-1]:
        if frame[name].isna().any():
            raise AssayError(f"{what}: {int(frame[name].isna().sum())} rows have no {name}.")
    if "mix" in needed:
        frame = frame.assign(mix=frame["mix"].astype(str))  # a mix may be called 7, as a number
    return frame


def require_frame(frame: object, what: str) -> None:
    """Refuse what is no data frame.

    Raises:
        AssayError: naming what it is instead.
    """
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise AssayError(f"{what} is a {type(frame).__name__}; it has to be a pandas data frame.")


def with_proxy_scale(policy: Policy, frame: pd.DataFrame) -> Policy:
    """The policy with the scale that is judged, where it names none and its target is one of the table's two."""
    if policy.proxy_scale is not None or policy.target is None or "scale" not in frame:
        return policy
    target = scale_key(policy.target.scale)
    others = {scale_key(scale): str(scale) for scale in frame["scale"].dropna().unique() if scale_key(scale) != target}
    return replace(policy, proxy_scale=next(iter(others.values()))) if len(others) == 1 else policy


def at_scale(frame: pd.DataFrame, scale: str | None) -> pd.DataFrame:
    """The rows of one scale; of a table without scales all.

    Raises:
        AssayError: the table has not this scale, or several where none is named.
    """
    if "scale" not in frame or frame["scale"].isna().all():
        return frame
    known = sorted({str(value) for value in frame["scale"]})
    if scale is not None:
        wanted = scale_key(scale)
        frame = frame[[scale_key(value) == wanted for value in frame["scale"]]]
        if frame.empty:
            raise AssayError(f"results has no runs at the policy's proxy scale {scale!r}. {did_you_mean(scale, known)}")
    elif len(known) > 1:
        raise AssayError(
            f"results holds {len(known)} scales: {', '.join(known)}.",
            fix="Say which one to judge: `proxy_scale` in the policy.",
        )
    return frame


def last_checkpoints(frame: pd.DataFrame) -> pd.DataFrame:
    """Of each run the row with the most tokens, where a score has several; a table without `tokens` as it is.

    Rows that share their tokens too are no checkpoints, and stay for whoever refuses what is there twice.
    """
    if "tokens" not in frame or not frame.duplicated(SCORE_KEY).any():
        return frame
    most = frame.groupby(SCORE_KEY, sort=False)["tokens"].transform("max")
    # Tokens that are not known cannot be told from the last ones.
    return frame[(frame["tokens"] == most) | frame["tokens"].isna() | most.isna()]


def _refuse_twice(frame: pd.DataFrame) -> None:
    twice = frame[frame.duplicated(SCORE_KEY, keep=False)]
    if twice.empty:
        return
    row = twice.iloc[0]
    place = f"mix {row['mix']}, seed {row['seed']}, task {row['task']}, metric {row['metric']}"
    same = twice[(twice[SCORE_KEY] == row[SCORE_KEY]).all(axis=1)]
    raise AssayError(
        f"results has {len(same)} rows for {place}; {len(twice)} rows are there more than once.",
        fix="Keep one row for each mix, seed, task and metric, or say in `tokens` which checkpoint is which.",
    )


def _rows_of(frame: pd.DataFrame, key: list[str]) -> dict[Any, NDArray[np.intp]]:
    """Positions of the rows of each group."""
    return {group: np.asarray(rows) for group, rows in frame.groupby(key, sort=False).indices.items()}


def _as_numbers(column: pd.Series[Any], what: str) -> pd.Series[Any]:
    """The column as float64, whatever library or text its numbers come from."""
    import pandas as pd

    try:
        numbers = pd.to_numeric(column)
        return pd.Series(numbers.to_numpy(dtype=float, na_value=math.nan), index=column.index)
    except (ValueError, TypeError) as error:
        raise AssayError(f"{what} is not a number: {error}") from None


def _numbers(frame: pd.DataFrame, column: str) -> NDArray[np.float64]:
    if column not in frame:
        return np.full(len(frame), math.nan)
    return np.array([math.nan if value is None else value for value in frame[column]], dtype=float)


def _known(values: NDArray[np.float64]) -> list[float]:
    """The different values that are there."""
    return sorted(set(values[~np.isnan(values)].tolist()))


def _weights_of_score(
    values: NDArray[np.float64],
    recorded: NDArray[np.float64],
    given: NDArray[np.float64],
    clusters: NDArray[np.object_],
) -> NDArray[np.float64] | None:
    """Weights with which items add up to every score: those given, or every cluster alike, as in a macro average."""
    _, labels = np.unique(clusters.astype(str), return_inverse=True)
    for weights in (given, given / np.bincount(labels, weights=given)[labels]):
        if np.allclose(values @ weights / weights.sum(), recorded, rtol=AGREE, atol=AGREE):
            return weights
    return None


def _plain(seed: Hashable) -> Seed:
    value: Any = seed.item() if isinstance(seed, np.generic) else seed
    return int(value) if isinstance(value, float) and value.is_integer() else value


def seed_order(seed: Seed) -> tuple[bool, int, str]:
    """Sorts seeds: numbers first, then names."""
    return (isinstance(seed, str), 0 if isinstance(seed, str) else int(seed), str(seed))

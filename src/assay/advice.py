"""What would decide an inconclusive verdict: more seeds, more tokens, a larger proxy or runs at the target, and what each costs.

Only what can be foretold is. Seeds reduce noise by a known law, so for them there is a power. What more tokens or a larger proxy do to
the noise and to the differences is known where past runs were trained so; elsewhere only the cost is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from assay.claims import Claim, Claims, by_seeds, claims, noise_of
from assay.compare import Comparison
from assay.stats.frames import Metric, scale_key
from assay.stats.nearer import at_target, between
from assay.stats.power import MOST_SEEDS, POWER, fewest, power_with_seeds
from assay.stats.replicates import replicate_noise, signal_to_noise
from assay.stats.target import TargetEffect
from assay.suite import Policy

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["seeds", "tokens", "proxy", "target", "questions", "metric"]

ENOUGH_MIXES = 5
"""Past mixes with replicates that show what a budget or a scale does to noise and spread; fewer do not."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One way to decide.

    Attributes:
        kind: what there would be more of.
        what: in words.
        seeds: replicates of each mix that there would be then; None where that is not the point.
        runs: runs to train, of both arms.
        tokens: tokens of those runs; None where the budget is not known.
        worker_seconds: time of one worker for them; None where no speed was measured.
        power: chance that it decides, if the effects are what they look like; None where that is not known.
        basis: what the power rests on, or why there is none.
    """

    kind: Kind
    what: str
    seeds: int | None = None
    runs: int | None = None
    tokens: float | None = None
    worker_seconds: float | None = None
    power: float | None = None
    basis: str = ""

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is known beside the results.

    Attributes:
        scale: parameters of the proxy, or its name.
        tokens: budget of a run.
        seconds: worker time of a run, evaluation included; None where nothing was measured.
        past: long results of past runs, the judged ones not among them, of any scale and budget.
    """

    scale: Any = None
    tokens: float | None = None
    seconds: float | None = None
    past: pd.DataFrame | None = None

    def cost(self, runs: int, *, tokens: float | None = None, scale: Any = None) -> dict[str, Any]:
        """Runs, tokens and seconds of so many runs, of another budget or scale if given.

        Time goes with operations: with tokens, and with parameters.
        """
        each = self.tokens if tokens is None else tokens
        longer = each / self.tokens if each is not None and self.tokens else None
        larger = 1.0 if scale is None else _over(scale, self.scale)
        known = self.seconds is not None and longer is not None and larger is not None
        return {
            "runs": runs,
            "tokens": None if each is None else runs * each,
            "worker_seconds": runs * (self.seconds or 0.0) * (longer or 0.0) * (larger or 0.0) if known else None,
        }


def beside(
    results: pd.DataFrame,
    policy: Policy,
    mixes: Sequence[str],
    setting: Setting | None,
    *,
    history: pd.DataFrame | None,
) -> Setting:
    """What is known beside the results, filled up from them: scale and budget of the judged runs, the history as the past."""
    given = setting or Setting()
    rows = results[results["mix"].astype(str).isin(mixes)]
    scale = policy.proxy_scale
    if scale is None and "scale" in rows:
        scale = next(iter(rows["scale"].dropna()), None)
    elif scale is not None and "scale" in rows:
        rows = rows[rows["scale"].map(scale_key) == scale_key(scale)]
    tokens = float(rows["tokens"].max()) if "tokens" in rows and rows["tokens"].notna().any() else None
    past = given.past if given.past is not None else history
    if past is not None:
        past = past[~past["mix"].astype(str).isin(mixes)]
    return replace(
        given,
        scale=scale if given.scale is None else given.scale,
        tokens=tokens if given.tokens is None else given.tokens,
        past=past,
    )


def _over(scale: Any, other: Any) -> float | None:
    """How many times larger a scale is; None where they are names."""
    a, b = scale_key(scale), scale_key(other)
    return a / b if isinstance(a, float) and isinstance(b, float) and b > 0 else None


def options(
    comparisons: Sequence[Comparison],
    policy: Policy,
    setting: Setting,
    *,
    target: TargetEffect | None = None,
    present: tuple[int, int] | None = None,
) -> tuple[Option, ...]:
    """What would decide, the surest first.

    Args:
        comparisons: one candidate's, of an inconclusive verdict.
        policy: what judged it.
        setting: what is known beside.
        target: what was foretold of the target, where that decides.
        present: seeds that baseline and candidate have; left out, as many as they share.
    """
    have = min((c.n_seeds for c in comparisons if c.role != "monitor"), default=0)
    there = (have, have) if present is None else present
    wanted = claims(comparisons, policy, at_target=target is not None)
    found = [_seeds(wanted, policy, setting, target=target, have=have, there=there, comparisons=comparisons)]
    if _short_of_seeds(comparisons, policy):
        return tuple(one for one in found if one is not None)
    if target is None and _mute(comparisons):
        what = "another primary metric, with signal: bits per byte of the right answers"
        found = [Option(kind="metric", what=what, runs=0, tokens=0, basis="no number of seeds gives a metric signal")]
    if target is not None and (found[0] is None or target.problem):
        found += [*_nearer(target, policy, setting), _at_target(target, policy, setting)]
    elif found[0] is None:
        found.append(_questions(wanted, have))
    seeds = max(have, policy.min_seeds)
    if target is None:
        found += _larger(wanted, setting, seeds, known=not _mute(comparisons))
    return tuple(one for one in found if one is not None)


def _mute(comparisons: Sequence[Comparison]) -> bool:
    primaries = [c.signal for c in comparisons if c.role == "primary"]
    return bool(primaries) and all(signal == "no signal" for signal in primaries)


def _seeds(
    wanted: Claims,
    policy: Policy,
    setting: Setting,
    *,
    target: TargetEffect | None,
    have: int,
    there: tuple[int, int],
    comparisons: Sequence[Comparison],
) -> Option | None:
    """More seeds, where some number of them would do."""
    if _short_of_seeds(comparisons, policy):
        # The policy's own bar comes first: below it the noise is not known well enough to foretell anything.
        n, power, says = max(policy.min_seeds, have), None, ""
        basis = "the policy asks for as many, and what they will show cannot be foretold"
    else:
        chance = _with_target(wanted, target)
        enough = fewest(chance, most=MOST_SEEDS)
        if enough is None:
            return None
        n = max(enough, have + 1)
        power, basis = chance(n), "if effects and noise are as they look"
        about = f"{target.task} {target.metric} at {target.scale} is foretold surely enough" if target else ""
        claimed = wanted.shown(by_seeds(n))
        says = f", to show that {' and '.join(part for part in (about, claimed) if part)}"
    return Option(
        kind="seeds",
        what=f"{n} seeds of each mix ({n - have} more){says}",
        seeds=n,
        power=power,
        basis=basis,
        **setting.cost(sum(max(n - seeds, 0) for seeds in there)),
    )


def _short_of_seeds(comparisons: Sequence[Comparison], policy: Policy) -> bool:
    return any(c.n_seeds < policy.min_seeds for c in comparisons if c.role != "monitor" and c.signal != "no signal")


def _with_target(wanted: Claims, target: TargetEffect | None) -> Callable[[int], float]:
    """The chance to decide by seeds."""
    if target is None:
        return lambda n: wanted.decide(by_seeds(n))

    def chance(n: int) -> float:
        sure = target.winner != "unknown"
        foretold = 1.0 if sure else POWER if target.seeds is not None and n >= target.seeds else 0.0
        # Losing at the target is a REJECT whatever the guardrails do.
        accepted = foretold if target.gain < 0 else min(foretold, wanted.accept(by_seeds(n)))
        return max(accepted, wanted.reject(by_seeds(n)))

    return chance


def _questions(wanted: Claims, have: int) -> Option | None:
    """More questions, where they are what makes a metric unsure: seeds do not reduce that."""
    unsure = [
        f"{claim.comparison.task} {claim.comparison.metric}"
        for claim in (*wanted.better, *(wanted.held or ()))
        if claim.comparison.item_variance > noise_of(claim.comparison) ** 2 / max(have, 1) and claim.distance > 0
    ]
    if not unsure:
        return None
    what = f"more questions of {', '.join(dict.fromkeys(unsure))}"
    return Option(
        kind="questions",
        what=what,
        runs=0,
        tokens=0,
        basis="no run is trained again; the choice of questions is most of its noise",
    )


# --- where the target decides, and no number of seeds would do


def _nearer(target: TargetEffect, policy: Policy, setting: Setting) -> list[Option]:
    """Larger proxies: those that the past was trained at too, or twice the size, of which nothing is known."""
    found = []
    steps = () if setting.past is None or not target.own else between(setting.past, target, proxy_scale=setting.scale)
    for step in steps:
        cost = setting.cost(2 * policy.min_seeds, tokens=step.tokens, scale=step.scale)
        found.append(
            Option(
                kind="proxy",
                what=f"a proxy of {step.scale}",
                seeds=policy.min_seeds,
                power=step.power,
                basis=f"from {step.n_mixes} past mixes that were trained at this proxy, there and at {target.scale}",
                **cost,
            )
        )
    return found or [
        replace(_unknown("proxy", setting, policy.min_seeds), basis="no past mixes show how much nearer it is")
    ]


def _at_target(target: TargetEffect, policy: Policy, setting: Setting) -> Option:
    """Both mixes at the target itself."""
    runs, tokens, noise = 2 * policy.min_seeds, None, None
    if setting.past is not None:
        tokens, noise = at_target(setting.past, target)
    chance = None
    if noise is not None and noise.sd > 0:
        chance = power_with_seeds(abs(target.effect), n_seeds=policy.min_seeds, noise=noise.sd, tail=policy.alpha / 2)
    basis = "if the difference foretold is right; noise of past replicates there" if chance is not None else ""
    cost = setting.cost(runs, tokens=tokens, scale=target.scale) if tokens is not None else {"runs": runs}
    return Option(
        kind="target",
        what=f"both mixes at {target.scale} itself, {policy.min_seeds} seeds of each",
        seeds=policy.min_seeds,
        power=chance,
        basis=basis or "no past replicates there show the noise",
        **cost,
    )


# --- more tokens, or a larger proxy


class _Cell(NamedTuple):
    """A scale and a budget that past runs had."""

    scale: Any
    tokens: float


class _Seen(NamedTuple):
    """What they show of a metric there: SD between mixes, SD of a paired difference between seeds, and of how many mixes."""

    spread: float
    noise: float
    n_mixes: int


def _larger(wanted: Claims, setting: Setting, seeds: int, *, known: bool) -> list[Option]:
    """More tokens, and a larger proxy: with a power where the past shows what they do, else with the cost alone."""
    found = []
    here = None if setting.tokens is None else _Cell(scale_key(setting.scale), float(setting.tokens))
    metrics = {(claim.comparison.task, claim.comparison.metric) for claim in wanted.every}
    cells = {} if setting.past is None or here is None else _cells(setting.past, metrics)
    for kind in ("tokens", "proxy"):
        seen = _known(kind, cells, here, wanted, setting=setting, seeds=seeds) if known and here is not None else None
        found.append(seen or _unknown(kind, setting, seeds))
    return found


def _known(
    kind: str,
    cells: Mapping[_Cell, Mapping[Metric, _Seen]],
    here: _Cell,
    wanted: Claims,
    *,
    setting: Setting,
    seeds: int,
) -> Option | None:
    """The nearest larger cell of the past that shows what becomes of all metrics that have a say."""
    usual = cells.get(here, {})
    for cell in sorted(cells, key=lambda c: (str(c.scale), c.tokens)):
        larger, longer = _over(cell.scale, here.scale), cell.tokens > here.tokens
        if (kind == "tokens" and (cell.scale != here.scale or not longer)) or (
            kind == "proxy" and (larger is None or larger <= 1)
        ):
            continue
        changed = {
            metric: (cells[cell][metric].spread / usual[metric].spread, cells[cell][metric].noise / usual[metric].noise)
            for metric in usual
            if metric in cells[cell] and usual[metric].spread > 0
        }
        if not changed or {(c.comparison.task, c.comparison.metric) for c in wanted.every} - set(changed):
            continue

        def chance(claim: Claim, changed: Mapping[Metric, tuple[float, float]] = changed) -> float:
            effect, noise = changed[claim.comparison.task, claim.comparison.metric]
            return claim.chance(seeds, effect=effect, noise=noise)

        mixes = min(cells[cell][metric].n_mixes for metric in changed)
        size = f"a proxy of {short(cell.scale)} parameters, on {short(cell.tokens)} tokens"
        return Option(
            kind="tokens" if kind == "tokens" else "proxy",
            what=f"runs of {short(cell.tokens)} tokens" if kind == "tokens" else size,
            seeds=seeds,
            power=wanted.decide(chance),
            basis=f"if these mixes' differences change as the spread of {mixes} past mixes does there, and the noise likewise",
            **setting.cost(2 * seeds, tokens=cell.tokens, scale=cell.scale),
        )
    return None


def _unknown(kind: str, setting: Setting, seeds: int) -> Option:
    if kind == "tokens":
        twice = None if setting.tokens is None else 2 * setting.tokens
        return Option(
            kind="tokens",
            what="runs of twice the tokens" + ("" if twice is None else f", {short(twice)} each"),
            seeds=seeds,
            basis="no past runs show how noise and spread change with tokens",
            **setting.cost(2 * seeds, tokens=twice),
        )
    scale = scale_key(setting.scale)
    number = isinstance(scale, float)
    double = None if setting.tokens is None else 2 * setting.tokens
    return Option(
        kind="proxy",
        what="a proxy of twice the parameters" + (f", {short(2 * scale)}" if number else "") + ", on twice the tokens",
        seeds=seeds,
        basis="no past runs show how noise and spread change with the proxy's size",
        **(
            setting.cost(2 * seeds, tokens=double, scale=2 * scale)
            if number
            else {**setting.cost(2 * seeds, tokens=double), "worker_seconds": None}
        ),
    )


def _cells(past: pd.DataFrame, metrics: set[Metric]) -> dict[_Cell, dict[Metric, _Seen]]:
    """By scale and budget, what past mixes show of the metrics that are asked for."""
    if past.empty or not {"scale", "tokens"} <= set(past.columns):
        return {}
    rows = past[[pair in metrics for pair in zip(past["task"], past["metric"], strict=True)]]
    rows = rows.assign(_scale=rows["scale"].map(scale_key))
    found: dict[_Cell, dict[Metric, _Seen]] = {}
    for place, cell in rows.groupby(["_scale", "tokens"], sort=False):
        scale, tokens = cast("tuple[Any, float]", place)
        noise = replicate_noise(cell)
        for (task, metric), part in cell.groupby(["task", "metric"], sort=False):
            name = (str(task), str(metric))
            ratio = signal_to_noise([values.to_numpy(float) for _, values in part.groupby("mix")["value"]])
            if name in noise and ratio is not None and ratio.n_mixes >= ENOUGH_MIXES:
                within = float(part.groupby("mix")["value"].var().mean()) ** 0.5
                seen = _Seen(ratio.value * within, noise[name].sd, ratio.n_mixes)
                found.setdefault(_Cell(scale, float(tokens)), {})[name] = seen
    return found


def short(number: float) -> str:
    """A count in three digits: 950, 12.3k, 1.5B."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size * 0.9995:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"

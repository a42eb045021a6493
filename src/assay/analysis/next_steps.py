"""List next steps for an inconclusive verdict, with costs and power.

The steps are more seeds, more items, more tokens, a larger proxy, or runs at the target. A step has a power only if the
power can be predicted. The effect of more seeds on the noise follows from sampling theory. The effect of more tokens or
of a larger proxy is known only from past runs with a larger budget or size. Without such past runs, the step has a cost
but no power.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from assay.analysis.comparison import Comparison
from assay.analysis.decision_power import Claim, Claims, chance_with_seeds, list_claims, noise_of
from assay.analysis.stats.history import HistoryTable
from assay.analysis.stats.intermediate_scale import at_target, between
from assay.analysis.stats.past_cells import Cell, CellEstimate, estimate_cells
from assay.analysis.stats.power import MOST_SEEDS, POWER, fewest, power_with_seeds
from assay.analysis.stats.tables import Metric, scale_key
from assay.analysis.stats.target import TargetEffect
from assay.config.policy import Policy
from assay.config.reason import Code, Reason

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["seeds", "tokens", "proxy", "target", "questions", "metric"]


@dataclass(frozen=True, kw_only=True)
class Option:
    """A next step that could decide an inconclusive change.

    Attributes:
        kind: the added resource: seeds, items, tokens, a larger proxy, or runs at the target.
        what: description of the step.
        seeds: resulting number of replicates per mix; None if the step does not concern seeds.
        runs: number of runs to train, over both arms.
        tokens: total tokens of `runs`; None if the budget is unknown.
        worker_seconds: total time of one worker for `runs`, in seconds; None without a measured speed.
        power: probability that the step decides, if the true effects equal the estimates; None if unknown.
        basis: the data behind the power, or why the power is unknown.
    """

    kind: Kind
    what: Reason
    seeds: int | None = None
    runs: int | None = None
    tokens: float | None = None
    worker_seconds: float | None = None
    power: float | None = None
    basis: Reason | None = None


@dataclass(frozen=True, kw_only=True)
class DecisionContext:
    """Inputs of next steps in addition to the results.

    Attributes:
        scale: parameters of the proxy, or its name.
        tokens: token budget of a run.
        seconds: worker time of a run including evaluation; None without a measurement.
        past: long results of past runs of any scale and budget.
        compared: the compared mixes; their rows in `past` are ignored.
    """

    scale: Any = None
    tokens: float | None = None
    seconds: float | None = None
    past: pd.DataFrame | HistoryTable | None = None
    compared: tuple[str, ...] = ()

    @property
    def others(self) -> pd.DataFrame | None:
        """The rows of `past` without the compared mixes."""
        frame = None if self.past is None else as_table(self.past).frame
        return None if frame is None else frame[~frame["mix"].astype(str).isin(self.compared)]

    def cost(self, runs: int, *, tokens: float | None = None, scale: Any = None) -> dict[str, Any]:
        """Return the number, tokens and worker time of runs, optionally at another budget or scale.

        The estimated time is proportional to the tokens and to the parameters.
        """
        each = self.tokens if tokens is None else tokens
        longer = each / self.tokens if each is not None and self.tokens else None
        larger = 1.0 if scale is None else _scale_ratio(scale, self.scale)
        known = self.seconds is not None and longer is not None and larger is not None
        return {
            "runs": runs,
            "tokens": None if each is None else runs * each,
            "worker_seconds": runs * (self.seconds or 0.0) * (longer or 0.0) * (larger or 0.0) if known else None,
        }


def as_table(past: pd.DataFrame | HistoryTable) -> HistoryTable:
    """Return past runs as a table that computes derived values once for all candidates."""
    return past if isinstance(past, HistoryTable) else HistoryTable(past)


def complete_context(
    results: pd.DataFrame,
    policy: Policy,
    mixes: Sequence[str],
    context: DecisionContext | None,
    *,
    history: HistoryTable | None,
) -> DecisionContext:
    """Fill in unset fields of a context from the compared runs and the history."""
    given = context or DecisionContext()
    rows = results[results["mix"].astype(str).isin(mixes)]
    scale = policy.proxy_scale
    if scale is None and "scale" in rows:
        scale = next(iter(rows["scale"].dropna()), None)
    elif scale is not None and "scale" in rows:
        rows = rows[rows["scale"].map(scale_key) == scale_key(scale)]
    tokens = float(rows["tokens"].max()) if "tokens" in rows and rows["tokens"].notna().any() else None
    return replace(
        given,
        scale=scale if given.scale is None else given.scale,
        tokens=tokens if given.tokens is None else given.tokens,
        past=history if given.past is None else given.past,
        compared=tuple(mixes),
    )


def _scale_ratio(scale: Any, other: Any) -> float | None:
    """Return the ratio of two scales; None if a scale is a name."""
    a, b = scale_key(scale), scale_key(other)
    return a / b if isinstance(a, float) and isinstance(b, float) and b > 0 else None


def list_options(
    comparisons: Sequence[Comparison],
    policy: Policy,
    context: DecisionContext,
    *,
    target: TargetEffect | None = None,
    present: tuple[int, int] | None = None,
) -> tuple[Option, ...]:
    """List the next steps that could decide, with the most certain step first.

    Args:
        comparisons: one candidate's comparisons, of an inconclusive verdict.
        policy: the policy that decides.
        context: cost of a run, and past runs.
        target: the prediction at the target, if the target decides.
        present: number of seeds of baseline and candidate (default: their shared seeds).
    """
    have = min((c.n_seeds for c in comparisons if c.role != "monitor"), default=0)
    available = (have, have) if present is None else present
    required = list_claims(comparisons, policy, at_target=target is not None)
    steps = [
        _more_seeds(required, policy, context, target=target, have=have, available=available, comparisons=comparisons)
    ]
    if _short_of_seeds(comparisons, policy):
        return tuple(step for step in steps if step is not None)
    if target is None and _primaries_lack_signal(comparisons):
        basis = Reason(code=Code.BASIS_NO_SIGNAL)
        steps = [Option(kind="metric", what=Reason(code=Code.OTHER_METRIC), runs=0, tokens=0, basis=basis)]
    if target is not None and (steps[0] is None or target.problem):
        steps += [*_larger_proxies(target, policy, context), _at_target(target, policy, context)]
    elif steps[0] is None:
        steps.append(_more_items(required, have))
    seeds = max(have, policy.min_seeds)
    if target is None:
        steps += _larger(required, context, seeds, known=not _primaries_lack_signal(comparisons))
    return tuple(step for step in steps if step is not None)


def _primaries_lack_signal(comparisons: Sequence[Comparison]) -> bool:
    primaries = [c.signal for c in comparisons if c.role == "primary"]
    return bool(primaries) and all(signal == "no signal" for signal in primaries)


def _more_seeds(
    required: Claims,
    policy: Policy,
    context: DecisionContext,
    *,
    target: TargetEffect | None,
    have: int,
    available: tuple[int, int],
    comparisons: Sequence[Comparison],
) -> Option | None:
    """Return the option of more seeds; None if no number of seeds would decide."""
    expected: tuple[Reason, ...] = ()
    if _short_of_seeds(comparisons, policy):
        # First reach the policy's minimum number of seeds: with fewer seeds the noise is too uncertain for a power
        # analysis.
        n, power = max(policy.min_seeds, have), None
        basis = Reason(code=Code.BASIS_POLICY_MINIMUM)
    else:
        chance = _with_target(required, target)
        enough = fewest(chance, most=MOST_SEEDS)
        if enough is None:
            return None
        n = max(enough, have + 1)
        power, basis = chance(n), Reason(code=Code.BASIS_ESTIMATES)
        expected = required.expected_claims(chance_with_seeds(n))
        if target is not None:
            scale = {"scale": target.scale}
            about = Reason(code=Code.CLAIM_TARGET, subject=target.task, metric=target.metric, figures=scale)
            expected = (about, *expected)
    return Option(
        kind="seeds",
        what=Reason(code=Code.MORE_SEEDS, figures={"n_seeds": n, "more": n - have}, causes=expected),
        seeds=n,
        power=power,
        basis=basis,
        **context.cost(sum(max(n - seeds, 0) for seeds in available)),
    )


def _short_of_seeds(comparisons: Sequence[Comparison], policy: Policy) -> bool:
    return any(c.n_seeds < policy.min_seeds for c in comparisons if c.role != "monitor" and c.signal != "no signal")


def _with_target(required: Claims, target: TargetEffect | None) -> Callable[[int], float]:
    """Return the probability of a decision as a function of the number of seeds."""
    if target is None:
        return lambda n: required.decide(chance_with_seeds(n))

    def chance(n: int) -> float:
        certain = target.winner != "unknown"
        predicted = 1.0 if certain else POWER if target.seeds is not None and n >= target.seeds else 0.0
        # A loss at the target is a REJECT regardless of the guardrails.
        accepted = predicted if target.gain < 0 else min(predicted, required.accept(chance_with_seeds(n)))
        return max(accepted, required.reject(chance_with_seeds(n)))

    return chance


def _more_items(required: Claims, have: int) -> Option | None:
    """Return the option of more items, if item noise dominates. More seeds do not reduce item noise."""
    uncertain = [
        {"task": claim.comparison.task, "metric": claim.comparison.metric}
        for claim in (*required.better, *(required.guardrails or ()))
        if claim.comparison.item_variance > noise_of(claim.comparison) ** 2 / max(have, 1) and claim.distance > 0
    ]
    if not uncertain:
        return None
    metrics = [metric for i, metric in enumerate(uncertain) if metric not in uncertain[:i]]
    return Option(
        kind="questions",
        what=Reason(code=Code.MORE_ITEMS, figures={"metrics": metrics}),
        runs=0,
        tokens=0,
        basis=Reason(code=Code.BASIS_ITEM_NOISE),
    )


# --- the target decides, and no number of seeds would


def _larger_proxies(target: TargetEffect, policy: Policy, context: DecisionContext) -> list[Option]:
    """Return the larger proxies: the scales in the history, or else twice the size without a power."""
    options = []
    past = context.others
    scales = () if past is None else between(past, target, proxy_scale=context.scale)
    for step in scales:
        cost = context.cost(2 * policy.min_seeds, tokens=step.tokens, scale=step.scale)
        options.append(
            Option(
                kind="proxy",
                what=Reason(code=Code.LARGER_PROXY, figures={"scale": step.scale}),
                seeds=policy.min_seeds,
                power=step.power,
                basis=Reason(code=Code.BASIS_PAST_PROXIES, figures={"n_mixes": step.n_mixes, "scale": target.scale})
                if step.power is not None
                else Reason(code=Code.BASIS_NO_PAST_PROXIES),
                **cost,
            )
        )
    return options or [
        replace(_unknown("proxy", context, policy.min_seeds), basis=Reason(code=Code.BASIS_NO_PAST_PROXIES))
    ]


def _at_target(target: TargetEffect, policy: Policy, context: DecisionContext) -> Option:
    """Return the option to train both mixes at the target."""
    runs, tokens, noise = 2 * policy.min_seeds, None, None
    past = context.others
    if past is not None:
        tokens, noise = at_target(past, target)
    chance = None
    if noise is not None and noise.sd > 0:
        chance = power_with_seeds(abs(target.effect), n_seeds=policy.min_seeds, noise=noise.sd, tail=policy.alpha / 2)
    basis = Code.BASIS_PREDICTION if chance is not None else Code.BASIS_NO_TARGET_NOISE
    cost = context.cost(runs, tokens=tokens, scale=target.scale) if tokens is not None else {"runs": runs}
    return Option(
        kind="target",
        what=Reason(code=Code.TARGET_RUNS, figures={"scale": target.scale, "n_seeds": policy.min_seeds}),
        seeds=policy.min_seeds,
        power=chance,
        basis=Reason(code=basis),
        **cost,
    )


# --- more tokens, or a larger proxy


def _larger(required: Claims, context: DecisionContext, seeds: int, *, known: bool) -> list[Option]:
    """Return the options of more tokens and a larger proxy, with power if known."""
    options = []
    current = None if context.tokens is None else Cell(scale_key(context.scale), float(context.tokens))
    metrics = {(claim.comparison.task, claim.comparison.metric) for claim in required.all}
    cells = {}
    if context.past is not None and current is not None:
        cells = estimate_cells(as_table(context.past), metrics, without=context.compared)
    for kind in ("tokens", "proxy"):
        option = None
        if known and current is not None:
            option = _known(kind, cells, current, required, context=context, seeds=seeds)
        options.append(option or _unknown(kind, context, seeds))
    return options


def _known(
    kind: str,
    cells: Mapping[Cell, Mapping[Metric, CellEstimate]],
    current: Cell,
    required: Claims,
    *,
    context: DecisionContext,
    seeds: int,
) -> Option | None:
    """Return the option of the nearest larger cell of past runs with all voting metrics."""
    usual = cells.get(current, {})
    for cell in sorted(cells, key=lambda c: (str(c.scale), c.tokens)):
        larger, longer = _scale_ratio(cell.scale, current.scale), cell.tokens > current.tokens
        if (kind == "tokens" and (cell.scale != current.scale or not longer)) or (
            kind == "proxy" and (larger is None or larger <= 1)
        ):
            continue
        changed = {
            metric: (cells[cell][metric].spread / usual[metric].spread, cells[cell][metric].noise / usual[metric].noise)
            for metric in usual
            if metric in cells[cell] and usual[metric].spread > 0
        }
        if not changed or {(c.comparison.task, c.comparison.metric) for c in required.all} - set(changed):
            continue

        def chance(claim: Claim, changed: Mapping[Metric, tuple[float, float]] = changed) -> float:
            effect, noise = changed[claim.comparison.task, claim.comparison.metric]
            return claim.chance(seeds, effect=effect, noise=noise)

        mixes = min(cells[cell][metric].n_mixes for metric in changed)
        larger_proxy = {"parameters": cell.scale, "tokens": cell.tokens}
        return Option(
            kind="tokens" if kind == "tokens" else "proxy",
            what=Reason(code=Code.MORE_TOKENS, figures={"tokens": cell.tokens})
            if kind == "tokens"
            else Reason(code=Code.LARGER_PROXY, figures=larger_proxy),
            seeds=seeds,
            power=required.decide(chance),
            basis=Reason(code=Code.BASIS_PAST_SPREAD, figures={"n_mixes": mixes}),
            **context.cost(2 * seeds, tokens=cell.tokens, scale=cell.scale),
        )
    return None


def _unknown(kind: str, context: DecisionContext, seeds: int) -> Option:
    if kind == "tokens":
        twice = None if context.tokens is None else 2 * context.tokens
        return Option(
            kind="tokens",
            what=Reason(code=Code.MORE_TOKENS, figures={"factor": 2, "tokens": twice}),
            seeds=seeds,
            basis=Reason(code=Code.BASIS_UNKNOWN_BY_TOKENS),
            **context.cost(2 * seeds, tokens=twice),
        )
    scale = scale_key(context.scale)
    number = isinstance(scale, float)
    double = None if context.tokens is None else 2 * context.tokens
    return Option(
        kind="proxy",
        what=Reason(code=Code.LARGER_PROXY, figures={"factor": 2, "parameters": 2 * scale if number else None}),
        seeds=seeds,
        basis=Reason(code=Code.BASIS_UNKNOWN_BY_SIZE),
        **(
            context.cost(2 * seeds, tokens=double, scale=2 * scale)
            if number
            else {**context.cost(2 * seeds, tokens=double), "worker_seconds": None}
        ),
    )

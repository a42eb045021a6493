"""Define designs of a sweep, the values that a comparison combines, and the marks of the best designs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from assay.analysis.design_noise import DesignNoise, RunSize
from assay.analysis.stats.power import MOST_SEEDS, POWER
from assay.core.errors import ConfigError

if TYPE_CHECKING:
    from assay.config.reason import Reason
    from assay.plan.plan import Plan, Speed
    from assay.plan.workspace import Workspace

Coupling = Literal["shared", "separate"]
Decides = Literal["each", "mean"]


class Effect(NamedTuple):
    """A true gain of each primary metric.

    Attributes:
        value: the gain.
        unit: `metric` for the metric's own unit (fractions of 1 for accuracies), `sd` for SDs between seeds of one mix.
    """

    value: float
    unit: Literal["metric", "sd"]


def parse_effect(text: str) -> Effect:
    """Parse a gain, such as `0.01` or `2sd`.

    Raises:
        ConfigError: the text is not a positive number, optionally followed by `sd`.
    """
    word = text.strip().lower()
    unit: Literal["metric", "sd"] = "sd" if word.endswith("sd") else "metric"
    try:
        value = float(word.removesuffix("sd"))
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ConfigError(
            f"--effect: {text!r} is invalid; expected a number above 0, optionally followed by `sd`.",
            fix="Write for example `--effect 0.01` (the metric's unit) or `--effect 2sd` (SDs between seeds).",
        )
    return Effect(value, unit)


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The values that a table of designs combines. None and empty values keep the sweep's own value.

    Attributes:
        seeds: numbers of seeds per arm (default: the sweep's number, and `SEEDS`).
        candidates: numbers of candidates. The first candidates of the sweep count first.
        tokens: training tokens of a run.
        proxies: names of proxies.
        couplings: `shared` seeds, or `separate` seeds for each arm.
        decides: whether `each` primary metric decides alone, or their standardized `mean`.
        correlation: correlation of mixes over shared seeds; None estimates the correlation from past runs.
    """

    seeds: tuple[int, ...] = ()
    candidates: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    proxies: tuple[str, ...] = ()
    couplings: tuple[Coupling, ...] = ("shared",)
    decides: tuple[Decides, ...] = ("each",)
    correlation: float | None = None

    def __post_init__(self) -> None:
        for name in ("seeds", "candidates", "tokens", "proxies", "couplings", "decides"):
            object.__setattr__(self, name, tuple(dict.fromkeys(getattr(self, name))))
        bounds = (("--seeds", self.seeds, MOST_SEEDS), ("--candidates", self.candidates, 1000))
        for option, values, most in bounds:
            for value in values:
                if not 1 <= value <= most:
                    raise ConfigError(
                        f"{option}: {value} is invalid; expected a number from 1 to {most}.",
                        fix=f"Write for example `{option} 2,3`.",
                    )
        for tokens in self.tokens:
            if tokens < 1:
                raise ConfigError(
                    f"--tokens: {tokens} is invalid; expected at least 1.", fix="Write for example `--tokens 1e8,2e8`."
                )
        if self.correlation is not None and not -1 < self.correlation < 1:
            raise ConfigError(
                f"--correlation: {self.correlation} is invalid; expected a number between -1 and 1.",
                fix="Write for example `--correlation 0.5`.",
            )


@dataclass(frozen=True, kw_only=True)
class MetricPower:
    """Power of a design on one primary metric. Unknown values are NaN.

    Attributes:
        task: name of the task, or the mean of the primary metrics.
        metric: name of the metric.
        unit: `metric`, or `sd` if the noise is unknown; then gains are in SDs between seeds of one mix.
        effect: true gain that the power is about.
        power: probability that the test is significant.
        smallest: smallest true gain that the design detects with probability 0.8.
        correlation: correlation of mixes over shared seeds.
    """

    task: str
    metric: str
    unit: Literal["metric", "sd"]
    effect: float
    power: float
    smallest: float
    correlation: float


@dataclass(frozen=True, kw_only=True)
class Design:
    """One design with its cost and power.

    Attributes:
        row: number in the table, from 1.
        scale: proxy and tokens of a run.
        n_candidates: number of candidates.
        seeds: the seeds of the replicates.
        coupling: whether all arms have the same seeds.
        decides: whether each primary metric decides alone, or their mean.
        runs: number of runs to do.
        reused: number of runs that are complete or in progress.
        reused_candidates: number of complete runs of candidates, whose results are known.
        refused: number of runs to do that the plan refuses.
        hours: estimated time of the runs to do, in hours of `DesignTable.hours_unit`; None if no speed is known.
        flops: training FLOPs of the runs to do.
        power: lower bound on the probability that the primary metrics are significant as the policy requires.
        metrics: power by primary metric.
        marks: `cheapest` for the cheapest design with power 0.8, `budget` for the most power within the budget,
            `seeds` for fewer seeds than the policy requires.
    """

    row: int
    scale: RunSize
    n_candidates: int
    seeds: tuple[int, ...]
    coupling: Coupling
    decides: Decides
    runs: int
    reused: int
    reused_candidates: int
    refused: int
    hours: float | None
    flops: float
    power: float
    metrics: tuple[MetricPower, ...]
    marks: tuple[Literal["cheapest", "budget", "seeds"], ...] = ()


@dataclass(frozen=True, kw_only=True)
class DesignTable:
    """Designs of one sweep, with the assumptions behind their power and cost.

    Attributes:
        sweep: name of the sweep.
        alpha: error rate of the final verdict.
        require: whether any or all primary metrics must improve.
        budget: hours that are available; None without a limit.
        hours_unit: `GPU`, `CPU` (hours of a core) or `worker` (the device is chosen on the machine that trains).
        speed: basis of the estimated time, by proxy.
        designs: the designs; their order depends only on the sweep and the options.
        noise: noise by scale and metric.
        notes: assumptions and warnings.
    """

    sweep: str
    alpha: float
    require: Literal["any", "all"]
    budget: float | None
    hours_unit: Literal["GPU", "CPU", "worker"]
    speed: dict[str, str]
    designs: tuple[Design, ...]
    noise: tuple[DesignNoise, ...]
    notes: tuple[Reason, ...]


@dataclass(frozen=True, kw_only=True)
class DesignPlace:
    """A proxy and budget with its planned runs.

    Attributes:
        space: the study at this scale.
        overrides: the overrides that select it.
        plan: the plan with all seeds of the table.
        speed: estimated speed.
        noise: noise of the primary metrics, by name; in units of itself if unknown.
    """

    space: Workspace
    overrides: tuple[str, ...]
    plan: Plan
    speed: Speed
    noise: dict[tuple[str, str], DesignNoise]

    @property
    def scale(self) -> RunSize:
        """Proxy and tokens of a run."""
        return RunSize(self.space.study.proxy.name, self.space.runs.budget)


@dataclass(frozen=True, kw_only=True)
class ComparedDesigns:
    """A table of designs, and what is needed to write one of them as a sweep.

    Attributes:
        table: the designs.
        space: the study of the sweep.
        overrides_by_scale: overrides that select the proxy and budget of a design.
    """

    table: DesignTable
    space: Workspace
    overrides_by_scale: dict[RunSize, tuple[str, ...]]


def mark_designs(designs: Sequence[Design], *, min_seeds: int, budget: float | None) -> list[Design]:
    """Mark the cheapest design with power 0.8, the most powerful one within the budget, and those with too few seeds.

    Designs are ordered by hours, or by FLOPs if the hours of a design are unknown.
    """
    by_hours = all(design.hours is not None for design in designs)

    def cost(design: Design) -> float:
        return design.hours if by_hours and design.hours is not None else design.flops

    valid = [design for design in designs if len(design.seeds) >= min_seeds and not math.isnan(design.power)]
    strong = [design for design in valid if design.power >= POWER]
    cheapest = min(strong, key=lambda design: (cost(design), -design.power), default=None)
    affordable = [design for design in valid if budget is not None and by_hours and cost(design) <= budget]
    best = max(affordable, key=lambda design: (design.power, -cost(design)), default=None)
    return [
        replace(
            design,
            marks=(
                *(("cheapest",) if design is cheapest else ()),
                *(("budget",) if design is best else ()),
                *(("seeds",) if len(design.seeds) < min_seeds else ()),
            ),
        )
        for design in designs
    ]

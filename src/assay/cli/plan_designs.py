"""`assay plan designs`: compare designs of a sweep by cost and power, and write one as a sweep."""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from assay.cli import import_command
from assay.cli.arguments import AsJson, Overrides, load_workspace, program
from assay.cli.console import console, print_json
from assay.cli.progress import spinner
from assay.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from rich.table import Table

    from assay.analysis.design_table import Design, DesignTable, MetricPower
    from assay.analysis.followup.design_sweep import DesignSweep

T = TypeVar("T")

METRICS_PER_TABLE = 3
"""Number of metrics next to each other, so that a table fits into 80 columns."""
MARKS = {"cheapest": "*", "budget": "+", "seeds": "-"}
"""Signs of the marked designs. A line below the table explains each sign that the table contains."""

EffectOption = Annotated[
    str | None,
    typer.Option(
        "--effect",
        metavar="GAIN",
        help="True gain of each primary metric in its own unit, or in SDs between seeds, such as 2sd (default: twice the"
        " policy's margin). Requires a margin in the policy if omitted.",
    ),
]
Seeds = Annotated[
    str | None,
    typer.Option("--seeds", metavar="LIST", help="Numbers of seeds (default: 2,3,5 and the sweep's number)."),
]
Tokens = Annotated[
    str | None,
    typer.Option("--tokens", metavar="LIST", help="Training tokens of a run, such as 1e8,2e8 (default: the budget)."),
]
Proxies = Annotated[
    str | None, typer.Option("--proxy", metavar="LIST", help="Names of proxies, such as 1m,4m (default: the proxy).")
]
Candidates = Annotated[
    str | None,
    typer.Option(
        "--candidates",
        metavar="LIST",
        help="Numbers of candidates, first candidates of the sweep first (default: all candidates).",
    ),
]
Coupling = Annotated[
    str,
    typer.Option(
        "--coupling",
        metavar="LIST",
        help="Whether arms have `shared` seeds or `separate` seeds (default: shared).",
        show_default=False,
    ),
]
Aggregate = Annotated[
    str,
    typer.Option(
        "--aggregate",
        metavar="LIST",
        help="Whether `each` primary metric decides, or the `mean` of the standardized primary metrics (default: each).",
        show_default=False,
    ),
]
Correlation = Annotated[
    float | None,
    typer.Option(
        "--correlation",
        help="Correlation of the scores of two mixes over shared seeds (default: estimated from past runs, else 0).",
    ),
]
BudgetOption = Annotated[
    float | None,
    typer.Option("--budget", metavar="HOURS", help="Available hours, in the unit of the table. Marks the best design."),
]
Write = Annotated[
    str | None,
    typer.Option("--write", metavar="NEW_SWEEP", help="Write a design as sweeps/NEW_SWEEP.yaml. Requires --choose."),
]
Choose = Annotated[
    int | None, typer.Option("--choose", metavar="ROW", help="Row of the design to write. Requires --write.")
]


def designs(
    overrides: Overrides = None,
    *,
    effect: EffectOption = None,
    seeds: Seeds = None,
    tokens: Tokens = None,
    proxy: Proxies = None,
    candidates: Candidates = None,
    coupling: Coupling = "shared",
    aggregate: Aggregate = "each",
    correlation: Correlation = None,
    budget: BudgetOption = None,
    write: Write = None,
    choose: Choose = None,
    as_json: AsJson = False,
) -> None:
    """Compare designs of a sweep by cost and power, and write one of them as a sweep.

    Power is the probability that the primary metrics are significant for a true gain. The noise comes from past runs of
    the store or from the history.
    """
    from assay.analysis.design_table import Axes, parse_effect
    from assay.analysis.designs import compare_designs
    from assay.analysis.followup import design_sweep

    design_sweep.require_both(write, choose)
    axes = Axes(
        seeds=_entries("--seeds", seeds, _whole),
        tokens=_entries("--tokens", tokens, _whole),
        proxies=_entries("--proxy", proxy, str),
        candidates=_entries("--candidates", candidates, _whole),
        couplings=_entries("--coupling", coupling, str, valid=("shared", "separate")),  # type: ignore[arg-type]  # checked
        decides=_entries("--aggregate", aggregate, str, valid=("each", "mean")),  # type: ignore[arg-type]  # checked
        correlation=correlation,
    )
    if budget is not None and not 0 < budget < math.inf:
        raise ConfigError(
            f"--budget: {budget:g} is invalid; expected a finite number above 0.",
            fix="Write for example `--budget 24`.",
        )
    gain = None if effect is None else parse_effect(effect)
    written = None
    with spinner("comparing designs", quiet=as_json):
        space = load_workspace(overrides)
        import_command.require_history(space)
        compared = compare_designs(space, list(overrides or ()), axes, effect=gain, budget=budget)
        if write is not None and choose is not None:
            design = design_sweep.find_design(compared, choose)
            written = design_sweep.write_design(compared, design, name=write)
    if as_json:
        print_json(to_mapping(compared.table, written))
        return
    print_designs(compared.table)
    if written is not None:
        _print_written(written)


def _whole(text: str) -> int:
    """Parse a whole number, such as `3` or `1e9`."""
    number = float(text)
    if not math.isfinite(number) or number != int(number):
        raise ValueError(text)
    return int(number)


def _entries(option: str, text: str | None, parse: Callable[[str], T], *, valid: Collection[str] = ()) -> tuple[T, ...]:
    """Parse the comma-separated values of an option.

    Raises:
        ConfigError: names the invalid value.
    """
    if text is None:
        return ()
    values = []
    for word in (part.strip() for part in text.split(",")):
        expected = f"one of {', '.join(valid)}" if valid else "a whole number" if parse is _whole else "a name"
        try:
            value = parse(word)
        except (ValueError, OverflowError):
            value = None
        if value is None or not word or (valid and word not in valid):
            raise ConfigError(
                f"{option}: {word!r} is invalid; expected {expected}.",
                fix=f"Separate values by commas, as in `{option} {'2,3' if parse is _whole else ','.join(valid) or 'a,b'}`.",
            )
        values.append(value)
    return tuple(values)


def to_mapping(table: DesignTable, written: DesignSweep | None) -> dict[str, Any]:
    """Return the table as plain values for JSON."""
    from assay.analysis.stats.power import POWER
    from assay.report.reason_text import to_json

    plain: dict[str, Any] = to_json(table)
    for record, known in zip(plain["noise"], table.noise, strict=True):
        record["noise"] |= {"sd": known.noise.sd, "correlation": known.noise.correlation}
    return {**plain, "power": POWER, "written": to_json(written)}


def print_designs(table: DesignTable) -> None:
    """Print the designs, the power of each metric, the noise and the assumptions."""
    from assay.analysis.stats.power import POWER
    from assay.report.reason_text import text

    console.print(_design_table(table))
    marks = {mark for design in table.designs for mark in design.marks}
    legend = {
        "cheapest": f"cheapest design with power {POWER}",
        "budget": f"most power within {table.budget or 0:g} {table.hours_unit} hours",
        "seeds": "fewer seeds than the policy requires",
    }
    for mark, meaning in legend.items():
        if mark in marks:
            console.print(f"{MARKS[mark]} {meaning}", style="dim", markup=False)
    names = list(dict.fromkeys((metric.task, metric.metric) for design in table.designs for metric in design.metrics))
    for start in range(0, len(names), METRICS_PER_TABLE):
        console.print(f"\npower, and smallest gain that is detected with power {POWER} (alpha {table.alpha:g}):")
        console.print(_power_table(table, names[start : start + METRICS_PER_TABLE]))
    if table.noise:
        console.print("\nnoise: SD between seeds of one mix, and correlation of mixes over shared seeds")
        console.print(_noise_table(table))
    for proxy, basis in table.speed.items():
        console.print(f"time of {proxy}: {basis}", style="dim", markup=False)
    for note in table.notes:
        console.print(f"note: {text(note)}", style="dim", markup=False)


def _design_table(table: DesignTable) -> Table:
    from rich.table import Column, Table
    from rich.text import Text

    from assay.report.formatting import amount

    known = all(design.hours is not None for design in table.designs)
    varied = _varied(table.designs)
    right: dict[str, Any] = {"justify": "right", "no_wrap": True}
    shown = Table(
        Column("row", **right),
        Column("proxy", overflow="fold"),
        Column("tokens", **right),
        Column("cand.", **right),
        Column("seeds", **right),
        *(Column(name) for name in varied),
        Column("runs", **right),
        Column(f"{table.hours_unit} h" if known else "FLOPs", **right),
        Column("power", **right),
        Column("", no_wrap=True),
        box=None,
        pad_edge=False,
    )
    for design in table.designs:
        options = {"coupling": design.coupling, "decides": design.decides}
        shown.add_row(
            str(design.row),
            Text(design.scale.proxy),
            amount(design.scale.tokens),
            str(design.n_candidates),
            str(len(design.seeds)),
            *(options[name] for name in varied),
            str(design.runs),
            _hours(design.hours) if known else f"{design.flops:.2g}",
            _percent(design.power),
            "".join(MARKS[mark] for mark in design.marks),
        )
    return shown


def _varied(shown: Sequence[Design]) -> list[str]:
    """Return the optional columns that distinguish designs, or that differ from the default."""
    varied = []
    if {design.coupling for design in shown} != {"shared"}:
        varied.append("coupling")
    if {design.decides for design in shown} != {"each"}:
        varied.append("decides")
    return varied


def _power_table(table: DesignTable, names: Sequence[tuple[str, str]]) -> Table:
    from rich.table import Column, Table
    from rich.text import Text

    shown = Table(
        Column("row", justify="right", no_wrap=True),
        *(Column(Text(" ".join(name)), overflow="fold") for name in names),
        box=None,
        pad_edge=False,
    )
    for design in table.designs:
        cells = {(metric.task, metric.metric): _power_cell(metric) for metric in design.metrics}
        shown.add_row(str(design.row), *(cells.get(name, "-") for name in names))
    return shown


def _power_cell(metric: MetricPower) -> str:
    return f"{_percent(metric.power)} ({_gain(metric)})"


def _gain(metric: MetricPower) -> str:
    """Format the smallest detectable gain in the unit of the metric, or in SDs between seeds."""
    from assay.report.formatting import size

    if math.isnan(metric.smallest):
        return "none" if not math.isnan(metric.power) else "unknown"
    return f"{metric.smallest:.2f} sd" if metric.unit == "sd" else size(metric.metric, metric.smallest)


def _noise_table(table: DesignTable) -> Table:
    from rich.table import Column, Table
    from rich.text import Text

    from assay.report.design_sentences import scale_name
    from assay.report.formatting import size

    right: dict[str, Any] = {"justify": "right", "no_wrap": True}
    shown = Table(
        Column("metric", overflow="fold"),
        Column("SD (df)", **right),
        Column("corr.", **right),
        Column("measured on", overflow="fold"),
        box=None,
        pad_edge=False,
    )
    rows: dict[tuple[str, ...], None] = {}
    for known in table.noise:
        noise = known.noise
        sd = f"{noise.sd:.2f} sd" if known.metric == "sd" else size(known.metric, noise.sd)
        at = scale_name(known.measured_at.proxy, known.measured_at.tokens)
        cells = (
            f"{known.task} {known.metric}",
            f"{sd} ({noise.df:.3g})",
            f"{noise.correlation:.2f}" if noise.shared else "-",
            f"{noise.n_runs} runs of {at} ({known.origin})",
        )
        rows[cells] = None
    for row in rows:
        shown.add_row(*map(Text, row))
    return shown


def _percent(power: float) -> str:
    return "unknown" if math.isnan(power) else ">99%" if power > 0.995 else f"{power:.0%}"


def _hours(hours: float | None) -> str:
    from assay.report.formatting import decimal

    return "-" if hours is None else "0" if hours == 0 else decimal(hours)


def _print_written(written: DesignSweep) -> None:
    arguments = shlex.join([f"sweep={written.name}", *written.command_overrides])
    console.print(f"\nwritten: {written.file} (row {written.row})", markup=False, soft_wrap=True)
    if written.extends is not None:
        console.print(
            f"note: {written.extends} has results of these candidates, so the new sweep adds seeds to a known result, which"
            " raises the false-positive rate. The verdict will state this.",
            style="yellow",
            markup=False,
        )
    console.print(f"next:\n  {program()} plan {arguments}", markup=False, soft_wrap=True)

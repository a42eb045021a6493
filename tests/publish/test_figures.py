from __future__ import annotations

import json

import pytest
import shown

from assay.publish import figures, forest, plots
from assay.publish.report import Report

SHAPES = {
    "normal": {},
    "hostile": {"hostile": True},
    "never run": {"never": True},
    "one run of each": {"seeds": (0,), "failed": ()},
    "one task": {"benchmarks": ("hellaswag",), "candidates": ("cc_code_replace_cc",)},
    "no evaluation": {
        "unevaluated": [(mix, s) for mix in ("web_and_github", "cc_code_replace_github") for s in range(3)]
    },
    "60 sources": {"extra_sources": 53},
    "long names": {"rename": {"web_and_github": "w" * 500, "cc_code_replace_cc": "c" * 500}},
    "no history": {"records": 0},
}


@pytest.fixture(scope="module")
def report() -> Report:
    return shown.make()


def all_of(report: Report) -> list[plots.Figure]:
    return [figure for part in figures.figures(report).values() for figure in part]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_figure_is_plain_json_without_a_nan(shape: str) -> None:
    for figure in all_of(shown.make(**SHAPES[shape])):
        assert json.loads(json.dumps(figure.spec, allow_nan=False)) == figure.spec
        json.dumps(figure.rows, allow_nan=False)


def test_a_mix_has_one_colour_in_every_plot_and_the_baseline_a_neutral_one(report: Report) -> None:
    look = plots.looks(report)
    assert look["web_and_github"].colour == plots.BASELINE
    assert len({one.colour for one in look.values()}) == len(look)
    for figure in all_of(report):
        for trace in figure.spec["data"]:
            colour = trace.get("line", {}).get("color") or trace["marker"]["color"]
            owner = str(trace.get("name", "")).split(":")[0]
            if owner in look and "no signal" not in trace["name"]:
                assert colour == look[owner].colour, figure.id


def test_many_candidates_are_told_apart_by_more_than_colour() -> None:
    class Twenty:
        class sweep:  # noqa: N801
            baseline = "base"
            candidates = tuple(f"c{place}" for place in range(20))

    found = plots.looks(Twenty)  # type: ignore[arg-type]  # it reads nothing but the sweep
    assert len({(look.colour, look.symbol, look.dash) for look in found.values()}) == 21
    assert {look.colour for look in found.values()} <= set(plots.DARK)


def test_every_comparison_stands_in_one_forest_plot_with_its_figures(report: Report) -> None:
    rows = [row for figure in forest.effects(report) for row in figure.rows]
    assert len(rows) == len(report.comparisons)
    drawn = 0
    for figure in forest.effects(report):
        drawn += sum(len(trace["x"]) for trace in figure.spec["data"] if "error_x" in trace)
    assert drawn == len(report.comparisons)


def test_what_has_no_signal_is_grey_hollow_and_called_so(report: Report) -> None:
    accuracy = next(figure for figure in forest.effects(report) if figure.title == "Accuracy")
    silent = [trace for trace in accuracy.spec["data"] if "no signal" in str(trace.get("name"))]
    assert len(silent) == 2
    for trace in silent:
        assert trace["marker"]["color"] == plots.FAINT
        assert trace["marker"]["symbol"].endswith("-open")
        assert "no signal: " in trace["hovertext"][0]
    assert "mmlu (no signal)" in accuracy.spec["layout"]["yaxis"]["ticktext"]


def test_accuracies_are_drawn_in_points_and_an_interval_reaches_its_ends(report: Report) -> None:
    accuracy = next(figure for figure in forest.effects(report) if figure.title == "Accuracy")
    c = next(c for c in report.comparisons if (c.task, c.metric) == ("hellaswag", "acc"))
    trace = next(t for t in accuracy.spec["data"] if t.get("name") == c.candidate and "error_x" in t)
    at = trace["x"].index(pytest.approx(100 * c.effect, rel=1e-4))
    assert trace["x"][at] + trace["error_x"]["array"][at] == pytest.approx(100 * c.ci_high, rel=1e-4)
    assert trace["x"][at] - trace["error_x"]["arrayminus"][at] == pytest.approx(100 * c.ci_low, rel=1e-4)


def test_margins_stand_on_the_side_that_the_policy_reads(report: Report) -> None:
    ticks = {}
    for figure in forest.effects(report):
        for trace in figure.spec["data"]:
            if trace.get("name") == "margin of the policy":
                ticks[figure.title] = trace["x"]
    # An improvement of bits per byte is negative and has to be beyond; a loss of accuracy has to stay before.
    assert ticks == {"Bits per byte of held-out text": [-0.01], "Accuracy": [-2.0]}


def test_seeds_are_dots_one_for_each_difference(report: Report) -> None:
    dots = [
        trace
        for figure in forest.effects(report)
        for trace in figure.spec["data"]
        if trace.get("marker", {}).get("size") == 4
    ]
    assert sum(len(trace["x"]) for trace in dots) == sum(len(c.differences) for c in report.comparisons)


def test_thinning_keeps_the_mean_and_the_end() -> None:
    points = [(float(x), float(x % 7)) for x in range(1, 1001)]
    kept = figures.thinned(points, 40)
    assert len(kept) == 40
    assert kept[-1][0] == 1000.0
    assert sum(y for _, y in kept) / 40 == pytest.approx(sum(y for _, y in points) / 1000)
    assert figures.thinned(points, 1000) == points


def test_one_line_a_seed_and_one_name_a_mix_in_the_legend(report: Report) -> None:
    loss = figures.curves(report)[0]
    assert len(loss.spec["data"]) == 9
    assert sum(trace["showlegend"] for trace in loss.spec["data"]) == 3


def test_composition_has_what_is_requested_and_what_was_delivered(report: Report) -> None:
    figure = figures.composition(report)
    assert figure is not None
    for mix, source, requested, _, _, delivered in figure.rows:
        assert requested == report.mix(mix).weights[source]
        assert delivered == pytest.approx(requested, abs=1e-3)


def test_text_never_becomes_plotlys_markup() -> None:
    for figure in all_of(shown.make(hostile=True)):
        assert "<script" not in json.dumps(figure.spec)
        assert "<img" not in json.dumps(figure.spec)

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from assay.analysis.stats.tokens_to_match import Match
from assay.analysis.tokens_to_match import Matches, SourceMatch
from assay.config.references import Reference, ReferenceScore
from assay.report.details import Details, InterimScore
from assay.report.model import Report
from assay.report.plots import base, composition, curves, figures, forest
from tests.report import page_data

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
    return page_data.make()


def all_of(report: Report) -> list[base.Figure]:
    return [figure for part in figures.plot_report(report).values() for figure in part]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_figure_is_plain_json_without_nan(shape: str) -> None:
    for figure in all_of(page_data.make(**SHAPES[shape])):
        assert json.loads(json.dumps(figure.spec, allow_nan=False)) == figure.spec
        json.dumps(figure.rows, allow_nan=False)


def test_a_mix_has_the_same_color_in_every_plot_and_the_baseline_a_neutral_one(report: Report) -> None:
    styles = base.mix_styles(report)
    assert styles["web_and_github"].color == base.BASELINE
    assert len({style.color for style in styles.values()}) == len(styles)
    for figure in all_of(report):
        for trace in figure.spec["data"]:
            color = trace.get("line", {}).get("color") or trace["marker"]["color"]
            owner = str(trace.get("name", "")).split(":")[0]
            if owner in styles and "no signal" not in trace["name"]:
                assert color == styles[owner].color, figure.id


def test_many_candidates_differ_in_more_than_color() -> None:
    class Twenty:
        class sweep:  # noqa: N801
            baseline = "base"
            candidates = tuple(f"c{place}" for place in range(20))

    styles = base.mix_styles(Twenty)  # type: ignore[arg-type]  # it reads only the sweep
    assert len({(style.color, style.symbol, style.dash) for style in styles.values()}) == 21
    assert {style.color for style in styles.values()} <= set(base.DARK)


def test_every_comparison_is_in_one_forest_plot_with_its_figures(report: Report) -> None:
    rows = [row for figure in forest.plot_effects(report) for row in figure.rows]
    assert len(rows) == len(report.comparisons)
    drawn = 0
    for figure in forest.plot_effects(report):
        drawn += sum(len(trace["x"]) for trace in figure.spec["data"] if "error_x" in trace)
    assert drawn == len(report.comparisons)


def test_with_many_comparisons_the_plot_has_voting_and_clear_ones_and_the_csv_has_all(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forest, "DRAWN", 4)
    monkeypatch.setattr(forest, "DOTS", 5)
    figure = next(f for f in forest.plot_effects(report) if f.title == "Bits per byte of held-out text")
    tasks = {row[1]: row for row in figure.rows}
    drawn = [name for name in figure.spec["layout"]["yaxis"]["ticktext"] if not name.startswith("<b>")]
    assert len(drawn) < len(tasks) == len({row[1] for row in figure.rows})
    assert "code_github" in drawn, "it votes"
    assert f"Of {len(tasks)} tasks, the {len(drawn)}" in figure.note
    assert "Seeds are too many to draw" in figure.note
    assert not [trace for trace in figure.spec["data"] if trace.get("marker", {}).get("size") == 4]


def test_with_many_runs_the_table_has_the_drawn_lines_and_bands(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "RUNS", 3)
    loss = curves.plot_training(report)[0]
    assert loss.columns == curves.BANDED
    assert {row[0] for row in loss.rows} == set(report.sweep.mixes)
    line = next(trace for trace in loss.spec["data"] if trace.get("name") == report.sweep.baseline)
    assert [row[3] for row in loss.rows if row[0] == report.sweep.baseline] == line["y"]


def test_a_curve_omits_values_that_are_not_finite_numbers(report: Report) -> None:
    run = report.runs[0]
    odd: list[dict[str, object]] = [{"loss": "1.5"}, {"loss": True}, {"loss": None}, {"loss": math.inf}, {}]
    odd_history = tuple({**record, **change} for record, change in zip(run.history, odd, strict=False))
    shown_run = replace(run, history=(*odd_history[:4], *run.history[4:]))
    loss = curves.plot_training(replace(report, runs=(shown_run,)))[0]
    assert len(loss.rows) == len(run.history) - 4


def test_metrics_without_signal_are_gray_and_hollow_with_a_label(report: Report) -> None:
    accuracy = next(figure for figure in forest.plot_effects(report) if figure.title == "Accuracy")
    silent = [trace for trace in accuracy.spec["data"] if "no signal" in str(trace.get("name"))]
    assert len(silent) == 2
    for trace in silent:
        assert trace["marker"]["color"] == base.FAINT
        assert trace["marker"]["symbol"].endswith("-open")
        assert "no signal: " in trace["hovertext"][0]
    assert "mmlu (no signal)" in accuracy.spec["layout"]["yaxis"]["ticktext"]


def test_accuracies_are_drawn_in_points_and_an_interval_reaches_its_ends(report: Report) -> None:
    accuracy = next(figure for figure in forest.plot_effects(report) if figure.title == "Accuracy")
    c = next(c for c in report.comparisons if (c.task, c.metric) == ("hellaswag", "acc"))
    trace = next(t for t in accuracy.spec["data"] if t.get("name") == c.candidate and "error_x" in t)
    at = trace["x"].index(pytest.approx(100 * c.effect, rel=1e-4))
    assert trace["x"][at] + trace["error_x"]["array"][at] == pytest.approx(100 * c.ci_high, rel=1e-4)
    assert trace["x"][at] - trace["error_x"]["arrayminus"][at] == pytest.approx(100 * c.ci_low, rel=1e-4)


def test_margins_are_on_the_side_that_the_policy_uses(report: Report) -> None:
    ticks = {}
    for figure in forest.plot_effects(report):
        for trace in figure.spec["data"]:
            if trace.get("name") == "margin of the policy":
                ticks[figure.title] = trace["x"]
    # An improvement of bits per byte is negative and must exceed the margin; a loss of accuracy must not.
    assert ticks == {"Bits per byte of held-out text": [-0.01], "Accuracy": [-2.0]}


def test_each_seed_difference_is_a_dot(report: Report) -> None:
    dots = [
        trace
        for figure in forest.plot_effects(report)
        for trace in figure.spec["data"]
        if trace.get("marker", {}).get("size") == 4
    ]
    assert sum(len(trace["x"]) for trace in dots) == sum(len(c.differences) for c in report.comparisons)


def points(*pairs: tuple[float, float]) -> curves.Points:
    return curves.Points(*np.array(pairs, dtype=float).T)


def test_thinning_keeps_the_mean_and_the_end() -> None:
    whole = points(*((x, x % 7) for x in range(1, 1001)))
    kept = curves.thinned(whole, 40)
    assert len(kept.tokens) == 40
    assert kept.tokens[-1] == 1000.0
    assert kept.values.mean() == pytest.approx(whole.values.mean())
    assert curves.thinned(whole, 1000) is whole


def test_thinning_averages_each_segment_when_points_do_not_divide_evenly() -> None:
    kept = curves.thinned(points((1, 1), (2, 3), (3, 5), (4, 7), (5, 9)), 3)
    assert kept.tokens.tolist() == [2, 4, 5]
    assert kept.values.tolist() == [2, 6, 9]


def test_a_mix_is_a_line_with_a_band_of_its_seeds(report: Report) -> None:
    loss = curves.plot_training(report)[0]
    bands = [trace for trace in loss.spec["data"] if trace.get("fill") == "toself"]
    lines = [trace for trace in loss.spec["data"] if "fill" not in trace]
    assert [trace["name"] for trace in lines] == list(report.sweep.mixes)
    assert len(bands) == 3
    for line, around in zip(lines, bands, strict=True):
        high, low = around["y"][: len(line["y"])], around["y"][len(line["y"]) :][::-1]
        assert all(a <= b <= c for a, b, c in zip(low, line["y"], high, strict=True))


def test_a_band_omits_a_seed_outside_its_logged_range() -> None:
    whole, half = [(x, 1.0) for x in range(1, 9)], [(x, 3.0) for x in range(1, 5)]
    band = curves.combine_seeds([points(*whole), points(*half)], 100)
    assert band.seeds == 2
    assert band.mean == [2.0] * 4 + [1.0] * 4
    assert (band.low, band.high) == ([1.0] * 8, [3.0] * 4 + [1.0] * 4)


def test_a_band_interpolates_seeds_that_were_logged_at_different_steps() -> None:
    band = curves.combine_seeds([points((0, 0), (10, 10)), points((5, 7))], 100)
    assert band.tokens == [0.0, 5.0, 10.0]
    assert (band.low[1], band.high[1], band.mean[1]) == (5.0, 7.0, 6.0)


def test_training_loss_by_source_is_in_bits_per_byte_if_bytes_per_token_are_known(report: Report) -> None:
    known = replace(report, details=Details(bytes_per_token={"books": 4.0}))
    plain, bits = ({f.title: f for f in curves.plot_source_losses(r)}["books"] for r in (report, known))
    assert plain.spec["layout"]["yaxis"]["title"]["text"] == "nats per token"
    assert bits.spec["layout"]["yaxis"]["title"]["text"] == "bits per byte"
    assert bits.rows[-1][3] == pytest.approx(plain.rows[-1][3] / math.log(2) / 4, rel=1e-4)


def test_a_star_marks_where_the_candidate_reaches_the_final_loss_of_the_control(report: Report) -> None:
    match = SourceMatch(
        candidate="cc_code_replace_cc",
        control="web_and_github",
        source="books",
        control_loss=4.2,
        candidate_loss=4.0,
        worth=Match(1.1, math.nan, math.nan, 0.95, "more than", 3),
        needed=Match(0.8, 0.7, 0.9, 0.95, "measured", 3),
    )
    shown = replace(report, details=Details(matches=Matches((match,), ())))
    figure = {f.title: f for f in curves.plot_source_losses(shown)}["books"]
    star = next(t for t in figure.spec["data"] if t.get("marker", {}).get("symbol") == "star")
    assert (star["x"], star["y"]) == ([pytest.approx(0.8 * report.budget)], [4.2])
    assert figure.note == "cc_code_replace_cc: worth more than 1.10x, needs 0.80x (0.70 to 0.90)"


def test_interim_scores_are_curves_with_published_models_as_lines(report: Report) -> None:
    model = Reference(name="big", parameters=7, paper="p", source="s", prompt="lm_eval", num_fewshot=0, scores={})
    points = [
        InterimScore(mix=mix, seed=seed, tokens=tokens, task=task, metric="acc", value=0.2 + tokens / 1e4)
        for mix in report.sweep.mixes
        for seed in (0, 1)
        for tokens in (100, 200)
        for task in ("hellaswag", "piqa")
    ]
    once = InterimScore(mix="web_and_github", seed=0, tokens=100, task="sciq", metric="acc", value=0.3)
    details = Details(interim_scores=(*points, once), published=(ReferenceScore(model, "piqa", "acc", 0.6),))
    plots = {figure.title: figure for figure in curves.plot_interim_scores(replace(report, details=details))}
    assert list(plots) == ["hellaswag, accuracy", "piqa, accuracy"], "voting tasks first; a single score is no curve"
    assert [plots[title].folded for title in plots] == [False, True]
    level = next(t for t in plots["piqa, accuracy"].spec["data"] if t.get("name") == "big")
    assert level["y"] == [0.6, 0.6]


def test_the_axis_of_a_forest_plot_follows_voting_metrics_if_a_monitor_is_far_outside(report: Report) -> None:
    assert report.verdict is not None
    name, verdict = next(iter(report.verdict.candidates.items()))
    far = [replace(c, effect=-9.0) if c.task == "validation/books" else c for c in verdict.comparisons]
    candidates = {**report.verdict.candidates, name: replace(verdict, comparisons=tuple(far))}
    shown = replace(report, verdict=replace(report.verdict, candidates=candidates))
    figure = next(f for f in forest.plot_effects(shown) if f.title == "Bits per byte of held-out text")
    low, high = figure.spec["layout"]["xaxis"]["range"]
    assert -1 < low < 0 < high < 1
    assert any("\u22129.0000" in label for t in figure.spec["data"] if t.get("mode") == "text" for label in t["text"])
    assert [row[4] for row in figure.rows if row[1] == "validation/books" and row[0] == name] == [-9.0]


def test_fractions_by_domain_and_license_are_sums_over_sources(report: Report) -> None:
    by = {figure.id: figure for figure in composition.plot_compositions(report)}
    assert set(by) == {"composition", "composition-domain", "composition-license", "edits"}, "no source has a tag"
    code = {row[0]: row[2] for row in by["composition-domain"].rows if row[1] == "code"}
    assert code == {
        name: pytest.approx(fraction) for name, fraction in zip(report.sweep.mixes, (0.25, 0.25, 0.4), strict=True)
    }
    for key in ("composition-domain", "composition-license"):
        for mix in report.sweep.mixes:
            assert math.fsum(row[2] for row in by[key].rows if row[0] == mix) == pytest.approx(1)


def test_an_edit_is_the_difference_from_the_control(report: Report) -> None:
    edits = {figure.id: figure for figure in composition.plot_compositions(report)}["edits"]
    assert {(mix, source): round(change, 9) for mix, source, change in edits.rows} == {
        ("cc_code_replace_github", "code_github"): -0.25,
        ("cc_code_replace_github", "code_cc"): 0.25,
        ("cc_code_replace_cc", "web_cc"): -0.15,
        ("cc_code_replace_cc", "code_cc"): 0.15,
    }


def test_composition_has_requested_and_delivered_weights(report: Report) -> None:
    figure = composition.plot_compositions(report)[0]
    for mix, source, requested, _, _, delivered in figure.rows:
        assert requested == report.mix(mix).weights[source]
        assert delivered == pytest.approx(requested, abs=1e-3)


def test_names_never_become_markup_in_plotly() -> None:
    for figure in all_of(page_data.make(hostile=True)):
        assert "<script" not in json.dumps(figure.spec)
        assert "<img" not in json.dumps(figure.spec)


def test_a_plot_of_effects_has_one_direction_of_improvement(report: Report) -> None:
    assert report.verdict is not None
    name, verdict = next(iter(report.verdict.candidates.items()))
    accuracies = [c for c in verdict.comparisons if c.metric == "acc"]
    assert len(accuracies) >= 2
    first, second = accuracies[:2]
    other = {id(first): "lower", id(second): None}
    comparisons = tuple(replace(c, better=other.get(id(c), c.better)) for c in verdict.comparisons)
    candidates = {**report.verdict.candidates, name: replace(verdict, comparisons=comparisons)}
    mixed = replace(report, verdict=replace(report.verdict, candidates=candidates))
    axes = [(plot.title, plot.spec["layout"]["xaxis"]["title"]["text"]) for plot in forest.plot_effects(mixed)]
    unusual = [axis for title, axis in axes if title.endswith(", lower is better")]
    assert len(unusual) == 1
    assert "\N{LEFTWARDS ARROW} better" in unusual[0]
    assert any("direction of improvement unknown" in axis for _, axis in axes)

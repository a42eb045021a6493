from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import shown

from assay.curves import Matches, SourceMatch
from assay.publish import composition, curves, figures, forest, plots
from assay.publish.details import Details, LookShown
from assay.publish.report import Report
from assay.references import Reference, ReferenceScore
from assay.stats.match import Match

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


def test_of_very_many_comparisons_those_that_vote_and_the_clearest_are_drawn_and_all_are_in_the_csv(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forest, "DRAWN", 4)
    monkeypatch.setattr(forest, "DOTS", 5)
    figure = next(f for f in forest.effects(report) if f.title == "Bits per byte of held-out text")
    tasks = {row[1]: row for row in figure.rows}
    drawn = [name for name in figure.spec["layout"]["yaxis"]["ticktext"] if not name.startswith("<b>")]
    assert len(drawn) < len(tasks) == len({row[1] for row in figure.rows})
    assert "code_github" in drawn, "it votes"
    assert f"Of {len(tasks)} tasks, the {len(drawn)}" in figure.note
    assert "Seeds are too many to draw" in figure.note
    assert not [trace for trace in figure.spec["data"] if trace.get("marker", {}).get("size") == 4]


def test_many_runs_are_saved_as_the_lines_and_bands_that_are_drawn(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "RUNS", 3)
    loss = curves.training(report)[0]
    assert loss.columns == curves.BANDED
    assert {row[0] for row in loss.rows} == set(report.sweep.mixes)
    line = next(trace for trace in loss.spec["data"] if trace.get("name") == report.sweep.baseline)
    assert [row[3] for row in loss.rows if row[0] == report.sweep.baseline] == line["y"]


def test_what_is_no_number_in_a_history_is_left_out_of_its_curve(report: Report) -> None:
    run = report.runs[0]
    odd: list[dict[str, object]] = [{"loss": "1.5"}, {"loss": True}, {"loss": None}, {"loss": math.inf}, {}]
    odd_history = tuple({**record, **change} for record, change in zip(run.history, odd, strict=False))
    shown_run = replace(run, history=(*odd_history[:4], *run.history[4:]))
    loss = curves.training(replace(report, runs=(shown_run,)))[0]
    assert len(loss.rows) == len(run.history) - 4


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


def points(*pairs: tuple[float, float]) -> curves.Points:
    return curves.Points(*np.array(pairs, dtype=float).T)


def test_thinning_keeps_the_mean_and_the_end() -> None:
    whole = points(*((x, x % 7) for x in range(1, 1001)))
    kept = curves.thinned(whole, 40)
    assert len(kept.tokens) == 40
    assert kept.tokens[-1] == 1000.0
    assert kept.values.mean() == pytest.approx(whole.values.mean())
    assert curves.thinned(whole, 1000) is whole


def test_thinning_what_does_not_divide_evenly_averages_each_stretch() -> None:
    kept = curves.thinned(points((1, 1), (2, 3), (3, 5), (4, 7), (5, 9)), 3)
    assert kept.tokens.tolist() == [2, 4, 5]
    assert kept.values.tolist() == [2, 6, 9]


def test_a_mix_is_a_line_with_a_band_over_its_seeds(report: Report) -> None:
    loss = curves.training(report)[0]
    bands = [trace for trace in loss.spec["data"] if trace.get("fill") == "toself"]
    lines = [trace for trace in loss.spec["data"] if "fill" not in trace]
    assert [trace["name"] for trace in lines] == list(report.sweep.mixes)
    assert len(bands) == 3
    for line, around in zip(lines, bands, strict=True):
        high, low = around["y"][: len(line["y"])], around["y"][len(line["y"]) :][::-1]
        assert all(a <= b <= c for a, b, c in zip(low, line["y"], high, strict=True))


def test_a_band_leaves_a_seed_out_where_it_was_not_logged() -> None:
    whole, half = [(x, 1.0) for x in range(1, 9)], [(x, 3.0) for x in range(1, 5)]
    one = curves.band([points(*whole), points(*half)], 100)
    assert one.seeds == 2
    assert one.mean == [2.0] * 4 + [1.0] * 4
    assert (one.low, one.high) == ([1.0] * 8, [3.0] * 4 + [1.0] * 4)


def test_a_band_of_seeds_that_were_logged_at_different_steps_reads_between_their_points() -> None:
    one = curves.band([points((0, 0), (10, 10)), points((5, 7))], 100)
    assert one.tokens == [0.0, 5.0, 10.0]
    assert (one.low[1], one.high[1], one.mean[1]) == (5.0, 7.0, 6.0)


def test_training_loss_by_source_is_in_bits_per_byte_where_the_bytes_of_a_token_are_known(report: Report) -> None:
    known = replace(report, details=Details(bytes_per_token={"books": 4.0}))
    plain, bits = ({f.title: f for f in curves.by_source(r)}["books"] for r in (report, known))
    assert plain.spec["layout"]["yaxis"]["title"]["text"] == "nats a token"
    assert bits.spec["layout"]["yaxis"]["title"]["text"] == "bits per byte"
    assert bits.rows[-1][3] == pytest.approx(plain.rows[-1][3] / math.log(2) / 4, rel=1e-4)


def test_tokens_to_match_are_read_off_the_plot_where_the_candidate_reaches_the_controls_end(report: Report) -> None:
    found = SourceMatch(
        candidate="cc_code_replace_cc",
        control="web_and_github",
        source="books",
        control_loss=4.2,
        candidate_loss=4.0,
        worth=Match(1.1, math.nan, math.nan, 0.95, "more than", 3),
        needed=Match(0.8, 0.7, 0.9, 0.95, "measured", 3),
    )
    shown = replace(report, details=Details(matches=Matches((found,), ())))
    figure = {f.title: f for f in curves.by_source(shown)}["books"]
    star = next(t for t in figure.spec["data"] if t.get("marker", {}).get("symbol") == "star")
    assert (star["x"], star["y"]) == ([pytest.approx(0.8 * report.budget)], [4.2])
    assert figure.note == "cc_code_replace_cc: worth more than 1.10x, needs 0.80x (0.70 to 0.90)"


def test_scores_by_tokens_are_drawn_where_there_were_looks_with_published_models_as_lines(report: Report) -> None:
    model = Reference(name="big", parameters=7, paper="p", source="s", prompt="lm_eval", num_fewshot=0, scores={})
    looks = [
        LookShown(mix=mix, seed=seed, tokens=tokens, task=task, metric="acc", value=0.2 + tokens / 1e4)
        for mix in report.sweep.mixes
        for seed in (0, 1)
        for tokens in (100, 200)
        for task in ("hellaswag", "piqa")
    ]
    once = LookShown(mix="web_and_github", seed=0, tokens=100, task="sciq", metric="acc", value=0.3)
    details = Details(looks=(*looks, once), published=(ReferenceScore(model, "piqa", "acc", 0.6),))
    found = {figure.title: figure for figure in curves.scores(replace(report, details=details))}
    assert list(found) == ["hellaswag, accuracy", "piqa, accuracy"], "what votes first, and one look is no curve"
    assert [found[title].folded for title in found] == [False, True]
    level = next(t for t in found["piqa, accuracy"].spec["data"] if t.get("name") == "big")
    assert level["y"] == [0.6, 0.6]


def test_the_axis_of_a_forest_plot_is_that_of_what_votes_where_a_monitor_reaches_far_beyond(report: Report) -> None:
    assert report.verdict is not None
    name, verdict = next(iter(report.verdict.candidates.items()))
    far = [replace(c, effect=-9.0) if c.task == "validation/books" else c for c in verdict.comparisons]
    candidates = {**report.verdict.candidates, name: replace(verdict, comparisons=tuple(far))}
    shown = replace(report, verdict=replace(report.verdict, candidates=candidates))
    figure = next(f for f in forest.effects(shown) if f.title == "Bits per byte of held-out text")
    low, high = figure.spec["layout"]["xaxis"]["range"]
    assert -1 < low < 0 < high < 1
    assert any("\u22129.0000" in label for t in figure.spec["data"] if t.get("mode") == "text" for label in t["text"])
    assert [row[4] for row in figure.rows if row[1] == "validation/books" and row[0] == name] == [-9.0]


def test_shares_by_domain_and_licence_add_up_those_of_the_sources(report: Report) -> None:
    by = {figure.id: figure for figure in composition.compositions(report)}
    assert set(by) == {"composition", "composition-domain", "composition-licence", "edits"}, "no source has a tag"
    code = {row[0]: row[2] for row in by["composition-domain"].rows if row[1] == "code"}
    assert code == {
        name: pytest.approx(share) for name, share in zip(report.sweep.mixes, (0.25, 0.25, 0.4), strict=True)
    }
    for key in ("composition-domain", "composition-licence"):
        for mix in report.sweep.mixes:
            assert math.fsum(row[2] for row in by[key].rows if row[0] == mix) == pytest.approx(1)


def test_an_edit_is_what_changes_against_the_mix_that_it_is_compared_with(report: Report) -> None:
    edits = {figure.id: figure for figure in composition.compositions(report)}["edits"]
    assert {(mix, source): round(change, 9) for mix, source, change in edits.rows} == {
        ("cc_code_replace_github", "code_github"): -0.25,
        ("cc_code_replace_github", "code_cc"): 0.25,
        ("cc_code_replace_cc", "web_cc"): -0.15,
        ("cc_code_replace_cc", "code_cc"): 0.15,
    }


def test_composition_has_what_is_requested_and_what_was_delivered(report: Report) -> None:
    figure = composition.compositions(report)[0]
    for mix, source, requested, _, _, delivered in figure.rows:
        assert requested == report.mix(mix).weights[source]
        assert delivered == pytest.approx(requested, abs=1e-3)


def test_text_never_becomes_plotlys_markup() -> None:
    for figure in all_of(shown.make(hostile=True)):
        assert "<script" not in json.dumps(figure.spec)
        assert "<img" not in json.dumps(figure.spec)

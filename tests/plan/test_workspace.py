"""Workspaces: the parts that a study is composed of, and what a submission freezes in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from assay.config.study import Study
from assay.plan.workspace import Workspace

MakeStudy = Callable[..., Study]


def append_document(study: Study, source: str) -> None:
    path = study.paths.resolve(study.sources[source].files[0])
    path.write_text(path.read_text() + '{"text": "one more"}\n')


def test_frozen_digests_and_evaluation_do_not_change_with_the_text(tiny_study: MakeStudy) -> None:
    study = tiny_study()
    before = Workspace(study)
    digests = before.sources.digests(before.mixes.sweep_sources)
    spec, evaluation = before.runs.spec("base", 0), before.runs.evaluation
    append_document(study, "books")
    frozen = Workspace(study, digests=digests, evaluation=evaluation)
    assert frozen.runs.spec("base", 0) == spec
    assert frozen.runs.evaluation == evaluation
    assert Workspace(study).runs.spec("base", 0) != spec
    assert Workspace(study).runs.evaluation != evaluation


def test_other_rules_keep_the_sources_and_the_runs(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study())
    spec, evaluation = space.runs.spec("base", 0), replace(space.runs.evaluation, batch_size=4)
    append_document(space.study, "books")
    strict = replace(space.study, policy=replace(space.study.policy, min_seeds=9))
    other = space.with_rules(strict, evaluation)
    assert other.study.policy.min_seeds == 9
    assert other.runs.evaluation == evaluation
    assert other.runs.spec("base", 0) == spec

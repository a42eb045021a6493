"""`assay audit`: the group of commands that inspect the text of sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.cli import audit_jobs, audit_ngram, audit_repair, audit_review, audit_scan, audit_topics
from assay.cli.command_group import add_command, make_group

if TYPE_CHECKING:
    import typer

ABOUT = """Find, read and repair defects of sources before training on them.

The default command is `scan`.
"""


def register(app: typer.Typer) -> None:
    """Add the group with its commands; `scan` comes first because it is the default."""
    group = make_group(ABOUT, first="assay audit", second="assay audit my_web my_code --at-least high")
    add_command(
        group,
        audit_scan.scan,
        "scan",
        first="assay audit scan my_web --new",
        second="assay audit --files 'data/my_web/*' --language en --json",
    )
    add_command(
        group, audit_jobs.status, "status", first="assay audit status", second="assay audit status cluster=slurm --json"
    )
    add_command(
        group,
        audit_ngram.ngram,
        "ngram",
        first='assay audit ngram "cookie policy" my_web',
        second='assay audit ngram "    return" --exact --json',
    )
    add_command(
        group,
        audit_review.sample,
        "sample",
        first="assay audit sample my_web --n 5 --by length",
        second="assay audit sample my_web --by random --seed 1 --html sample.html",
    )
    add_command(
        group,
        audit_review.annotate,
        "annotate",
        first="assay audit annotate my_web doc-1 --label bad --by alice --note advertising",
        second="assay audit annotate my_web doc-2 --label good --by alice --json",
    )
    add_command(
        group,
        audit_topics.topics,
        "topics",
        first="assay audit topics my_web my_code --topics 2",
        second="assay audit topics sweep=first --map topics.html --json",
    )
    add_command(
        group,
        audit_repair.repair,
        "repair",
        first="assay audit repair my_code --dry-run",
        second="assay audit repair my_code --name my_code_clean --drop-unsure",
    )
    app.add_typer(group, name="audit", rich_help_panel="Data")

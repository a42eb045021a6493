"""Decide a finished sweep again with fewer seeds: `python benchmarks/fewer_seeds.py sweep=code_replace`, in the sweep's project.

Prints one row per candidate and subset of the seeds: the decision, and the effect, interval and p-value of the comparison that
decides it. `--seeds` is the size of the subsets. Findings do not block these verdicts, because the question is whether fewer runs
give the same figures.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import combinations

from assay.analysis.gate import Verdict, gate
from assay.analysis.results import collect
from assay.cli.arguments import load_workspace
from assay.report.formatting import probability


def deciding(verdict: Verdict) -> str:
    """Describe the voting comparison with the smallest p-value of its claim."""
    known = [c for c in verdict.comparisons if c.votes and c.claim in ("better", "worse")]
    if not known:
        return "no claim"
    c = min(known, key=lambda c: c.p_claim)
    return f"{c.task} {c.metric} {c.effect:+.4f} ({c.ci_low:+.4f} to {c.ci_high:+.4f}) | {c.claim}, p {probability(c.p_claim)}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="+", help="The sweep, such as sweep=code_replace.")
    parser.add_argument("--seeds", type=int, default=2, help="Number of seeds of each mix.")
    given = parser.parse_args()
    space = load_workspace(given.overrides)
    sweep, results = space.study.require_sweep(), collect(space.store, space.planner.plan())
    subsets = [*combinations(sweep.seeds, given.seeds), tuple(sweep.seeds)]
    print("| seeds | candidate | decision | comparison | claim |\n|" + " --- |" * 5)
    for seeds in subsets:
        policy = replace(space.study.policy, min_seeds=min(len(seeds), space.study.policy.min_seeds))
        scores, items = (table[table["seed"].isin(seeds)] for table in (results.scores, results.items))
        verdict = gate(
            scores,
            policy,
            baseline=sweep.baseline,
            candidates=[m for m in sweep.mixes if m != sweep.baseline],
            items=items,
        )
        for name, decided in verdict.candidates.items():
            print(f"| {', '.join(map(str, seeds))} | {name} | {decided.decision} | {deciding(decided)} |", flush=True)


if __name__ == "__main__":
    main()

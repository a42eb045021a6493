"""Start a cluster with ``python -m tests.slurm up DIR``, and remove it with ``down DIR``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.slurm.cluster import Cluster, missing


def main() -> str:
    """Execute the command line.

    Returns:
        An error message; empty on success.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.slurm", description=__doc__)
    parser.add_argument(
        "action", choices=["up", "down", "guard"], help="guard: remove the cluster when standard input closes"
    )
    parser.add_argument("folder", type=Path, help="folder of the cluster; at most 70 characters")
    parser.add_argument("--no-accounting", action="store_true", help="start no slurmdbd; sacct fails")
    given = parser.parse_args()
    if given.action == "up":
        if reason := missing():
            return reason
        cluster = Cluster.up(given.folder, accounting=not given.no_accounting)
        sys.stdout.write(f"export SLURM_CONF={cluster.environment['SLURM_CONF']}\n")
    else:
        if given.action == "guard":
            sys.stdin.read()
        Cluster(given.folder.resolve()).down()
    return ""


if __name__ == "__main__":
    sys.exit(main())

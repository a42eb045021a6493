"""`assay serve`: the whole store as a site on this machine."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from assay.cli.common import AsJson, Overrides, console, errors, progress_bars

PORT = 8765


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(serve)


def serve(
    overrides: Overrides = None,
    *,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Where to listen on 127.0.0.1; 0 takes a free one.")
    ] = PORT,
    as_json: AsJson = False,
) -> None:
    """Show the whole store in a browser, live: sweeps, runs, mixes, sources, verdicts. On this machine only.

    Nothing is written. Ctrl-C ends it.
    """
    from assay.cli.compose import compose
    from assay.cli.desk import LiveDesk
    from assay.cli.samples import looking
    from assay.publish.site.audits import Audits
    from assay.publish.site.index import Index
    from assay.publish.site.server import Server
    from assay.publish.site.views import Site
    from assay.roots import project_root
    from assay.store import Store

    root = project_root()
    paths = compose(overrides or [], root=root).paths
    store = Store(paths.resolve(paths.store))
    index = Index(store.root)
    desk = LiveDesk(root, store, index, overrides or [])
    audits = Audits(desk.space, project=root, detectors=looking)
    with Server(Site(store, desk, index, title=root.name, audits=audits), port=port) as server:
        try:
            with progress_bars(quiet=as_json) as tell:
                desk.learn(lambda share: tell("sweeps", share))
            desk.start()
            if as_json:
                typer.echo(json.dumps({"address": server.address, "port": server.server_port}))
            else:
                console.print(server.address, markup=False, soft_wrap=True)
                errors.print(f"the store {store.root}; Ctrl-C ends it", markup=False, soft_wrap=True)
            sys.stdout.flush()
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            errors.print("ended")

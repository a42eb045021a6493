"""A server on loopback that speaks as much of W&B's protocol as its real client needs to send a run."""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Received:
    """What the client sent."""

    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The variables of the first UpsertBucket of each run, by id."""
    history: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    """Records by run and line, so that what is sent twice stands once, as on the real server."""
    summary: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: int = 0


@contextlib.contextmanager
def serve(*, status: int = 200, answers: bool = True) -> Iterator[tuple[str, Received]]:
    """A server, its address and what it received.

    Args:
        status: what every request gets.
        answers: whether it answers at all.
    """
    received, stop = Received(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer({})

        def do_PUT(self) -> None:
            self._body()
            self._answer({})

        def do_POST(self) -> None:
            body = self._body()
            received.requests += 1
            if not answers:
                stop.wait(30)
                self.close_connection = True
                return
            if self.path.endswith("/graphql"):
                self._answer({"data": _graphql(json.loads(body), received)})
            elif self.path.endswith("/file_stream"):
                _stream(self.path.split("/")[-2], json.loads(body), received)
                self._answer({"exitcode": None, "limits": {}})
            else:
                self._answer({})

        def _body(self) -> bytes:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            return gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body

        def _answer(self, value: Any) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", received
    finally:
        stop.set()
        server.shutdown()
        server.server_close()


def _graphql(request: dict[str, Any], received: Received) -> dict[str, Any]:
    variables = request.get("variables") or {}
    match request.get("operationName"):
        case "UpsertBucket":
            received.runs.setdefault(variables["name"], variables)
            project = {"name": variables["project"], "entity": {"name": variables["entity"] or "team"}}
            bucket = {
                "id": "QnVja2V0",
                "name": variables["name"],
                "displayName": variables["displayName"],
                "description": None,
                "config": None,
                "sweepName": None,
                "historyLineCount": 0,
                "project": project,
            }
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        case "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        case "CreateRunFiles":
            files = [{"name": name, "uploadUrl": None} for name in variables.get("files", [])]
            return {"createRunFiles": {"runID": "QnVja2V0", "uploadHeaders": [], "files": files}}
        case "CreateArtifact":
            # Committed: the server has such an artifact already, and the client sends no more of it.
            sequence = {"latestArtifact": {"id": "QXJ0"}}
            artifact = {"id": "QXJ0", "state": "COMMITTED", "artifactSequence": sequence}
            return {"createArtifact": {"artifact": artifact}}
        case _:
            return {}


def _stream(run: str, body: dict[str, Any], received: Received) -> None:
    for name, part in (body.get("files") or {}).items():
        if name == "wandb-history.jsonl":
            for place, line in enumerate(part["content"]):
                received.history.setdefault(run, {})[part["offset"] + place] = json.loads(line)
        elif name == "wandb-summary.json":
            received.summary[run] = json.loads(part["content"][-1])

"""A loopback server that implements the parts of W&B's protocol that its real client needs, and records requests."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OPERATION = re.compile(r"(?:query|mutation)\s+(\w+)")


@dataclass
class Run:
    """One run on the server."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    """Variables of UpsertBucket calls; a later call changes only the variables that it has."""
    config: dict[str, Any] = field(default_factory=dict)
    lines: dict[int, dict[str, Any]] = field(default_factory=dict)
    """History lines by number: a line that is sent twice appears once."""
    summary: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    """System metrics."""
    state: str = "running"
    resumptions: int = 0
    """Number of times that a client requested the run's state to resume it."""
    used: dict[str, None] = field(default_factory=dict)
    logged: dict[str, None] = field(default_factory=dict)
    """Artifacts as `type/collection`, each once: the client repeats a request whose reply was lost, and the request has only
    the names of run and artifact."""
    alerts: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def history(self) -> list[dict[str, Any]]:
        """History records in order."""
        return [self.lines[number] for number in sorted(self.lines)]


@dataclass
class Artifact:
    """A version of an artifact."""

    id: str
    type: str
    collection: str
    digest: str
    input: dict[str, Any]
    version: int
    state: str = "PENDING"

    @property
    def place(self) -> str:
        """Type and collection."""
        return f"{self.type}/{self.collection}"


@dataclass
class Received:
    """Everything that clients sent."""

    runs: dict[str, Run] = field(default_factory=dict)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    """By id."""
    views: list[dict[str, Any]] = field(default_factory=list)
    """Saved reports and workspaces."""
    uploads: dict[str, bytes] = field(default_factory=dict)
    requests: int = 0
    unknown: list[str] = field(default_factory=list)
    """Operations and paths that this server does not implement."""


@contextlib.contextmanager
def serve(*, status: int = 200, answers: bool = True, delay: float = 0.0) -> Iterator[tuple[str, Received]]:
    """Run a server, and yield its URL and what it received.

    Args:
        status: HTTP status of all replies.
        answers: whether the server replies at all.
        delay: seconds before each reply, to simulate a distant server.
    """
    received, stop, lock = Received(), threading.Event(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # header and body are sent separately, which added 40 ms per reply

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer({})

        def do_PUT(self) -> None:
            body = self._body()
            with lock:
                received.uploads[self.path] = body
                if len(parts := self.path.split("/", 3)) == 4 and parts[1] == "run-files" and parts[2] in received.runs:
                    received.runs[parts[2]].files[parts[3]] = body
            self._answer({})

        def do_POST(self) -> None:
            body = self._body()
            with lock:
                received.requests += 1
            if not answers:
                stop.wait(60)
                self.close_connection = True
                return
            if status != 200:
                self._answer({"errors": [{"message": f"status {status}"}]})
                return
            url = f"http://127.0.0.1:{server.server_address[1]}"
            with lock:
                if self.path.endswith("/graphql"):
                    answer = {"data": _graphql(json.loads(body), received, url)}
                elif self.path.endswith("/file_stream"):
                    _stream(received.runs[self.path.split("/")[-2]], json.loads(body))
                    answer = {"exitcode": None, "limits": {}}
                else:
                    received.unknown.append(self.path)
                    answer = {}
            self._answer(answer)

        def _body(self) -> bytes:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            return gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body

        def _answer(self, value: Any) -> None:
            data = json.dumps(value).encode()
            stop.wait(delay)
            with contextlib.suppress(OSError):  # the client has disconnected
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: Any) -> None:
            """Ignore errors: some tests kill a client during a request."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", received
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _graphql(request: dict[str, Any], received: Received, url: str) -> dict[str, Any]:
    variables = request.get("variables") or {}
    operation = OPERATION.search(request.get("query") or "")
    name = request.get("operationName") or (operation.group(1) if operation else "")
    answer = _ANSWERS.get(name)
    if answer is None:
        received.unknown.append(name)
        return {}
    try:
        return answer(variables, received, url)
    except (KeyError, TypeError) as error:  # without a reply, the client would retry for a minute
        received.unknown.append(f"{name}: {type(error).__name__} {error}")
        return {}


def _project(variables: dict[str, Any]) -> dict[str, Any]:
    entity = {"id": "RW50", "name": variables.get("entity") or "team"}
    return {"id": "UHJq", "name": variables.get("project") or "assay", "entity": entity}


def _upsert(variables: dict[str, Any], received: Received, _: str) -> dict[str, Any]:
    new = variables["name"] not in received.runs
    run = received.runs.setdefault(variables["name"], Run(variables["name"]))
    run.fields |= {key: value for key, value in variables.items() if value is not None}
    if variables.get("config"):
        run.config = json.loads(variables["config"])
    run.state = "running"
    bucket = {
        "id": _id(run.name),
        "name": run.name,
        "displayName": run.fields.get("displayName"),
        "description": None,
        "config": json.dumps(run.config),
        "sweepName": run.fields.get("sweep"),
        "historyLineCount": len(run.lines),
        "project": _project(variables),
    }
    return {"upsertBucket": {"bucket": bucket, "inserted": new}}


def _resume(variables: dict[str, Any], received: Received, _: str) -> dict[str, Any]:
    run = received.runs.get(variables["name"])
    model = {**_project(variables), "bucket": None}
    if run is not None:
        run.resumptions += 1
        tail = [json.dumps(run.history[-1])] if run.lines else []
        model["bucket"] = {
            "id": _id(run.name),
            "name": run.name,
            "summaryMetrics": json.dumps(run.summary),
            "displayName": run.fields.get("displayName"),
            "logLineCount": 0,
            "historyLineCount": len(run.lines),
            "eventsLineCount": len(run.events),
            "historyTail": json.dumps(tail),
            "eventsTail": json.dumps([json.dumps(event) for event in run.events[-1:]]),
            "config": json.dumps(run.config),
            "tags": run.fields.get("tags") or [],
            "notes": run.fields.get("notes"),
            "wandbConfig": json.dumps({"t": {"1": 1}}),
        }
    return {"model": model}


def _run_files(variables: dict[str, Any], _: Received, url: str) -> dict[str, Any]:
    run = variables["run"]
    files = [{"name": name, "uploadUrl": f"{url}/run-files/{run}/{name}"} for name in variables.get("files", [])]
    return {"createRunFiles": {"runID": _id(run), "uploadHeaders": [], "files": files}}


def _create_artifact(variables: dict[str, Any], received: Received, _: str) -> dict[str, Any]:
    request = variables["input"]
    names = [
        alias["artifactCollectionName"] for alias in request.get("aliases") or () if alias.get("artifactCollectionName")
    ]
    collection = (request.get("artifactCollectionNames") or names or ["?"])[0]
    versions = [version for version in received.artifacts.values() if version.collection == collection]
    artifact = next((version for version in versions if version.digest == request["digest"]), None)
    if artifact is None:
        number = len(received.artifacts) + 1
        artifact = Artifact(
            id=_id(f"Artifact:{number}"),
            type=request["artifactTypeName"],
            collection=collection,
            digest=request["digest"],
            input=request,
            version=len(versions),
        )
        received.artifacts[artifact.id] = artifact
    if request.get("runName") in received.runs:
        received.runs[request["runName"]].logged[artifact.place] = None
    sequence = {"latestArtifact": {"id": versions[-1].id} if versions else None}
    return {"createArtifact": {"artifact": {"id": artifact.id, "state": artifact.state, "artifactSequence": sequence}}}


def _manifest(variables: dict[str, Any], _: Received, url: str) -> dict[str, Any]:
    place = f"manifests/{variables.get('artifactID') or variables.get('artifactManifestID')}"
    file = {"id": "RmlsZQ==", "uploadUrl": f"{url}/{place}", "uploadHeaders": []}
    return {"artifactManifest": {"id": variables.get("artifactID") or variables["artifactManifestID"], "file": file}}


def _artifact_files(variables: dict[str, Any], _: Received, url: str) -> dict[str, Any]:
    edges = [
        {
            "node": {
                "storagePath": spec["name"],
                "uploadUrl": f"{url}/artifact-files/{spec['artifactID']}/{spec['name']}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": spec["artifactID"]},
            }
        }
        for spec in variables["input"]["artifactFiles"]
    ]
    return {"createArtifactFiles": {"files": {"edges": edges}}}


def _commit(variables: dict[str, Any], received: Received, _: str) -> dict[str, Any]:
    artifact = received.artifacts[variables["artifactID"]]
    artifact.state = "COMMITTED"
    return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}


def _use(variables: dict[str, Any], received: Received, _: str) -> dict[str, Any]:
    request = variables.get("input") or variables  # wandb-core sends an input object, the public API does not
    artifact = received.artifacts[request["artifactID"]]
    received.runs[request["runName"]].used[artifact.place] = None
    return {"useArtifact": {"artifact": _artifact(artifact)}}


def _artifact(artifact: Artifact) -> dict[str, Any]:
    sequence = {
        "__typename": "ArtifactSequence",
        "id": _id(artifact.collection),
        "name": artifact.collection,
        "project": {"id": "UHJq", "internalId": "UHJqOjc=", "name": "assay", "entity": {"id": "RW50", "name": "team"}},
    }
    return {
        "__typename": "Artifact",
        "id": artifact.id,
        "artifactSequence": sequence,
        "versionIndex": artifact.version,
        "artifactType": {"name": artifact.type},
        "description": artifact.input.get("description"),
        "metadata": artifact.input.get("metadata"),
        "ttlDurationSeconds": 0,
        "ttlIsInherited": True,
        "tags": [],
        "historyStep": None,
        "state": artifact.state,
        "size": 0,
        "digest": artifact.digest,
        "commitHash": None,
        "fileCount": 1,
        "createdAt": "2026-11-23T00:00:00Z",
        "updatedAt": None,
        "aliases": [],
    }


def _artifact_by_id(variables: dict[str, Any], received: Received, _: str) -> dict[str, Any]:
    return {"artifact": _artifact(received.artifacts[variables["id"]])}


def _alert(variables: dict[str, Any], received: Received, _: str) -> dict[str, Any]:
    received.runs[variables["runName"]].alerts.append(variables)
    return {"notifyScriptableRunAlert": {"success": True}}


def _shown(run: Run) -> dict[str, Any]:
    fields = run.fields
    return {
        "id": _id(run.name),
        "projectId": "7",
        "tags": fields.get("tags") or [],
        "name": run.name,
        "displayName": fields.get("displayName"),
        "sweepName": fields.get("sweep"),
        "state": run.state,
        "config": json.dumps(run.config),
        "group": fields.get("groupName"),
        "jobType": fields.get("jobType"),
        "commit": None,
        "readOnly": False,
        "createdAt": "2026-11-23T00:00:00Z",
        "heartbeatAt": "2026-11-23T00:00:00Z",
        "description": None,
        "notes": fields.get("notes"),
        "systemMetrics": "{}",
        "summaryMetrics": json.dumps(run.summary),
        "historyLineCount": len(run.lines),
        "user": {"name": "x", "username": "x"},
        "historyKeys": None,
    }


def _runs(variables: dict[str, Any], received: Received, _: str) -> dict[str, Any]:
    """Return a page of runs; only filters of the form `{"field": value}` are implemented."""
    filters = json.loads(variables.get("filters") or "{}")
    fields = {"state": lambda run: run.state, "group": lambda run: run.fields.get("groupName")}
    fields["jobType"] = lambda run: run.fields.get("jobType")
    wanted = [
        run
        for run in received.runs.values()
        if all(fields[key](run) == value for key, value in filters.items() if key in fields)
    ]
    first, size = int(variables.get("cursor") or 0), variables.get("perPage") or 50
    page = wanted[first : first + size]
    edges = [{"node": _shown(run), "cursor": str(first + place + 1)} for place, run in enumerate(page)]
    info = {"endCursor": str(first + len(page)), "hasNextPage": first + len(page) < len(wanted)}
    runs = {"edges": edges, "pageInfo": info, "totalCount": len(wanted)}
    return {"project": {"internalId": "7", "runCount": len(wanted), "readOnly": False, "runs": runs}}


def _one_run(variables: dict[str, Any], received: Received, _: str) -> dict[str, Any]:
    run = received.runs.get(variables["name"])
    return {"project": {"run": None if run is None else _shown(run)}}


def _view(variables: dict[str, Any], received: Received, _: str) -> dict[str, Any]:
    known = next((view for view in received.views if view["id"] == variables.get("id")), None)
    if known is None:
        received.views.append({**variables, "id": _id(f"View:{len(received.views) + 1}")})
        known = received.views[-1]
    else:
        known |= variables
    project = {"id": "UHJq", "name": variables["projectName"], "entityName": variables["entityName"]}
    shown = {key: known.get(key) for key in ("id", "type", "name", "displayName", "description", "spec")}
    return {"upsertView": {"view": {**shown, "project": project, "updatedAt": None}, "inserted": True}}


def _viewer(*_: Any) -> dict[str, Any]:
    teams = {"edges": [{"node": {"name": "team"}}]}
    viewer = {"id": "VXNl", "entity": "team", "username": "x", "name": "x", "email": "x@example.org", "admin": False}
    return {"viewer": {**viewer, "flags": "{}", "deletedAt": None, "teams": teams, "apiKeys": {"edges": []}}}


def _projects(*_: Any) -> dict[str, Any]:
    node = {
        "id": "UHJq",
        "name": "assay",
        "entityName": "team",
        "createdAt": "2026-11-23T00:00:00Z",
        "isBenchmark": False,
        "user": None,
    }
    edges = [{"node": node, "cursor": "1"}]
    return {"models": {"edges": edges, "pageInfo": {"endCursor": "1", "hasNextPage": False}}}


_ANSWERS: dict[str, Any] = {
    "UpsertBucket": _upsert,
    "RunResumeStatus": _resume,
    "CreateRunFiles": _run_files,
    "CreateArtifact": _create_artifact,
    "CreateArtifactManifest": lambda *arguments: {"createArtifactManifest": _manifest(*arguments)},
    "UpdateArtifactManifest": lambda *arguments: {"updateArtifactManifest": _manifest(*arguments)},
    "CreateArtifactFiles": _artifact_files,
    "CommitArtifact": _commit,
    "UseArtifact": _use,
    "ArtifactByID": _artifact_by_id,
    "ArtifactType": lambda *_: {"project": {"artifact": None}},
    "NotifyScriptableRunAlert": _alert,
    "Runs": _runs,
    "Run": _one_run,
    "upsertView": _view,
    "UpsertView2": _view,
    "Viewer": _viewer,
    "GetViewer": _viewer,
    "GetDefaultEntity": _viewer,
    "GetProjects": _projects,
    "ProjectInternalId": lambda *_: {"project": {"id": "UHJq", "internalId": "UHJqOjc="}},
    "ServerFeaturesQuery": lambda *_: {"serverInfo": {"features": []}},
    "XXHashDigestsEnabled": lambda *_: {"entity": {"xxhashDigestsEnabled": False}},
    "FetchArtifactDigestAlgorithm": lambda *_: {"project": {"artifactType": None}},
    "ClientIDMapping": lambda *_: {"clientIDMapping": None},
    "MarkRunFilesUploaded": lambda *_: {"markRunFilesUploaded": {"success": True}},
}


def _id(name: str) -> str:
    return base64.b64encode(name.encode()).decode()


def _stream(run: Run, body: dict[str, Any]) -> None:
    for name, part in (body.get("files") or {}).items():
        content = [json.loads(line) for line in part["content"]] if name.startswith("wandb-") else []
        if name == "wandb-history.jsonl":
            run.lines |= {part["offset"] + place: line for place, line in enumerate(content)}
        elif name == "wandb-events.jsonl":
            run.events += content
        elif name == "wandb-summary.json" and content:
            run.summary = content[-1]
    if body.get("complete"):
        run.state = "preempted" if body.get("preempting") else "finished" if not body.get("exitcode") else "failed"

"""A W&B server for tests: what `wandb sweep`, `wandb agent`, an online run and `wandb sync` ask of one, kept in memory.

It hands the points of a grid to agents, each once, and keeps what runs send. It understands no GraphQL: it goes by
the names of the operations.
"""

import gzip
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from typing import Any

import yaml

ENTITY, PROJECT = "tester", "convtl"
PARENT = {"id": "cHJvamVjdA==", "name": PROJECT, "entity": {"id": "ZW50aXR5", "name": ENTITY}}


@dataclass
class Run:
    """What a run has sent."""

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    group: str | None = None
    sweep: str | None = None
    begun: int = 0
    """how often a process has begun it, or gone on with it"""
    files: dict[str, list[str]] = field(default_factory=dict)
    """lines of its streamed files"""
    exit_codes: list[int] = field(default_factory=list)
    preempting: bool = False
    """whether the process that ran it last was about to be taken away"""
    stopped: bool = False
    """the server wants it to end"""

    @property
    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.files.get("wandb-history.jsonl", [])]

    @property
    def summary(self) -> dict[str, Any]:
        lines = self.files.get("wandb-summary.json", [])
        return json.loads(lines[-1]) if lines else {}


@dataclass
class Server:
    """One sweep at a time, and all runs.

    Attributes:
      url: what WANDB_BASE_URL is to be.
      points: of the sweep, in the order of the grid.
      handed: run id -> its point, as agents got them.
      ended: run ids in the order in which agents told that their processes were gone.
      again: run ids of preempted runs, which the next agents get once more.
      to_stop: run ids whose agents are told to stop them.
      closing: whether agents are told to kill what they run, and to end.
      deleted: run ids that nobody may use any more.
      asked: names of all operations, as they came.
      bodies: all that was sent, for those who look for what must not be there.
    """

    url: str = ""
    sweep: dict[str, Any] = field(default_factory=dict)
    points: list[dict[str, Any]] = field(default_factory=list)
    handed: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    to_stop: set[str] = field(default_factory=set)
    runs: dict[str, Run] = field(default_factory=dict)
    closing: bool = False
    deleted: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    _agents: dict[str, set[str]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def take(self, sweep: dict[str, Any]) -> None:
        """Takes a sweep as `wandb sweep` sends it; its grid is handed out point by point, of ranges the lower ends."""
        self.sweep = sweep
        parameters = sweep["parameters"]
        lists = [
            spec.get("values", [spec.get("value", spec.get("min"))]) for spec in parameters.values()
        ]
        self.points = [dict(zip(parameters, values, strict=True)) for values in product(*lists)]

    # --- what agents ask ---------------------------------------------------------------------------------

    def CreateAgent(self, given: dict[str, Any]) -> Any:
        name = f"agent{len(self._agents)}"
        self._agents[name] = set()
        return {"createAgent": {"agent": {"id": name}}}

    def Heartbeat(self, given: dict[str, Any]) -> Any:
        """Tells one agent what to do; it has one run at a time."""
        alive, own = set(json.loads(given["runState"])), self._agents[given["id"]]
        for name in sorted(own - alive):
            self.ended.append(name)
            self.to_stop.discard(name)
            run = self.runs.get(name)
            if run is not None and run.preempting and run.exit_codes[-1]:
                self.again.append(name)
        own &= alive
        commands: list[dict[str, Any]] = [
            {"type": "stop", "run_id": name} for name in self.to_stop if name in alive
        ]
        if self.closing:
            commands = [{"type": "exit"}]
        elif not own:
            commands = [self._next()]
            own |= {command["run_id"] for command in commands if "run_id" in command}
        agent = {"agent": {"id": given["id"]}, "commands": json.dumps(commands)}
        return {"agentHeartbeat": agent}

    def _next(self) -> dict[str, Any]:
        if self.again:
            name = self.again.pop(0)
        elif len(self.handed) < len(self.points):
            name = f"run{len(self.handed)}"
            self.handed[name] = self.points[len(self.handed)]
        else:
            return {"type": "exit"}
        arguments = {key: {"value": value} for key, value in self.handed[name].items()}
        return {"type": "run", "run_id": name, "program": self.sweep["program"], "args": arguments}

    def SweepWithRuns(self, given: dict[str, Any]) -> Any:
        own = {"id": "c3dlZXA=", "name": given["sweep"], "state": "RUNNING", "runs": {"edges": []}}
        return {
            "project": {
                "sweep": own
                | {"method": self.sweep["method"], "config": yaml.safe_dump(self.sweep)}
            }
        }

    def UpsertSweep(self, given: dict[str, Any]) -> Any:
        self.take(yaml.safe_load(given["config"]))
        return {
            "upsertSweep": {
                "sweep": {"name": "sweep1", "project": PARENT},
                "configValidationWarnings": [],
            }
        }

    def UpsertModel(self, given: dict[str, Any]) -> Any:
        return {"upsertModel": {"model": PARENT}}

    def Viewer(self, given: dict[str, Any]) -> Any:
        user = {
            "id": "dXNlcg==",
            "entity": ENTITY,
            "username": ENTITY,
            "flags": "{}",
            "teams": {"edges": []},
        }
        return {"viewer": user, "serverInfo": {}}

    # --- what runs ask -----------------------------------------------------------------------------------

    def UpsertBucket(self, given: dict[str, Any]) -> Any:
        inserted = given["name"] not in self.runs
        run = self.runs.setdefault(given["name"], Run(given["name"]))
        if given.get("host"):  # later ones change its config alone
            run.begun += 1
            run.preempting = False
        if given.get("config"):
            run.config = {
                key: item.get("value") for key, item in json.loads(given["config"]).items()
            }
        run.group, run.sweep = given.get("groupName") or run.group, given.get("sweep") or run.sweep
        bucket = {
            "id": run.name,
            "name": run.name,
            "displayName": run.name,
            "description": "",
            "config": given.get("config") or "{}",
            "sweepName": run.sweep,
            "project": PARENT,
            "historyLineCount": len(run.history),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def RunResumeStatus(self, given: dict[str, Any]) -> Any:
        run = self.runs.get(given["name"])
        if run is None:
            return {
                "model": {
                    "id": PARENT["id"],
                    "name": PROJECT,
                    "entity": PARENT["entity"],
                    "bucket": None,
                }
            }
        history = run.files.get("wandb-history.jsonl", [])
        events = run.files.get("wandb-events.jsonl", [])
        bucket = {
            "id": run.name,
            "name": run.name,
            "summaryMetrics": json.dumps(run.summary),
            "displayName": run.name,
            "logLineCount": 0,
            "historyLineCount": len(history),
            "eventsLineCount": len(events),
            "historyTail": json.dumps(history[-1:]),
            "eventsTail": json.dumps(events[-1:]),
            "config": json.dumps({key: {"value": value} for key, value in run.config.items()}),
            "wandbConfig": json.dumps({"t": 1}),
            "tags": [],
            "notes": "",
        }
        return {
            "model": {
                "id": PARENT["id"],
                "name": PROJECT,
                "entity": PARENT["entity"],
                "bucket": bucket,
            }
        }

    def RunStoppedStatus(self, given: dict[str, Any]) -> Any:
        name = given["runId"]
        return {"project": {"run": {"stopped": self.runs[name].stopped or name in self.to_stop}}}

    def CreateRunFiles(self, given: dict[str, Any]) -> Any:
        files = [
            {"name": name, "uploadUrl": f"{self.url}/upload/{given['run']}/{name}"}
            for name in given["files"]
        ]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def ServerFeaturesQuery(self, given: dict[str, Any]) -> Any:
        return {"serverInfo": {"features": []}}

    def ArtifactType(self, given: dict[str, Any]) -> Any:
        return {"project": {"artifact": None}}

    def CreateArtifact(self, given: dict[str, Any]) -> Any:
        """A table as an artifact: said to be there already, so that its files do not come a second time."""
        there = {"id": "YXJ0aWZhY3Q=", "state": "COMMITTED"}
        return {
            "createArtifact": {"artifact": there | {"artifactSequence": {"latestArtifact": there}}}
        }

    def stream(self, name: str, sent: dict[str, Any]) -> Any:
        """Lines of a run's files, from an offset on, and its end."""
        run = self.runs[name]
        for file, chunk in (sent.get("files") or {}).items():
            kept = run.files.setdefault(file, [])
            kept[chunk["offset"] :] = chunk["content"]
        run.preempting |= bool(sent.get("preempting"))
        if sent.get("complete"):
            run.exit_codes.append(int(sent["exitcode"]))
        return {"stopped": True} if run.stopped else {}

    def answer(self, query: str, given: dict[str, Any]) -> Any:
        found = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = found[1] if found else query
        with self._lock:
            self.asked.append(name)
            ask = getattr(self, name, None)
            if ask is None:
                self.unknown.append(name)
                return {"errors": [{"message": f"no {name} here"}]}
            return {"data": ask(given)}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Http"

    def log_message(self, *given: Any) -> None: ...

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        self.server.kept.bodies.append(body)
        return body

    def _reply(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        kept, body = self.server.kept, self._body()
        if self.path == "/graphql":
            sent = json.loads(body)
            given = sent.get("variables") or {}
            gone = given.get("name") in kept.deleted and "UpsertBucket" in sent["query"]
            answer = (
                kept.answer(sent["query"], given)
                if not gone
                else {"errors": [{"message": "deleted"}]}
            )
            self._reply(answer, 410 if gone else 200)
        elif found := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            with kept._lock:
                self._reply(kept.stream(found[1], json.loads(body)))
        elif self.path.startswith("/sdk/otel/"):  # wandb's own telemetry
            self._reply({})
        else:
            kept.unknown.append(self.path)
            self._reply({}, 404)

    def do_PUT(self) -> None:
        self.server.kept.uploads[self.path.removeprefix("/upload/")] = self._body()
        self._reply({})

    def do_GET(self) -> None:
        self.server.kept.unknown.append(self.path)
        self._reply({}, 404)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    kept: Server

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed leave their connections as they are."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port of this machine."""
    http = _Http(("127.0.0.1", 0), _Handler)
    http.kept = Server(url=f"http://127.0.0.1:{http.server_address[1]}")
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield http.kept
    finally:
        http.shutdown()
        http.server_close()
        thread.join()

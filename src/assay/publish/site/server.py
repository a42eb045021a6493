"""The server: one machine's loopback, reading only.

A page of another site that a browser has open can reach loopback too, by a name of its own that it lets point here (DNS
rebinding). So a request whose Host is not loopback is refused, no answer may be read across origins, and none is framed.
"""

from __future__ import annotations

import logging
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.publish.site.views import Answer, Site

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
"""What a browser may call this machine."""


class Server(ThreadingHTTPServer):
    """A site on loopback; `server_port` is where."""

    daemon_threads = True

    def __init__(self, site: Site, *, port: int) -> None:
        """Listen, and answer nothing yet.

        Args:
            site: what is shown.
            port: where to listen; 0 takes one that is free.

        Raises:
            AssayError: the port is taken, or may not be used.
        """
        self.site = site
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise AssayError(
                f"port {port} on {HOST} cannot be used: {reason}.", fix="Give another one, or --port 0 for a free one."
            ) from None

    @property
    def address(self) -> str:
        """What to open."""
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell the log of a reader who went away; the server goes on."""
        del request
        log.debug("%s left during an answer: %s", client_address, sys.exc_info()[1])


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "assay", ""
    timeout = 60

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        if not self._loopback():
            self.send_error(HTTPStatus.FORBIDDEN, "only loopback is answered", "Open it as 127.0.0.1 or localhost.")
            return
        url = urlsplit(self.path)
        parts = [unquote(part, errors="replace") for part in url.path.split("/") if part]
        query = dict(parse_qsl(url.query, errors="replace"))
        try:
            answer = self.server.site.answer(parts, query)
        except Exception:
            log.exception("%s was not answered", self.path)
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, "this is a bug in assay", "The terminal has the trace.")
            return
        self._send(answer, body=body)

    def _loopback(self) -> bool:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1:
            return False
        name, colon, port = hosts[0].strip().lower().rpartition(":")
        if not colon or hosts[0].endswith("]"):
            name, port = hosts[0].strip().lower(), ""
        return name in NAMES and port in ("", str(self.server.server_port))

    def _send(self, answer: Answer, *, body: bool) -> None:
        content = answer.body.encode("utf-8", errors="replace")
        self.send_response(answer.status)
        self.send_header("Content-Type", f"{answer.kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        if answer.name:
            self.send_header("Content-Disposition", f'attachment; filename="{answer.name}"')
        if answer.policy:
            self.send_header("Content-Security-Policy", f"{answer.policy}; frame-ancestors 'none'")
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name for it
        log.debug(format, *args)

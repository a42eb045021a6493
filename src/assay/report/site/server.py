"""Serve the site over HTTP on the loopback interface, read-only.

A web page of another origin in the same browser can reach loopback through DNS rebinding. The server therefore rejects
requests whose Host header is not loopback. Other origins cannot read the responses or show them in frames.
"""

from __future__ import annotations

import logging
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from assay.core.errors import Refused

if TYPE_CHECKING:
    from assay.report.site.views import SiteResponse, StoreSite

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
"""Accepted host names."""


class SiteServer(ThreadingHTTPServer):
    """HTTP server of a site on the loopback port `server_port`."""

    daemon_threads = True

    def __init__(self, site: StoreSite, *, port: int) -> None:
        """Bind the port.

        Args:
            site: the site that handles the requests.
            port: the port. 0 selects a free port.

        Raises:
            Refused: the port is in use or not permitted.
        """
        self.site = site
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise Refused(
                f"port {port} on {HOST} cannot be used: {reason}.",
                fix="Choose another --port, or use --port 0 for a free port.",
            ) from None

    @property
    def address(self) -> str:
        """URL of the site."""
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a connection that the client closed early."""
        del request
        log.debug("%s closed the connection during a response: %s", client_address, sys.exc_info()[1])


class _Handler(BaseHTTPRequestHandler):
    server: SiteServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "assay", ""
    timeout = 60

    def do_GET(self) -> None:
        self._respond(body=True)

    def do_HEAD(self) -> None:
        self._respond(body=False)

    def _respond(self, *, body: bool) -> None:
        if not self._loopback():
            self.send_error(
                HTTPStatus.FORBIDDEN, "only loopback requests are allowed", "Open the site as 127.0.0.1 or localhost."
            )
            return
        url = urlsplit(self.path)
        parts = [unquote(part, errors="replace") for part in url.path.split("/") if part]
        query = dict(parse_qsl(url.query, errors="replace"))
        try:
            response = self.server.site.respond(parts, query)
        except Exception:
            log.exception("request %s failed", self.path)
            self.send_error(
                HTTPStatus.INTERNAL_SERVER_ERROR, "this is a bug in assay", "The terminal shows the traceback."
            )
            return
        self._send(response, body=body)

    def _loopback(self) -> bool:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1:
            return False
        name, colon, port = hosts[0].strip().lower().rpartition(":")
        if not colon or hosts[0].endswith("]"):
            name, port = hosts[0].strip().lower(), ""
        return name in NAMES and port in ("", str(self.server.server_port))

    def _send(self, response: SiteResponse, *, body: bool) -> None:
        content = response.body.encode("utf-8", errors="replace")
        self.send_response(response.status)
        self.send_header("Content-Type", f"{response.kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        if response.name:
            self.send_header("Content-Disposition", f'attachment; filename="{response.name}"')
        if response.policy:
            self.send_header("Content-Security-Policy", f"{response.policy}; frame-ancestors 'none'")
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # name in the base class
        log.debug(format, *args)

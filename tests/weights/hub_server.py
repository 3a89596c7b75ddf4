"""A server on 127.0.0.1 that speaks as much of the hub as a download needs, and misbehaves as told."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34


class HubServer(ThreadingHTTPServer):
    """Serves `repositories`: {"owner/name": {path: bytes}} under the hub's addresses, `plain` under any other path.

    Attributes:
      requests: (method, path, Range header) of everything that was asked.
      break_after: path's last part → how many bytes to send before the connection is closed, once.
      delay: seconds before each file. headers_of: further headers by the path's last part.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.plain, self.requests = {}, {}, []
        self.break_after, self.headers_of, self.ignore_ranges, self.delay = {}, {}, False, 0.0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def handle_error(self, request, client_address):
        """A client that goes away is part of the game."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def gets(self, name):
        """How often a file of this name was asked for, and the Range headers."""
        return [ranges for method, path, ranges in self.requests if method == "GET" and path.endswith("/" + name)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.requests.append((self.command, self.path, self.headers.get("Range")))
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] in (["api", "models"], ["api", "datasets"]):
            return self._info("/".join(parts[2:4]), parts[5] if len(parts) > 5 else None)
        parts = parts[1:] if parts[0] == "datasets" else parts
        if parts[2:3] == ["resolve"] and parts[3] == COMMIT:
            content = self.server.repositories.get("/".join(parts[:2]), {}).get("/".join(parts[4:]))
        else:
            content = self.server.plain.get(self.path)
        return self._not_found() if content is None else self._file(parts[-1], content)

    def _info(self, repository, revision):
        files = self.server.repositories.get(repository)
        if files is None or revision not in (None, COMMIT):
            return self._not_found()
        siblings = [
            {
                "rfilename": path,
                "size": len(content),
                "blobId": "0" * 40,
                **({"lfs": {"size": len(content), "sha256": sha256(content), "pointerSize": 134}} if len(content) > 999 else {}),
            }
            for path, content in files.items()
        ]
        body = json.dumps({"id": repository, "sha": COMMIT, "private": False, "siblings": siblings, "tags": [], "downloads": 0})
        return self._send(200, body.encode(), {"Content-Type": "application/json"})

    def _file(self, name, content):
        time.sleep(self.server.delay)
        etag = f'"{sha256(content)}"'
        headers = {"ETag": etag, "X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(content))} | self.server.headers_of.get(
            name, {}
        )
        start, ranges = 0, self.headers.get("Range")
        if ranges and not self.server.ignore_ranges and self.headers.get("If-Range", etag) == etag:
            start = int(ranges.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self._send(416, b"", {})
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        limit = self.server.break_after.pop(name, None)
        return self._send(206 if "Content-Range" in headers else 200, content[start:], headers, limit)

    def _not_found(self):
        self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    def _send(self, status, body, headers, limit=None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:limit])
        self.close_connection = self.close_connection or limit is not None


def sha256(content):
    return hashlib.sha256(content).hexdigest()

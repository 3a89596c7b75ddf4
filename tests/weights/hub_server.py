"""A server on 127.0.0.1 with the part of the hub's interface that downloads use, and with its failures on demand."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34


class HubServer(ThreadingHTTPServer):
    """Serves `repositories`: {"owner/name": {path: bytes}} under the hub's addresses.

    Attributes:
      requests: (method, path, Range header, Authorization header) of every request.
      delivered: "owner/name" → {path: bytes} that is sent in place of the listed content.
      break_after: last part of a path → how many bytes to send before the connection is closed, once.
      delay: seconds before each file.
      page: answer to every request, as a log-in page of a network gives it; empty = none.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.delivered, self.requests, self.break_after = {}, {}, [], {}
        self.delay, self.page = 0.0, b""
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def handle_error(self, request, client_address):
        """Clients may go away."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def gets(self, name):
        """The Range headers of every request for a file of this name."""
        return [ranges for method, path, ranges, _ in self.requests if method == "GET" and path.endswith("/" + name)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.requests.append((self.command, self.path, self.headers.get("Range"), self.headers.get("Authorization")))
        if self.server.page:
            return self._send(200, self.server.page, {"Content-Type": "text/html"})
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] in (["api", "models"], ["api", "datasets"]):
            return self._info("/".join(parts[2:4]), parts[5] if len(parts) > 5 else None)
        repository, path = "/".join(parts[:2]), "/".join(parts[4:])
        if parts[2:4] != ["resolve", COMMIT] or path not in self.server.repositories.get(repository, {}):
            return self._not_found()
        listed = self.server.repositories[repository][path]
        return self._file(parts[-1], self.server.delivered.get(repository, {}).get(path, listed), sha256(listed))

    do_HEAD = do_GET

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

    def _file(self, name, content, etag):
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
        if self.command == "HEAD":
            return self._send(200, content, headers)
        time.sleep(self.server.delay)
        start, limit = 0, self.server.break_after.pop(name, None)
        if ranges := self.headers.get("Range"):
            start = int(ranges.removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self._send(206 if ranges else 200, content[start:], headers, limit)

    def _not_found(self):
        self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    def _send(self, status, body, headers, limit=None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:limit])
        self.close_connection = self.close_connection or limit is not None


def sha256(content):
    return hashlib.sha256(content).hexdigest()

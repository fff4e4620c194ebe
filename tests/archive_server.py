"""A web server on loopback that can misbehave as real ones do, and archives for it to serve."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from kws.download import ArchiveSource


@dataclass(kw_only=True)
class Served:
    """One file at every path. `drops` are how many bytes of each of the first answers arrive before the line breaks;
    `statuses` are answered to the first requests instead of the file."""

    data: bytes
    ranges: bool = True
    drops: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    chunked: bool = False
    asked: list[str | None] = field(default_factory=list)
    sent_bytes: int = 0


class _Handler(http.server.BaseHTTPRequestHandler):
    served: Served

    def do_GET(self) -> None:
        served = self.served
        asked = self.headers.get("Range")
        served.asked.append(asked)
        if served.statuses:
            self.send_error(served.statuses.pop(0))
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and served.ranges else 0
        if start and start >= len(served.data):
            self.send_error(416)
            return
        body = served.data[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(served.data) - 1}/{len(served.data)}")
        if not served.chunked:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = body[: served.drops.pop(0)] if served.drops else body
        with contextlib.suppress(OSError):
            self.wfile.write(body)
            served.sent_bytes += len(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serve(served: Served) -> Iterator[str]:
    """Yield the address of a server for `served`."""
    handler = type("Handler", (_Handler,), {"served": served})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def tar_gz(files: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    """An archive of `files` by name, and of members without content."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in more:
            tar.addfile(member)
    return packed.getvalue()


def source_of(data: bytes, url: str, folder: str = "", name: str = "clips.tar.gz") -> ArchiveSource:
    digest = hashlib.sha256(data).hexdigest()
    return ArchiveSource(url=f"{url}/{name}", size_bytes=len(data), sha256=digest, folder=folder)

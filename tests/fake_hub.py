"""A Hugging Face hub of one model, on this machine: what is fetched, and what is uploaded."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "org/tiny"


class FakeHub:
    """Serves a folder as ``org/tiny``; ``committed`` is what was uploaded, unless it ``denies``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked, self.committed = folder, [], {}
        self.url, self.denies = "", False

    def files(self) -> dict[str, bytes]:
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in found}


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def reply(self, body: bytes, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def say(self, value: object, status: int = 200, **headers: str) -> None:
            self.reply(
                json.dumps(value).encode(), status, Content_Type="application/json", **headers
            )

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            hub.asked.append(path)
            files = hub.files()
            if path.startswith("/api/models/org/gated") or path.startswith("/org/gated"):
                self.say({"error": "terms"}, 403, X_Error_Code="GatedRepo", X_Error_Message="terms")
            elif path.startswith(f"/api/models/{NAME}/revision/none"):
                self.say({"error": "no"}, 404, X_Error_Code="RevisionNotFound")
            elif path.startswith(f"/api/models/{NAME}/tree/"):
                self.say(
                    [
                        {"type": "file", "path": name, "size": len(content),
                         "oid": hashlib.sha1(content).hexdigest()}
                        for name, content in files.items()
                    ]
                )  # fmt: skip
            elif path.startswith(f"/api/models/{NAME}"):
                siblings = [{"rfilename": name} for name in files]
                self.say({"id": NAME, "modelId": NAME, "sha": COMMIT, "private": False,
                          "tags": [], "downloads": 0, "siblings": siblings})  # fmt: skip
            elif path.startswith(f"/{NAME}/resolve/"):
                name = path.removeprefix(f"/{NAME}/resolve/").split("/", 1)[1]
                if name not in files:
                    self.say({}, 404, X_Error_Code="EntryNotFound")
                    return
                etag = f'"{hashlib.sha1(files[name]).hexdigest()}"'
                self.reply(files[name], ETag=etag, X_Repo_Commit=COMMIT)
            else:
                self.say({"error": "no"}, 404, X_Error_Code="RepoNotFound")

        do_HEAD = do_GET  # noqa: N815

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            path = self.path.split("?")[0]
            hub.asked.append(path)
            if hub.denies:
                self.say({"error": "who are you"}, 401)
            elif "/preupload/" in path:
                files = json.loads(body)["files"]
                self.say({"files": [{"path": f["path"], "uploadMode": "regular",
                                     "shouldIgnore": False} for f in files]})  # fmt: skip
            elif "/commit/" in path:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        value = line["value"]
                        hub.committed[value["path"]] = base64.b64decode(value["content"])
                self.say({"commitUrl": f"{hub.url}/{NAME}/commit/{COMMIT}", "commitOid": COMMIT})
            elif path == "/api/repos/create":
                self.say({"url": f"{hub.url}/{NAME}", "id": NAME, "name": NAME})
            elif path == "/api/validate-yaml":
                self.say({"errors": [], "warnings": []})
            else:
                self.say({"error": "no"}, 404)

    return Handler


@contextmanager
def fake_hub(folder: Path) -> Iterator[FakeHub]:
    """A hub at ``url`` until the end of the context."""
    hub = FakeHub(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

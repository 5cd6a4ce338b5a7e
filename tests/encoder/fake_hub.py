"""As much of the Hugging Face hub's HTTP interface as pushing and loading a model needs, on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHA = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Repositories in memory; ``token`` is the one that it takes."""

    def __init__(self, token: str = "hf_good") -> None:
        self.token = token
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.created: list[dict] = []
        self.pull_requests: dict[str, dict[str, bytes]] = {}
        self.cards: list[str] = []
        self.fail: dict[str, tuple[int, str]] = {}
        """Paths that answer with an error: status and message."""
        self.blobs: dict[str, bytes] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, body: object = b"", status: int = 200, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def handle_any(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else self.chunked()
        path, _, query = self.path.partition("?")
        for part, (status, message) in self.hub.fail.items():
            if part in path:
                return self.answer({"error": message}, status, **{"X-Error-Message": message})
        if not path.startswith("/blob/") and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self.answer({"error": "Invalid user token."}, 401)
        return self.route(path, query, body)

    do_GET = do_POST = do_PUT = do_HEAD = handle_any

    def chunked(self) -> bytes:
        found = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while length := int(self.rfile.readline(), 16):
                found += self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
        return found

    def route(self, path: str, query: str, body: bytes) -> None:
        if path == "/api/whoami-v2":
            return self.answer({"name": "me", "type": "user", "auth": {}})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            self.hub.cards.append(json.loads(body)["content"])
            return self.answer({"errors": [], "warnings": []})
        if path.startswith("/blob/"):
            self.hub.blobs[path.removeprefix("/blob/")] = body
            return self.answer()
        if path.endswith("/info/lfs/objects/batch"):
            return self.batch(json.loads(body))
        if "/resolve/" in path:
            return self.resolve(path)
        if not path.startswith("/api/models/"):
            return self.answer({"error": "no such path"}, 404)
        owner, name, *rest = path.removeprefix("/api/models/").split("/")
        files = self.hub.repositories.get(f"{owner}/{name}")
        if files is None:
            return self.answer({"error": "Repository Not Found"}, 404, **{"X-Error-Code": "RepoNotFound"})
        if rest[:1] == ["preupload"]:
            return self.preupload(json.loads(body))
        if rest[:1] == ["commit"]:
            return self.commit(f"{owner}/{name}", files, body, pr="create_pr=1" in query)
        if rest[:1] == ["tree"]:
            listed = [{"type": "file", "path": p, "size": len(b), "oid": SHA} for p, b in files.items()]
            return self.answer(listed)
        siblings = [{"rfilename": path} for path in files]
        return self.answer({"id": f"{owner}/{name}", "sha": SHA, "siblings": siblings})

    def create(self, wanted: dict) -> None:
        owner = wanted.get("organization") or "me"
        repo = f"{owner}/{wanted['name']}"
        url = f"{self.hub.url}/{repo}"
        if repo in self.hub.repositories:
            return self.answer({"error": "You already created this model repo", "url": url}, 409)
        self.hub.created.append(wanted)
        self.hub.repositories[repo] = {}
        return self.answer({"url": url, "name": repo, "id": repo})

    def preupload(self, wanted: dict) -> None:
        modes = [(one["path"], "lfs" if one["path"].endswith(".safetensors") else "regular") for one in wanted["files"]]
        self.answer(
            {"files": [{"path": p, "uploadMode": mode, "shouldIgnore": False, "oid": None} for p, mode in modes]}
        )

    def batch(self, wanted: dict) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.hub.url}/blob/{one['oid']}", "header": {}}}}
            for one in wanted["objects"]
        ]
        self.answer({"transfer": "basic", "objects": objects}, Content_Type="application/vnd.git-lfs+json")

    def commit(self, repo: str, files: dict[str, bytes], body: bytes, *, pr: bool) -> None:
        made: dict[str, bytes] = {}
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                made[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                made[value["path"]] = self.hub.blobs[value["oid"]]
            elif entry["key"] == "deletedFile" and not pr:
                del files[value["path"]]
        (self.hub.pull_requests.setdefault(repo, {}) if pr else files).update(made)
        answer = {
            "success": True,
            "commitOid": SHA,
            "commitUrl": f"{self.hub.url}/{repo}/commit/{SHA}",
            "hookOutput": "",
        }
        self.answer(answer | ({"pullRequestUrl": f"{self.hub.url}/{repo}/discussions/1"} if pr else {}))

    def resolve(self, path: str) -> None:
        owner, name, _, _, *rest = path.strip("/").split("/")
        content = self.hub.repositories.get(f"{owner}/{name}", {}).get("/".join(rest))
        if content is None:
            return self.answer({"error": "Entry not found"}, 404, **{"X-Error-Code": "EntryNotFound"})
        etag = hashlib.sha256(content).hexdigest()
        return self.answer(content, ETag=f'"{etag}"', X_Repo_Commit=SHA, Accept_Ranges="bytes")

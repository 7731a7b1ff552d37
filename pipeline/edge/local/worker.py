"""One worker of a role (`inferwatch worker ROLE`), or the HTTP side (`inferwatch web`), as a child process."""

import http.client
import json
import os
import sys
from pathlib import Path

from pipeline.config import PREFIX, Settings, to_environ
from pipeline.edge.local.engine import Engine
from pipeline.edge.local.ports import HOST, PROBE_S
from pipeline.edge.local.process import Child
from schemas.roles import WEB


class Worker(Engine):
    """`python -m agents worker ROLE`, or `web`, told everything by its environment."""

    def __init__(self, role: str, settings: Settings, *, web_port: int, logs: Path) -> None:
        super().__init__(role, logs, ports=(web_port,))
        self.web_port = web_port
        self._settings = settings.model_copy(update={"web_host": HOST, "web_port": web_port})

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self.web_port}"

    @property
    def metrics_url(self) -> str:
        """Where Prometheus finds it."""
        return f"{self.url}/metrics"

    def _make_child(self) -> Child:
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
        verb = [WEB] if self.name == WEB else ["worker", self.name]
        command = [sys.executable, "-m", "agents", *verb]
        return Child(command, self.log, environ=inherited | to_environ(self._settings))

    def answers(self) -> bool:
        """Does /readyz say 200?"""
        return self._says_ok("/readyz")

    def healthy(self) -> bool:
        """Does /healthz say 200?"""
        return self._says_ok("/healthz")

    def _says_ok(self, path: str) -> bool:
        connection = http.client.HTTPConnection(HOST, self.web_port, timeout=PROBE_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            said = json.loads(response.read(65_536))
            return response.status == http.HTTPStatus.OK and isinstance(said, dict) and said.get("role") == self.name
        except (OSError, ValueError, http.client.HTTPException):
            return False
        finally:
            connection.close()

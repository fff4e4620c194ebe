"""What the tests of tracking share: a tracker, and a real mlflow server on loopback, in a process group of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from kws.training.tracking import MlflowTracker, open_tracker

START_S = 180
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
PARAMETERS = {"train": {"epochs": 4, "seed": 0}, "model": {"name": "bcresnet-1"}, "words": ["نعم", "لا"]}


def tracker_of(uri: str | None) -> MlflowTracker:
    tracker = open_tracker(track=True, uri=uri, run_name="run")
    assert isinstance(tracker, MlflowTracker)
    return tracker


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class MlflowServer:
    """Keeps its runs in `folder`, so that another one, started later, has them too."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._log_path = folder / "server.log"
        arguments = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--serve-artifacts"]
        arguments += ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
        with self._log_path.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), *arguments],
                stdout=log,
                stderr=log,
                cwd=folder,
                env=os.environ | QUIET,
                start_new_session=True,
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.2)
        self.kill()
        raise AssertionError(f"mlflow server did not start:\n{self._log_path.read_text()[-3000:]}")

    def signal(self, number: signal.Signals) -> None:
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        if self._process.poll() is None:
            self.signal(signal.SIGKILL)
            self._process.wait()

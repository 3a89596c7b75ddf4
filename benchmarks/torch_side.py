"""The other process of a benchmark: torch, in an environment of its own, asked over pipes one request at a time."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any


class TorchSide:
    """The process that holds torch: `script --serve-torch --threads N`, run by another Python.

    The script answers every line of JSON with a line of JSON, and begins with a line of versions.

    Attributes:
      versions: that first line.
    """

    def __init__(self, python: str, script: str | Path, threads: int) -> None:
        command = [python, str(Path(script).resolve()), "--serve-torch", "--threads", str(threads)]
        # Torch's threads wait for each other spinning, which on a machine with other work to do made it three times slower.
        environment = {"OMP_WAIT_POLICY": "passive", **os.environ, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=tempfile.gettempdir()
        )
        self.versions = self._answer()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Sends a request and waits for its answer.

        Raises:
          SystemExit: the process ended; what it wrote to stderr stands above.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the torch process ended with status {self.process.wait()}; its message is above")
        return json.loads(line)

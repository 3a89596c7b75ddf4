"""The command that serves a page: how Streamlit is set, the same for every page of ours."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from beats_jax.errors import UserError


def require_streamlit() -> None:
    """Raises `UserError` where the packages of the page are not installed."""
    if find_spec("streamlit") is None or find_spec("plotly") is None:
        raise UserError("the page needs Streamlit and Plotly; pip install 'beats-jax[ui]' installs them")


def require_free(address: str, port: int) -> None:
    """Raises `UserError` where another process has the port, or the machine has no such address."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            one.bind((address, port))
        except (OSError, OverflowError) as error:
            raise UserError(f"the page cannot open {address} port {port} ({error}); give another --port or --address") from error


def serve(page: Path, argv: Sequence[str], *, address: str, port: int, max_upload: int) -> None:
    """Becomes the server of a page, and so holds no memory of what came before; arguments as `server_command`."""
    command = server_command(page, argv, address=address, port=port, max_upload=max_upload)
    os.execv(command[0], command)


def server_command(page: Path, argv: Sequence[str], *, address: str, port: int, max_upload: int) -> list[str]:
    """The command that serves a page.

    Args:
      page: a script of this folder. argv: its arguments. max_upload: megabytes of the largest file that is taken.
    """
    options = {
        "server.address": address,
        "server.port": port,
        "server.headless": "true",  # no browser is opened, no e-mail address asked
        "server.maxUploadSize": max_upload,
        "server.fileWatcherType": "none",
        "server.enableXsrfProtection": "true",  # whatever a config.toml of the user's says
        "server.enableCORS": "true",
        "server.enableStaticServing": "false",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",  # tracebacks are printed where the server runs
    }
    chosen = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "streamlit", "run", str(page), *chosen, "--", *argv]

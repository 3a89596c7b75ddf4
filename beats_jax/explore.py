"""`python -m beats_jax.explore`: recordings on a page in the browser."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from beats_jax.command_line import run_verb
from beats_jax.errors import UserError

PAGE = Path(__file__).parent / "explorer" / "page.py"


def verb(argv: Sequence[str]) -> int:
    """Parses the arguments, embeds what is not embedded yet, and becomes the server of the page."""
    from beats_jax.explorer.arguments import page_arguments, parser

    parsed = parser().parse_args(argv)
    given = page_arguments(parsed)
    if find_spec("streamlit") is None or find_spec("plotly") is None:
        raise UserError("the page needs Streamlit and Plotly; pip install 'beats-jax[ui]' installs them")

    require_free(parsed.address, parsed.port)

    from beats_jax.pipelines.exploring.collection import open_collection

    collection = open_collection(given.settings)  # here, where mistakes end in one line and embedding shows a bar
    print(f"{len(collection)} windows; the page is at http://{parsed.address}:{parsed.port} (Ctrl-C ends it)", flush=True)
    embedded = [] if given.settings.embeddings else [f"--embedded={collection.table.folder.parent}"]
    command = server_command([*argv, *embedded], parsed.address, parsed.port, parsed.max_upload)
    os.execv(command[0], command)  # the server then holds no memory of the embedding


def require_free(address: str, port: int) -> None:
    """Raises `UserError` where no page can be served there, before hours of embedding."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except (OSError, OverflowError) as error:
            raise UserError(f"no page can be at {address}, port {port} ({error}); give another --port or --address") from error


def server_command(argv: Sequence[str], address: str, port: int, max_upload: int) -> list[str]:
    """The command that serves the page with these arguments."""
    options = {
        "server.address": address,
        "server.port": port,
        "server.headless": "true",  # no browser is opened, no e-mail address asked
        "server.maxUploadSize": max_upload,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",  # tracebacks are printed where the server runs
    }
    chosen = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "streamlit", "run", str(PAGE), *chosen, "--", *argv]


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: exit status 0, 2 for a mistake of the user's, 1 for ours."""
    return run_verb(verb, argv)


if __name__ == "__main__":
    sys.exit(main())

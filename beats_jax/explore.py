"""`python -m beats_jax.explore`: recordings on a page in the browser."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from beats_jax.command_line import run_verb

PAGE = Path(__file__).parent / "explorer" / "page.py"


def verb(argv: Sequence[str]) -> int:
    """Parses the arguments, embeds what is not embedded yet, and becomes the server of the page."""
    from beats_jax.explorer.arguments import page_arguments, parser
    from beats_jax.explorer.server import require_free, require_streamlit, serve

    parsed = parser().parse_args(argv)
    given = page_arguments(parsed)
    require_streamlit()
    require_free(parsed.address, parsed.port)  # before hours of embedding

    from beats_jax.pipelines.exploring.collection import open_collection

    collection = open_collection(given.settings)  # here, where mistakes end in one line and embedding shows a bar
    print(f"{len(collection)} windows; the page is at http://{parsed.address}:{parsed.port} (Ctrl-C ends it)", flush=True)
    embedded = [] if given.settings.embeddings else [f"--embedded={collection.table.folder.parent}"]
    serve(PAGE, [*argv, *embedded], address=parsed.address, port=parsed.port, max_upload=parsed.max_upload)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: exit status 0, 2 for a mistake of the user's, 1 for ours."""
    return run_verb(verb, argv)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m beats_jax.review`: verdicts on detections on a page in the browser."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from beats_jax.command_line import run_verb

PAGE = Path(__file__).parent / "explorer" / "reviewing" / "page.py"


def verb(argv: Sequence[str]) -> int:
    """Parses the arguments, opens the detections and the table of verdicts, and becomes the server of the page."""
    from beats_jax.explorer.reviewing.arguments import parser, review_arguments
    from beats_jax.explorer.server import require_free, require_streamlit, serve

    parsed = parser().parse_args(argv)
    given = review_arguments(parsed)
    require_streamlit()
    require_free(parsed.address, parsed.port)

    from beats_jax.pipelines.reviewing.candidates import open_candidates
    from beats_jax.pipelines.reviewing.review_file import ReviewFile

    # Here, where mistakes end in one line
    labels = [given.label] if given.label else []
    candidates = open_candidates(given.detections, kind=given.kind, labels=labels, audio=given.audio)
    table = ReviewFile(given.review)
    if removed := table.repair():
        print(f"{given.review}: removed a last line that was cut off: {removed!r}", flush=True)
    table.require_ours()
    for why, count in candidates.left_out.items():
        print(f"{count} detections {why} are left out", flush=True)
    print(f"{len(candidates)} clips; verdicts go to {given.review}", flush=True)
    print(f"the page is at http://{parsed.address}:{parsed.port} (Ctrl-C ends it)", flush=True)
    serve(PAGE, argv, address=parsed.address, port=parsed.port, max_upload=1)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: exit status 0, 2 for a mistake of the user's, 1 for ours."""
    return run_verb(verb, argv)


if __name__ == "__main__":
    sys.exit(main())

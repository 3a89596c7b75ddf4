"""`python -m beats_jax.review`: verdicts on detections, or names for clusters, on a page in the browser."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from beats_jax.command_line import run_verb

if TYPE_CHECKING:
    from beats_jax.explorer.reviewing.arguments import ClusterArguments, ReviewArguments

EXPLORER = Path(__file__).parent / "explorer"


def verb(argv: Sequence[str]) -> int:
    """Parses the arguments, opens what is reviewed and the table of decisions, and becomes the server of the page."""
    from beats_jax.explorer.reviewing.arguments import ClusterArguments, cluster_arguments, parser, review_arguments
    from beats_jax.explorer.server import require_free, require_streamlit, serve

    parsed = parser().parse_args(argv)
    given = cluster_arguments(parsed) if parsed.clusters is not None else review_arguments(parsed)
    require_streamlit()
    require_free(parsed.address, parsed.port)
    page = _open_clusters(given) if isinstance(given, ClusterArguments) else _open_detections(given)
    print(f"the page is at http://{parsed.address}:{parsed.port} (Ctrl-C ends it)", flush=True)
    serve(EXPLORER / page / "page.py", argv, address=parsed.address, port=parsed.port, max_upload=1)
    return 0


def _open_clusters(given: ClusterArguments) -> str:
    """Opens the clusters here, where mistakes end in one line; returns the folder of the page."""
    from beats_jax.pipelines.refining.discovery import open_discovery
    from beats_jax.pipelines.refining.refinement_file import RefinementFile

    discovery = open_discovery(given.clusters, given.audio)
    table = RefinementFile(given.clusters, discovery.names)
    if removed := table.repair():
        print(f"{table.path}: removed a last line that was cut off: {removed!r}", flush=True)
    count = len(table.refined().clusters)
    print(f"{count} clusters of {len(discovery.regions)} regions; decisions go to {table.path}", flush=True)
    return "refining"


def _open_detections(given: ReviewArguments) -> str:
    from beats_jax.pipelines.reviewing.candidates import open_candidates
    from beats_jax.pipelines.reviewing.review_file import ReviewFile

    labels = [given.label] if given.label else []
    candidates = open_candidates(given.detections, kind=given.kind, labels=labels, audio=given.audio)
    table = ReviewFile(given.review)
    if removed := table.repair():
        print(f"{given.review}: removed a last line that was cut off: {removed!r}", flush=True)
    table.require_ours()
    for why, count in candidates.left_out.items():
        print(f"{count} detections {why} are left out", flush=True)
    print(f"{len(candidates)} clips; verdicts go to {given.review}", flush=True)
    return "reviewing"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: exit status 0, 2 for a mistake of the user's, 1 for ours."""
    return run_verb(verb, argv)


if __name__ == "__main__":
    sys.exit(main())

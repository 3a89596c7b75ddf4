"""Stage 0: what the recordings are, before anything is trained."""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np

from beats_jax.evaluation.embeddings.maps import fit_principal, sample_rows, tsne_places
from beats_jax.evaluation.metrics.classification import Ranking
from beats_jax.evaluation.report.figures import metrics as metric_figures
from beats_jax.evaluation.report.figures import study as figures
from beats_jax.evaluation.report.page import Block, Bullets, Cell, Figure, Paragraph, Section, Table
from beats_jax.pipelines.studying.features import FACTS, feature_names
from beats_jax.pipelines.studying.pictures import Pictures
from beats_jax.pipelines.studying.rows import StudyRows

MAPPED, COMPONENTS, SHOWN_FEATURES = 1500, 20, 12
CLIPPED_SHARE, QUIET_DBFS = 1e-3, -80.0


def exploration_sections(rows: StudyRows, pictures: Pictures) -> list[Section]:
    """The sections of the page."""
    return [
        _recordings(rows, pictures),
        _spectra(rows, pictures),
        _features(rows, pictures),
        _components(rows, pictures),
    ]


def _of_class(rows: StudyRows, pictures: Pictures, c: int) -> np.ndarray:
    return np.flatnonzero((rows.labels == c) & pictures.readable)


def _recordings(rows: StudyRows, pictures: Pictures) -> Section:
    balance = Figure(partial(metric_figures.class_balance, rows.report.splits), "clips of each class in each part")
    table = []
    for c, name in enumerate(rows.vocabulary.names):
        facts = pictures.facts[_of_class(rows, pictures, c)]
        if not len(facts):
            table.append((name, 0, *["-"] * 6))
            continue
        column = dict(zip(FACTS, facts.T, strict=True))
        cells: list[Cell] = [name, len(facts)]
        cells += [_quartiles(column[key]) for key in ("seconds", "rms_db", "snr_db")]
        cells += [f"{column['peak_db'].max():.1f}", int((column["clipped_share"] > CLIPPED_SHARE).sum())]
        cells += [int((column["rms_db"] < QUIET_DBFS).sum())]
        table.append(tuple(cells))
    header = (
        "class",
        "clips",
        "seconds",
        "level (dB of full scale)",
        "peaks over floor (dB)",
        "loudest peak (dB)",
        "clipped",
        "near silent",
    )
    note = (
        f"Median (quartiles). Clipped: more than {100 * CLIPPED_SHARE:g} % of the samples at full scale; near silent: "
        f"below {QUIET_DBFS:g} dB. Where level or peaks differ, a classifier may learn the recorder, not the sound."
    )
    return Section("Stage 0: recordings", [balance, Table(header, table), Paragraph(note, "note"), Bullets(_duplicates(rows))])


def _quartiles(values: np.ndarray) -> str:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def _duplicates(rows: StudyRows) -> list[str]:
    report = rows.report
    lines = [
        f"{len(report.duplicate_files)} groups of files have the same bytes, {len(report.copied_files)} pairs are one sound at "
        "another level, rate or format; copies stay on one side of the split."
    ]
    across = Counter(leak.kind for leak in report.leaks)
    lines += [
        f"{number} of kind {kind} are on both sides of the split that the data itself names." for kind, number in across.items()
    ]
    lines += [f"{len(report.disputed_files)} groups of equal files have different labels."] if report.disputed_files else []
    return [*lines, *_order(rows)]


def _order(rows: StudyRows) -> list[str]:
    """Whether labels come in runs along the order of the file names, which a split by chance would leak."""
    order = np.argsort(rows.manifest.files, kind="stable")
    ordered = rows.labels[order]
    if len(ordered) < 20:
        return []
    shares = np.bincount(rows.labels) / len(rows.labels)
    expected, same = float((shares**2).sum()), float((ordered[1:] == ordered[:-1]).mean())
    deviation = np.sqrt(expected * (1 - expected) / (len(ordered) - 1))
    if same < expected + 4 * deviation:
        return [
            f"Neighbours in the order of file names share their class as often as by chance ({same:.2f} against {expected:.2f})."
        ]
    return [
        f"Neighbours by file name share their class in {same:.2f} of cases, by chance {expected:.2f}: file names are "
        "sorted by class, or clips of one stretch of time stand together. In the second case give the table a column `group`."
    ]


def _spectra(rows: StudyRows, pictures: Pictures) -> Section:
    names = rows.vocabulary.names
    order = sorted(range(len(names)), key=lambda c: -len(_of_class(rows, pictures, c)))
    means, spectra = {}, {}
    for c in order:
        own = _of_class(rows, pictures, c)
        if len(own):
            means[names[c]] = pictures.images[own].mean(axis=0)
            low, middle, high = np.quantile(pictures.psd[own], (0.25, 0.5, 0.75), axis=0)
            spectra[names[c]] = (middle, low, high)
    difference = None
    if len(means) == 2:
        one, other = list(means)
        if rows.background is not None and one == names[rows.background]:
            one, other = other, one
        difference = (f"{one} minus {other}", means[one] - means[other])
    hertz = np.linspace(0, rows.audio.sample_rate / 2, pictures.psd.shape[1])
    blocks: list[Block] = [
        Figure(partial(figures.mean_pictures, means, rows.seconds, difference), "mean spectrogram of each class"),
        Figure(partial(figures.mean_spectra, hertz, spectra), "spectrum of each class", "Median and quartiles over clips."),
    ]
    return Section("Stage 0: spectra by class", blocks)


def _features(rows: StudyRows, pictures: Pictures) -> Section:
    """The classical features that tell classes apart best, each alone."""
    names, readable = feature_names(rows.audio.sample_rate), pictures.readable
    train = readable & (rows.manifest.splits == "train")
    labels, table = rows.labels[train], []
    for k, name in enumerate(names):
        values = pictures.features[train, k]
        found = []
        for c in rows.wanted:
            truth = labels == c
            if truth.any() and not truth.all():
                auroc = float(Ranking(truth, values).evaluate(np.ones(len(values)))[1])
                found.append((max(auroc, 1 - auroc), c))
        if found:
            best, c = max(found)
            table.append((name.replace("_", " "), rows.vocabulary.names[c], best, float(np.mean([value for value, _ in found]))))
    table.sort(key=lambda row: -row[3])
    header = ("feature", "tells best apart", "AUROC there", "mean over classes")
    note = "Each feature alone, on training clips; the direction that is better counts, so that 0.5 is chance."
    return Section("Stage 0: features", [Table(header, table[:SHOWN_FEATURES], numbers_from=2), Paragraph(note, "note")])


def _components(rows: StudyRows, pictures: Pictures) -> Section:
    usable = np.flatnonzero(pictures.readable)
    chosen = usable[sample_rows(len(usable), MAPPED)]
    flat = pictures.images[chosen].reshape(len(chosen), -1)
    principal = fit_principal(flat)
    reduced = principal.project(flat)
    places = tsne_places(reduced, 2)
    labels = [rows.vocabulary.names[c] for c in rows.labels[chosen].tolist()]
    kept = int(np.searchsorted(np.cumsum(principal.explained), 0.5) + 1)
    half = (
        f"half of the variance lies in {kept} components"
        if principal.explained.sum() >= 0.5
        else (f"{len(principal.explained)} components hold {100 * principal.explained.sum():.0f} % of the variance")
    )
    blocks: list[Block] = [
        Figure(
            partial(figures.scree, principal.explained[:COMPONENTS]),
            "scree of the principal components",
            f"Pictures: {half}.",
            size="half",
        ),
        Figure(
            partial(figures.class_map, places, labels, "t-SNE of the pictures"),
            "map of the clips by class",
            f"{len(chosen)} clips.",
            size="half",
        ),
    ]
    return Section("Stage 0: components", blocks)

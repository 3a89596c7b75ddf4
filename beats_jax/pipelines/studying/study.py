"""A study from recordings to verdict; a killed one resumes at the fit where it was.

OUTPUT/study.json        settings, plan, figures of baselines and arms, comparisons, verdict
OUTPUT/report.html       the page
OUTPUT/gate.json         whether synthetic examples help, by number of real ones; what `train` obeys
OUTPUT/synthetic/        the synthetic pictures that the gate recommends, if any
OUTPUT/errors.csv        recordings that could not be used, with the reason
OUTPUT/pictures.npz, baselines/, arms/, compiled/   what a resumed study does not compute again
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

import beats_jax
from beats_jax.audio.io import AudioError
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.errors import Preempted, UserError
from beats_jax.json_files import read_json
from beats_jax.pipelines.job import open_errors
from beats_jax.pipelines.studying import plan
from beats_jax.pipelines.studying.arms import Arms
from beats_jax.pipelines.studying.baselines import Baselines
from beats_jax.pipelines.studying.classifier import Pool, fit, predict
from beats_jax.pipelines.studying.compiled import keep_compiled
from beats_jax.pipelines.studying.networks import CNN
from beats_jax.pipelines.studying.pictures import Pictures, load_pictures, make_pictures, save_pictures
from beats_jax.pipelines.studying.rows import StudyRows, prepare_rows
from beats_jax.pipelines.studying.settings import LEAST_SEEDS, StudySettings
from beats_jax.pipelines.studying.store import Fit, Outcome, Store
from beats_jax.pipelines.studying.write import write_study
from beats_jax.pipelines.training.workdir import hold_workdir, write_json
from beats_jax.pipelines.training.workdir_lock import others

RECORD, PICTURES, BASELINES, ARMS, CURVES = "study.json", "pictures.npz", "baselines", "arms", "curves"
COMPILED = "compiled"
TIMED_STEPS = 8
SAMPLES = 500  # synthetic pictures of each arm and size that are kept, of which the page shows some and measures all
NOTED_SECONDS = 30.0  # between lines of progress


def study(settings: StudySettings, output: Path, budget: float | None, *, strict: bool, command: str) -> None:
    """Studies the recordings, or goes on with the study in `output`.

    Args:
      budget: seconds that this call may take, as far as it can foresee; None = everything.
    Raises:
      UserError: recordings that cannot be studied, or an `output` of another study.
    """
    begun = time.monotonic()
    with hold_workdir(output):
        _require_own(output)
        errors = open_errors(output, strict=strict)
        print("checking the recordings ...", flush=True)
        rows = prepare_rows(settings, errors)
        identity = {**settings.identity(), "rows": fingerprint(rows)}
        _require_same(output, identity)
        if not (output / RECORD).is_file():
            write_json(output / RECORD, {"identity": identity, "beats_jax": beats_jax.__version__, "complete": False})
        for line in describe_rows(rows):
            print(line, flush=True)
        pictures = _pictures(rows, output / PICTURES, errors)
        notes: list[str] = []
        arms = Arms(settings, rows, pictures, _generator_of(settings, notes), notes.append)
        baselines = Baselines(settings, arms, Store(output / BASELINES), output / CURVES)
        runner = Runner(settings, arms, Store(output / ARMS), notes, begun, budget)
        with keep_compiled(output / COMPILED):
            runner.announce(len([fit for fit in baselines.fits() if not baselines.store.has(fit)]))
            baselines.run(lambda line: print(line, flush=True))
            try:
                runner.run()
            except Preempted as stop:
                raise Preempted(f"{stop}; the same command goes on at it", stop.status) from stop
            write_study(output, identity, baselines, runner, errors, command)


def _generator_of(settings: StudySettings, notes: list[str]) -> Callable[..., Any]:
    def train(kind: str, images: np.ndarray, labels: np.ndarray, classes: int, seed: int) -> Any:
        from beats_jax.pipelines.studying.generators import train_on_pictures

        def note(problem: str) -> None:
            notes.append(f"{kind}, seed {seed}, {len(images)} examples: {problem}")

        return train_on_pictures(kind, images, labels, settings.generator_steps, seed, note)

    return train


def _require_own(output: Path) -> None:
    if not (output / RECORD).is_file() and others(output) not in ([], ["errors.csv"]):
        raise UserError(f"{output} is not empty and holds no study ({RECORD} is missing); choose another --output")


def _require_same(output: Path, identity: dict[str, Any]) -> None:
    if not (output / RECORD).is_file():
        return
    old = read_json(output / RECORD, {"identity": dict}, remedy="choose another --output")["identity"]
    different = [f"{name} was {old.get(name)!r}, now {value!r}" for name, value in identity.items() if old.get(name) != value]
    if different:
        raise UserError(f"{output} holds another study: {'; '.join(different)}. Choose another --output or the old settings")


def fingerprint(rows: StudyRows) -> str:
    """Hash of the rows: contents, labels and splits."""
    digest, manifest = hashlib.sha256(), rows.manifest
    for column in (manifest.metadata["file_hash"], manifest.splits, np.array(rows.vocabulary.names)):
        digest.update("\n".join(map(str, column.tolist())).encode())
    for numbers in (manifest.starts, manifest.ends, rows.labels):
        digest.update(numbers.tobytes())
    return digest.hexdigest()[:16]


def describe_rows(rows: StudyRows) -> list[str]:
    """The data in a few lines."""
    config = rows.audio.filterbank
    background = "no class is background" if rows.background is None else f"background: {rows.vocabulary.names[rows.background]}"
    lines = [
        f"{len(rows.manifest)} clips of {len(rows.vocabulary)} classes, {background}; "
        + ", ".join(f"{name} {number}" for name, number in rows.report.split_rows.items()),
        f"read at {config.sample_rate} Hz, {rows.seconds:.2f} s a clip; pictures of {config.num_mel_bins} bands, frames of "
        f"{config.frame_length_ms:.0f} ms every {config.frame_shift_ms:.0f} ms",
    ]
    return [*lines, *(f"warning: {note}" for note in rows.report.warnings)]


def _pictures(rows: StudyRows, path: Path, errors: ErrorLog) -> Pictures:
    found = load_pictures(path, len(rows.manifest))
    if found is not None:
        return found
    shown = [time.monotonic()]

    def progress(done: int, total: int) -> None:
        if time.monotonic() - shown[0] > NOTED_SECONDS:
            shown[0] = time.monotonic()
            print(f"pictures and features: {done} of {total}", flush=True)

    def note(error: AudioError) -> None:
        errors.add(error.path, error.reason)

    print("making pictures and features ...", flush=True)
    save_pictures(path, make_pictures(rows, note, progress))
    return _pictures(rows, path, errors)  # as a resumed study reads them, in half precision: it has the same figures


@dataclass
class Runner:
    """Announces and runs the blocks of fits within the budget.

    Attributes:
      notes: what went wrong, for the page. begun: when the call began. left_out: blocks that the budget did not allow.
    """

    settings: StudySettings
    arms: Arms
    store: Store
    notes: list[str]
    begun: float
    budget: float | None

    def __post_init__(self) -> None:
        sizes, unused = plan.sizes_of(self.arms.rows, self.settings, self.arms.usable("train"))
        if unused:
            named = ", ".join(map(str, unused))
            self.notes.append(f"sizes {named}: no class of interest has more training clips, so that they are those of all")
        self.blocks = plan.blocks_of(self.settings, sizes)
        self.sizes = sizes
        self.speed = plan.Speed(0.0, 0.0, dict.fromkeys(sizes, 0))
        self.left_out: list[plan.Block] = []

    def announce(self, baselines: int) -> None:
        """Measures a few steps, and prints what the study will cost and what the budget leaves out."""
        print("compiling and timing the classifier ...", flush=True)
        self.speed = self._time()
        one = self.settings.steps * self.speed.step + self.speed.fit
        before = 2.5 * baselines * one  # the transformer takes longer
        left = None if self.budget is None else self.budget - (time.monotonic() - self.begun) - before
        seeds = plan.seeds_within(self.settings, self.sizes, self.speed, left)
        if seeds < self.settings.seeds and not any(self.store.has(fit) for fit in self.blocks[0].fits):
            print(
                f"the budget allows {seeds} of {self.settings.seeds} seeds; with fewer than {LEAST_SEEDS} the gate stays closed"
            )
            self.settings = replace(self.settings, seeds=seeds)
            self.blocks = plan.blocks_of(self.settings, self.sizes)
        done = [one for block in self.blocks for one in block.fits if self.store.has(one)]
        costs = [block.seconds(self.settings, self.speed, done) for block in self.blocks]
        chosen = plan.within(self.blocks, costs, left)
        print(
            f"a fit takes about {plan.duration(one)}; baselines about {plan.duration(before)}; {len(done)} fits are done already"
        )
        for block, cost, fits in zip(self.blocks, costs, chosen, strict=True):
            print(f"  {'planned' if fits else 'left out'}: {plan.describe(block, cost)}")
        total = before + sum(cost for cost, fits in zip(costs, chosen, strict=True) if fits)
        end = f"{datetime.now() + timedelta(seconds=total):%H:%M}"
        print(f"in all about {plan.duration(total)}, ends about {end}; the same command resumes a stopped study", flush=True)
        self.left_out = [block for block, fits in zip(self.blocks, chosen, strict=True) if not fits]

    def run(self) -> None:
        """Fits what is planned and not there yet. A fit that diverges is recorded as failed, and the others go on."""
        self.notes += [
            note for block in self.blocks for one in block.fits if self.store.has(one) for note in self.store.read(one).notes
        ]
        planned = [block for block in self.blocks if block not in self.left_out]
        for number, block in enumerate(planned):
            missing = [one for one in block.fits if not self.store.has(one)]
            cost = block.seconds(self.settings, self.speed, [one for one in block.fits if one not in missing])
            spent = time.monotonic() - self.begun
            if missing and number and self.budget is not None and spent + cost > self.budget:
                self.left_out.append(block)
                print(f"left out, the budget is spent: {plan.describe(block, cost)}", flush=True)
                continue
            if missing:
                print(f"block {number + 1} of {len(planned)}: {plan.describe(block, cost)}", flush=True)
            self._run_block(missing)

    def _run_block(self, fits: list[Fit]) -> None:
        begun = shown = time.monotonic()
        for number, one in enumerate(fits):
            spent = self.budget is not None and time.monotonic() - self.begun > self.budget
            if spent and number and one.seed != fits[number - 1].seed:  # the seeds that are there have all arms
                self.left_out.append(plan.Block(one.size, tuple(fits[number:])))
                print(f"the budget is spent: {len(fits) - number} fits of this block are left out", flush=True)
                return
            self.store.write(one, self.outcome(one))
            now = time.monotonic()
            if now - shown > NOTED_SECONDS:
                shown = now
                end = datetime.now() + timedelta(seconds=(now - begun) / (number + 1) * (len(fits) - number - 1))
                print(f"  {number + 1} of {len(fits)} fits, last {one.name}; the block ends about {end:%H:%M}", flush=True)

    def outcome(self, one: Fit) -> Outcome:
        """Trains and predicts; a failure becomes a sentence. The outcome keeps its notes, which a resumed study shows again."""
        begun, arms, before = time.monotonic(), self.arms, len(self.notes)
        try:
            pool, kept = arms.pool(one)
            weights = fit(pool, arms.recipe(pool.augmented), one.seed)
            if one.ratio and one.seed == 0:
                made = arms.made(one.arm, one.size, 0)
                some = np.random.default_rng(0).permutation(len(made.labels))[:SAMPLES]
                self.store.write_samples(one, made.images[some], made.labels[some])
        except (FloatingPointError, UserError) as error:
            self.notes.append(f"{one.name}: {error}")
            print(f"  {one.name} failed: {error}", flush=True)
            return Outcome(None, None, time.monotonic() - begun, failure=str(error), notes=tuple(self.notes[before:]))
        classes = len(arms.rows.vocabulary)
        val, test = (predict(weights, CNN, classes, arms.pictures.images[arms.usable(split)]) for split in ("val", "test"))
        return Outcome(val, test, time.monotonic() - begun, kept, notes=tuple(self.notes[before:]))

    def _time(self) -> plan.Speed:
        arms, classes = self.arms, len(self.arms.rows.vocabulary)
        rows = arms.usable("train")
        pool = Pool(arms.pictures.images[rows], arms.rows.labels[rows], np.ones(classes, np.float32))
        fit(pool, arms.recipe(), 0, stop=2)  # compiles
        begun = time.monotonic()
        weights = fit(pool, arms.recipe(), 0, stop=TIMED_STEPS)
        step = (time.monotonic() - begun) / TIMED_STEPS
        measured = np.concatenate([arms.usable("val"), arms.usable("test")])
        predict(weights, CNN, classes, arms.pictures.images[measured[:1]])
        begun = time.monotonic()
        predict(weights, CNN, classes, arms.pictures.images[measured])
        return plan.Speed(step, time.monotonic() - begun, {size: arms.drawn(size) for size in self.sizes})

    def record(self) -> dict[str, Any]:
        """For study.json."""
        return {
            "settings": asdict(self.settings),
            "seconds_of_a_step": self.speed.step,
            "left_out": [plan.describe(block, block.seconds(self.settings, self.speed)) for block in self.left_out],
            "notes": self.notes,
        }

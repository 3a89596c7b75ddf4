"""The embedding of a clip is that of the window whose middle is nearest."""

import numpy as np
import pytest

from beats_jax.audio.io import write_wav
from beats_jax.datasets.tables.events import Events
from beats_jax.errors import UserError
from beats_jax.inference.search.embeddings import open_embeddings
from beats_jax.pipelines.embed import EmbedSettings, embed
from beats_jax.pipelines.reviewing.vectors import vectors_of


def test_clips_have_the_vectors_of_their_windows(tmp_path):
    draw = np.random.default_rng(0)
    (tmp_path / "audio").mkdir()
    for name in ("a", "b"):
        write_wav(tmp_path / "audio" / f"{name}.wav", draw.normal(0, 0.1, 48_000).astype(np.float32), 16_000)
    settings = EmbedSettings((str(tmp_path / "audio"),), window_seconds=1.0, hop_seconds=1.0)
    embed(settings, tmp_path / "embedded", strict=True, command="a test")
    table = open_embeddings(tmp_path / "embedded").to_pandas()
    files = [str(tmp_path / "audio" / name) for name in ("b.wav", "a.wav", "a.wav", "gone.wav")]
    events = Events.from_columns(files, [1.2, 0, 1.9, 0], [1.9, 0.4, 2.9, 1], ["owl"] * 4)
    found = vectors_of(events, tmp_path / "embedded")
    for row, start in ((0, 1.0), (1, 0.0), (2, 2.0)):
        same = (table["file"] == files[row]) & (table["start"] == start)
        assert np.array_equal(found[row], table.loc[same, "embedding"].tolist()[0])
    assert np.isnan(found[3]).all()
    with pytest.raises(UserError, match="holds none of these recordings"):
        vectors_of(events.take([3]), tmp_path / "embedded")

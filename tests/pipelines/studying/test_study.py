"""A whole study on generated calls: its files, its resumption, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from beats_jax.audio.synth import write_dataset
from beats_jax.config.schema import SyntheticConfig
from beats_jax.errors import UserError
from beats_jax.pipelines.studying import study
from beats_jax.pipelines.studying.settings import StudySettings
from beats_jax.pipelines.studying.store import Fit, Store


@pytest.mark.slow
def test_a_study_answers_resumes_and_refuses_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_dataset(tmp_path / "data", SyntheticConfig(num_classes=2, clips_per_class=24, seconds=0.5, sample_rate=2000))
    fields: dict[str, Any] = {
        "data": str(tmp_path / "data"),
        "steps": 3,
        "batch_size": 8,
        "resamples": 200,
        "ratios": (1.0,),
        "sizes": (5,),
    }
    fields["baselines"] = ("cnn", "gradient_boosting_level")
    settings = StudySettings(**fields, arms=("real", "oversampled"), seeds=1)
    output = tmp_path / "study"
    study.study(settings, output, None, strict=False, command="study")
    record = json.loads((output / "study.json").read_text())
    assert record["complete"]
    assert {one["arm"] for one in record["arms"]} == {"real", "oversampled"}
    assert record["baselines"]["cnn"]["auroc"] is not None
    page = (output / "report.html").read_text()
    for words in ("Does synthetic data help?", "Stage 0", "Stage 1", "Stage 4", "Seeds: 1, fewer than 5"):
        assert words in page
    assert not any(one["use"] for one in json.loads((output / "gate.json").read_text())["decisions"])

    before = {one["arm"]: one["auroc"] for one in record["arms"] if one["examples"] == 5}
    noted, path = Fit(5, "oversampled", 1.0, 0), Store(output / "arms")
    path.write(noted, replace(path.read(noted), notes=("the images are all alike",)))
    (output / "arms/size-5/real/seed-0.npz").unlink()  # as a kill would leave it
    stamp = (output / "arms/size-5/oversampled-1/seed-0.npz").stat().st_mtime_ns
    more = StudySettings(**fields, arms=("real", "oversampled", "scenes"), seeds=1)
    capsys.readouterr()
    study.study(more, output, None, strict=False, command="study")
    assert "3 fits are done already" in capsys.readouterr().out
    assert (output / "arms/size-5/oversampled-1/seed-0.npz").stat().st_mtime_ns == stamp
    resumed = json.loads((output / "study.json").read_text())
    assert {one["arm"] for one in resumed["arms"]} == {"real", "oversampled", "scenes"}
    assert before.items() <= {one["arm"]: one["auroc"] for one in resumed["arms"] if one["examples"] == 5}.items()
    assert "the images are all alike" in resumed["notes"]

    with pytest.raises(UserError, match="steps was 3, now 4"):
        study.study(StudySettings(**{**fields, "steps": 4}), output, None, strict=False, command="study")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no study"):
        study.study(settings, tmp_path / "other", None, strict=False, command="study")

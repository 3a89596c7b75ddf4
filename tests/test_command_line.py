"""Settings from files and arguments, and mistakes turned into one line and exit status 2."""

import subprocess
import sys
from pathlib import Path

import pytest

from beats_jax import __main__ as verbs
from beats_jax import evaluate, train
from beats_jax.command_line import read_experiment, run_verb
from beats_jax.config import ASTConfig, AugmentConfig, ContrastiveConfig, EATObjectiveConfig, SupervisedConfig
from beats_jax.errors import Preempted, UserError

CONFIG = """
from ml_collections import ConfigDict

def get_config(kind="plain"):
    return ConfigDict({"name": kind, "data": {"root": "here"}, "training": {"max_epochs": 3}})
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(CONFIG)
    return str(path)


def test_overrides_reach_settings_the_file_does_not_name(config):
    experiment = read_experiment(config, ["--config.training.max_steps=7", "--config.data.classes=('a','b')"])
    assert (experiment.training.max_steps, experiment.data.classes, experiment.data.root) == (7, ("a", "b"), "here")
    assert experiment.training.max_epochs == 3.0


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("('a','b')", ("a", "b")),
        ("['a']", ("a",)),
        ("owl", ("owl",)),
        ("'a b'", ("a b",)),
        ("(x|y)/.*", ("(x|y)/.*",)),
        ("()", ()),
    ],
)
def test_a_list_is_python_or_one_text(config, text, classes):
    assert read_experiment(config, [f"--config.data.classes={text}"]).data.classes == classes


def test_argument_after_the_colon_reaches_get_config(config):
    assert read_experiment(config + ":two", []).name == "two"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.data.rot=x", "unknown setting config.data.rot; did you mean 'root'?"),
        ("--config.trainin.max_steps=1", "did you mean 'training'?"),
        ("--config.training.max_steps=many", "config.training.max_steps"),
        ("--config.data=x", "config.data is a group of settings; name one of"),
        ("--config.data.multi_label=maybe", "config.data.multi_label is 'maybe'; it must be of type bool"),
        ("--config.data.classes=owl, frog", "it must be of type list of texts"),
        ("--config.name.x=1", "is a value, not a group"),
        ("--config.data.root", "needs a value"),
        ("--wrokdir=x", "unknown argument"),
        ("extra", "unknown argument"),
        ("--config.data.crop=middle", "allowed: random, start"),
        ("--config.data.train_split=0.9", "add up to 1"),
    ],
)
def test_a_wrong_setting_is_named(config, override, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        read_experiment(config, [override])


def test_missing_config_file_and_missing_function(tmp_path):
    with pytest.raises(UserError, match="does not exist; known: ast_esc50, beats_esc50"):
        read_experiment(str(tmp_path / "none.py"), [])
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(UserError, match="no function get_config"):
        read_experiment(str(tmp_path / "empty.py"), [])
    (tmp_path / "broken.py").write_text("def get_config(:\n")
    with pytest.raises(UserError, match="not valid Python"):
        read_experiment(str(tmp_path / "broken.py"), [])


def test_another_family_begins_with_its_own_defaults():
    quickstart = str(Path(__file__).parent.parent / "configs" / "quickstart.py")
    changed = read_experiment(quickstart, ["--config.model.family=ast", "--config.model.hidden_size=24"])
    assert changed.model == ASTConfig(hidden_size=24)
    assert changed.data == read_experiment(quickstart, []).data
    assert read_experiment(quickstart, ["--config.model.family=beats"]) == read_experiment(quickstart, [])
    with pytest.raises(UserError, match=r"unknown setting config\.model\.conv_pos"):
        read_experiment(quickstart, ["--config.model.family=ast", "--config.model.conv_pos=8"])
    with pytest.raises(UserError, match="did you mean 'ast'"):
        read_experiment(quickstart, ["--config.model.family=asts"])


def test_another_objective_begins_with_its_own_defaults_and_keeps_the_augmentation(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(CONFIG.replace('"data":', '"objective": {"name": "hooting", "augment": {"roll": True}}, "data":'))
    with pytest.raises(UserError, match=r"config\.objective\.name is 'hooting'; known: .*supervised"):
        read_experiment(str(path), [])
    path.write_text(path.read_text().replace('"hooting"', '"supervised", "label_smoothing": 0.3'))
    same = read_experiment(str(path), ["--config.objective.name=supervised"])
    assert same.objective == SupervisedConfig(augment=AugmentConfig(roll=True), label_smoothing=0.3)


def test_another_base_of_a_joint_objective_begins_with_its_own_defaults():
    quickstart = str(Path(__file__).parent.parent / "configs" / "quickstart.py")
    joint = "--config.objective.name=joint"
    changed = read_experiment(quickstart, [joint, "--config.objective.base.name=eat", "--config.objective.base.clones=4"])
    assert changed.objective.base == EATObjectiveConfig(clones=4)
    same = read_experiment(quickstart, [joint, "--config.objective.base.name=contrastive"])
    assert same.objective.base == ContrastiveConfig()
    for name, message in {"tokenizer": "labels can be joined with", "eatt": "did you mean 'eat'"}.items():
        with pytest.raises(UserError, match=rf"objective\.base\.name is '{name}'; {message}"):
            read_experiment(quickstart, [joint, f"--config.objective.base.name={name}"])
    with pytest.raises(UserError, match=r"unknown setting config\.objective\.base"):
        read_experiment(quickstart, ["--config.objective.base.name=eat"])


def test_exit_statuses(capsys):
    def user_mistake(argv):
        raise UserError("the file\nis gone")

    def our_mistake(argv):
        raise RuntimeError("bug")

    assert run_verb(lambda argv: 0, []) == 0
    assert run_verb(user_mistake, []) == 2
    assert capsys.readouterr().err == "error: the file is gone\n"
    assert run_verb(our_mistake, []) == 1
    assert "Traceback" in capsys.readouterr().err

    def stopped(argv):
        raise Preempted("stopped by SIGTERM; the same command goes on", 143)

    assert run_verb(stopped, []) == 143
    assert capsys.readouterr().err == "stopped by SIGTERM; the same command goes on\n"


def test_the_list_of_verbs_and_their_help(capsys):
    assert verbs.main([]) == 0
    listed = capsys.readouterr().out
    for name in verbs.VERBS:
        assert name in listed
        with pytest.raises(SystemExit) as stop:
            verbs.main([name, "--help"])
        assert stop.value.code == 0
        assert "examples:" in capsys.readouterr().out
    assert verbs.main(["trian"]) == 2


def test_import_is_light():
    """Checked by names, not by time: what is absent from sys.modules cannot cost anything."""
    code = (
        "import sys, beats_jax, beats_jax.command_line, beats_jax.train\n"
        "heavy = {'librosa', 'sklearn', 'pandas', 'grain', 'orbax', 'matplotlib', 'scipy', 'torch', 'tensorflow', 'jax'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


@pytest.mark.parametrize("address", ["gs://bucket/runs", "s3://bucket/runs"])
def test_an_address_is_no_folder(address):
    with pytest.raises(UserError, match=rf"--workdir is the address '{address}'; it takes a folder: mount the bucket"):
        train.parser().parse_known_args(["--config", "quickstart", "--workdir", address])
    with pytest.raises(UserError, match="--compare is the address 's3://a'"):
        evaluate.parser().parse_args(["--compare", "runs/a", "s3://a", "--output", "out"])

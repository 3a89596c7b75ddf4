"""Launch files: what they would run, and `local.sh` with real processes."""

import os
import signal
import subprocess
import sys
import time
from math import prod
from pathlib import Path

import pytest
import yaml

from beats_jax.parallel.launchers import Place, place_in

LAUNCH = Path(__file__).parents[2] / "launch"
SCRIPTS = [*sorted(LAUNCH.glob("*.sh")), LAUNCH / "slurm.sbatch"]


def run(script, *arguments, **variables):
    """The ended process of `bash SCRIPT ARGUMENTS`."""
    command = ["bash", str(LAUNCH / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **variables})


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_pass_shellcheck_and_explain_themselves(script):
    found = subprocess.run([Path(sys.executable).with_name("shellcheck"), script], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stdout
    ended = run(script.name)
    assert ended.returncode == 2
    assert f"launch/{script.name}" in ended.stderr


def test_local_gives_each_process_its_place_and_shows_process_0(tmp_path):
    code = "import os, sys; print('out', sys.argv[1:]); print('error', file=sys.stderr); sys.exit(3 * (sys.argv[-1] == '1'))"
    ended = run("local.sh", "3", "--", sys.executable, "-c", code, LOGS=str(tmp_path / "logs"))
    assert ended.returncode == 3
    (line,) = ended.stdout.splitlines()
    assert line.startswith("out ['--coordinator', '127.0.0.1:")
    assert line.endswith("'--num-processes', '3', '--process-id', '0']")
    for index in (1, 2):
        assert f"'--process-id', '{index}'" in (tmp_path / "logs" / f"process-{index}.log").read_text()
    without_logs = run("local.sh", "2", "--", sys.executable, "-c", code)
    assert without_logs.stdout.count("out") == 1
    assert "[1] error" in without_logs.stderr


def test_local_shares_out_gpus_and_simulates_devices():
    shared = run("local.sh", "2", "--", "train", DRY_RUN="1", CUDA_VISIBLE_DEVICES="0,1,2,3").stdout.splitlines()
    assert ["CUDA_VISIBLE_DEVICES=0\\,1" in shared[0], "CUDA_VISIBLE_DEVICES=2\\,3" in shared[1]] == [True, True]
    uneven = run("local.sh", "3", "--", "train", DRY_RUN="1", CUDA_VISIBLE_DEVICES="0,1,2,3")
    assert uneven.returncode == 2
    assert "4 GPUs cannot be shared out to 3 processes" in uneven.stderr
    simulated = run("local.sh", "2", "--", "train", DRY_RUN="1", DEVICES="4", CUDA_VISIBLE_DEVICES="").stdout
    assert simulated.count("--xla_force_host_platform_device_count=4") == 2


@pytest.mark.parametrize(
    ("status", "restarts", "requeued"), [(143, "9", True), (137, "2", True), (137, "3", False), (2, "0", False), (1, "0", False)]
)
def test_slurm_requeues_what_was_stopped_and_a_few_times_what_was_killed(tmp_path, status, restarts, requeued):
    for name, script in (("srun", f"exit {status}"), ("scontrol", 'echo "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": restarts}
    ended = run("slurm.sbatch", "--config", "quickstart", **variables)
    assert (ended.returncode, ended.stdout) == (status, "requeue 7\n" if requeued else "")


def test_local_passes_a_signal_on_to_all_processes(tmp_path):
    code = (
        "import pathlib, signal, sys, time\n"
        f"at = pathlib.Path({str(tmp_path)!r}) / sys.argv[-1]\n"
        "def stop(*_):\n    at.with_suffix('.stopped').touch()\n    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\nat.touch()\ntime.sleep(60)\n"
    )
    command = ["bash", str(LAUNCH / "local.sh"), "2", "--", sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while not all((tmp_path / name).exists() for name in "01"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 143
    assert sorted(found.name for found in tmp_path.glob("*.stopped")) == ["0.stopped", "1.stopped"]


def test_dry_runs_print_commands_with_every_argument():
    slurm = run("slurm.sbatch", "--config", "quickstart", "--workdir", "a b", DRY_RUN="1", PYTHON="python3", VERB="train")
    assert (
        slurm.stdout.split() == "srun --kill-on-bad-exit=0 python3 -m beats_jax.train --config quickstart --workdir a\\ b".split()
    )
    for verb, words in {
        "create": ("queued-resources create", "--spot", "--zone=us-east5-a"),
        "install": ("--worker=all", "jax\\[tpu\\]", "gcsfuse"),
        "run": ("--worker=all", "beats_jax.train", "quickstart"),
        "stop": ("pkill\\ -TERM",),
        "delete": ("queued-resources delete",),
    }.items():
        arguments = ("--config", "quickstart") if verb == "run" else ()
        ended = run("tpu_vm.sh", verb, *arguments, DRY_RUN="1", SPOT="1", ZONE="us-east5-a", BUCKET="gs://birds")
        assert ended.returncode == 0, ended.stderr
        assert all(word in ended.stdout for word in words), ended.stdout


def test_the_jobset_has_a_pod_for_each_host_of_its_slice_and_each_gpu_pod_its_place():
    text = (LAUNCH / "gke_jobset.yaml").read_text(encoding="utf-8")
    found = yaml.safe_load(text)
    assert (found["apiVersion"], found["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (workers,) = found["spec"]["replicatedJobs"]
    job = workers["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    chips = prod(int(side) for side in pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
    assert job["parallelism"] == job["completions"] == chips // container["resources"]["limits"]["google.com/tpu"]
    assert {mount["name"] for mount in container["volumeMounts"]} <= {volume["name"] for volume in pod["volumes"]}
    (line,) = [
        line for line in (LAUNCH / "gke_jobset.yaml").read_text(encoding="utf-8").splitlines() if line.startswith("#   env:")
    ]
    variables = {one["name"]: one["value"] for one in yaml.safe_load(line[1:])["env"]}
    names = found["metadata"]["name"], workers["name"], found["spec"]["network"]["subdomain"]
    pod_0 = "{}-{}-0-0.{}:8476".format(*names)  # as JobSet names its pods
    assert place_in({**variables, "JOB_COMPLETION_INDEX": "3"}) == Place(pod_0, job["completions"], 3)
    assert 8476 in [port["containerPort"] for port in container["ports"]]

"""How a process learns its place in a job, and what is refused."""

import re
import socket
from types import SimpleNamespace

import pytest
from several_processes import end_job, free_port, start_process

from beats_jax import discover
from beats_jax.errors import UserError
from beats_jax.parallel import processes
from beats_jax.parallel.launchers import Place, place_in, place_of, require_alone
from beats_jax.parallel.processes import start


def test_a_place_needs_all_three_arguments():
    assert place_of(None, None, None) is None
    assert place_of("10.0.0.1:9876", 4, 3) == Place("10.0.0.1:9876", 4, 3)
    with pytest.raises(UserError, match=r"--num-processes, --process-id missing"):
        place_of("10.0.0.1:9876", None, None)
    with pytest.raises(UserError, match=r"--coordinator missing"):
        place_of(None, 2, 0)


@pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.1:", ":9876", "host:port", "host:0", "host:70000"])
def test_addresses_without_host_or_port_are_refused(address):
    with pytest.raises(UserError, match=f"--coordinator is '{re.escape(address)}'"):
        place_of(address, 2, 0)


@pytest.mark.parametrize(("count", "index"), [(2, 2), (2, -1), (0, 0)])
def test_impossible_numbers_are_refused(count, index):
    with pytest.raises(UserError, match=f"--process-id is {index} of --num-processes {count}"):
        place_of("host:9876", count, index)


POD = {"JAX_COORDINATOR_ADDRESS": "beats-workers-0-0.beats:8476", "JAX_NUM_PROCESSES": "4", "JOB_COMPLETION_INDEX": "3"}


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({}, Place("beats-workers-0-0.beats:8476", 4, 3)),
        ({"JAX_PROCESS_ID": "1"}, Place("beats-workers-0-0.beats:8476", 4, 1)),
        ({"JAX_NUM_PROCESSES": ""}, None),  # the address alone is one of JAX's settings for launchers
    ],
)
def test_a_place_may_be_named_by_variables(changes, place):
    assert place_in({**POD, **changes}) == place


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"JAX_COORDINATOR_ADDRESS": ""}, "JAX_COORDINATOR_ADDRESS missing: a job of several"),
        ({"JOB_COMPLETION_INDEX": ""}, "JAX_PROCESS_ID missing"),
        ({"JAX_NUM_PROCESSES": "four"}, "JAX_NUM_PROCESSES is 'four'; it takes a number"),
        ({"JAX_NUM_PROCESSES": "3"}, "JOB_COMPLETION_INDEX is 3 of JAX_NUM_PROCESSES 3"),
    ],
)
def test_impossible_variables_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        place_in({**POD, **changes})


def test_a_pod_that_runs_alone_says_so(monkeypatch, capsys):
    calls = joined(monkeypatch)
    start(None, {"JOB_COMPLETION_INDEX": "3"})
    assert calls == []
    assert "pod 3 runs alone: JAX_COORDINATOR_ADDRESS and JAX_NUM_PROCESSES would join" in capsys.readouterr().err


def test_verbs_of_one_process_are_refused_in_several(monkeypatch):
    for environment in ({}, {"SLURM_NTASKS": "4"}, {"SLURM_STEP_NUM_TASKS": "1"}):
        require_alone("discover", environment)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(UserError, match=r"discover runs as one process, and SLURM has started 4; start it once"):
        discover.parser().parse_args(["--input", "a", "--output", "b"])


def joined(monkeypatch):
    calls = []
    monkeypatch.setattr(processes.jax.distributed, "initialize", lambda **arguments: calls.append(arguments))
    return calls


@pytest.mark.parametrize(
    ("environment", "times"),
    [
        ({}, 0),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, 0),  # in a batch script, outside of srun: one process
        ({"SLURM_STEP_NUM_TASKS": "1"}, 0),
        ({"SLURM_STEP_NUM_TASKS": "4"}, 1),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, 1),
    ],
)
def test_launchers_are_recognised_by_the_number_of_their_processes(monkeypatch, environment, times):
    calls = joined(monkeypatch)
    start(None, environment)
    assert len(calls) == times


def test_what_srun_sets_is_enough():
    script = (
        "from beats_jax.parallel import exchange, processes as p; p.start(None); print(exchange.gather_values(p.process_index()))"
    )
    shared = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2"}
    shared["JAX_COORDINATOR_PORT"] = str(free_port())
    own = [{"SLURM_PROCID": str(index), "SLURM_LOCALID": str(index)} for index in range(2)]
    for ended in end_job([start_process(["-c", script], 1, {**shared, **place}) for place in own]):
        assert ended.status == 0, ended.errors
        assert "[0, 1]" in ended.output


def test_one_process_joins_nobody(monkeypatch):
    calls = joined(monkeypatch)
    start(Place("host:9876", 1, 0), {})
    assert calls == []
    assert (processes.process_count(), processes.process_index(), processes.is_main()) == (1, 0, True)


def test_processes_with_unequal_devices_are_refused():
    devices = [SimpleNamespace(process_index=index) for index in (0, 1, 1, 1)]
    with pytest.raises(UserError, match=r"same number of devices; there are: process 0 1, process 1 3"):
        processes.require_equal_devices(devices)


def test_arguments_go_before_a_launcher(monkeypatch):
    calls = joined(monkeypatch)
    start(Place("localhost:59321", 2, 0), {"SLURM_STEP_NUM_TASKS": "4"})
    (found,) = calls
    assert (found["coordinator_address"], found["num_processes"], found["process_id"]) == ("localhost:59321", 2, 0)
    assert found["cluster_detection_method"] == "deactivate"


def test_a_launcher_that_jax_cannot_read_is_named(monkeypatch):
    for name in ("SLURM_JOB_ID", "OMPI_MCA_orte_hnp_uri"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"2 processes of Open MPI do not find each other .*; give --coordinator HOST:PORT"):
        start(None, {"OMPI_COMM_WORLD_SIZE": "2"})


def test_an_address_in_use_is_refused():
    with socket.socket() as listener:
        listener.bind(("", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(UserError, match=rf"coordinator localhost:{port} cannot be used \(Address already in use\)"):
            start(Place(f"localhost:{port}", 2, 0), {})


def test_a_process_that_is_missing_is_told_in_one_line():
    script = (
        "from beats_jax.parallel import processes as p; p.SECONDS_TO_JOIN = 2; "
        f"p.start(p.Place('127.0.0.1:{free_port()}', 2, 0), {{}})"
    )
    (ended,) = end_job([start_process(["-c", script], 1)])
    assert ended.status == 2
    (line,) = ended.errors.splitlines()
    assert "do not find each other within 2 s; is one missing, or has one another number of processes" in line


def test_a_process_0_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(processes, "SECONDS_TO_JOIN", 0.5)
    with socket.socket() as bound:  # but nobody listens
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(UserError, match=rf"coordinator 127.0.0.1:{port} does not answer within 0.5 s"):
            start(Place(f"127.0.0.1:{port}", 2, 1), {})
    with pytest.raises(UserError, match=r"coordinator no-such-host.invalid:9876 does not answer within 0.5 s"):
        start(Place("no-such-host.invalid:9876", 2, 1), {})

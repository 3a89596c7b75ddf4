"""How a process learns its place in a job, and what is refused."""

import re
import socket

import pytest
from several_processes import end_job, free_port, start_process

from beats_jax.errors import UserError
from beats_jax.parallel import processes
from beats_jax.parallel.processes import Place, place_of, start


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


def test_an_address_in_use_or_unknown_is_refused():
    with socket.socket() as listener:
        listener.bind(("", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(UserError, match=rf"--coordinator localhost:{port} cannot be used \(Address already in use\)"):
            start(Place(f"localhost:{port}", 2, 0), {})
    with pytest.raises(UserError, match=r"--coordinator no-such-host.invalid:9876 cannot be used"):
        start(Place("no-such-host.invalid:9876", 2, 1), {})


def test_a_process_0_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(processes, "SECONDS_TO_JOIN", 0.5)
    with socket.socket() as bound:  # but nobody listens
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(UserError, match=rf"process 0 does not answer at --coordinator 127.0.0.1:{port} within 0.5 s"):
            start(Place(f"127.0.0.1:{port}", 2, 1), {})

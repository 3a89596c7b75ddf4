"""One process of a job that gives the verb `train` several times: COMMANDS is a JSON file of lists of arguments."""

import argparse
import json
import sys
from pathlib import Path

from beats_jax import train
from beats_jax.parallel import processes
from beats_jax.parallel.launchers import place_of


def main() -> int:
    """Joins the job once: imports take longer than these trainings."""
    parser = argparse.ArgumentParser()
    parser.add_argument("commands", type=Path)
    parser.add_argument("--coordinator")
    parser.add_argument("--num-processes", type=int)
    parser.add_argument("--process-id", type=int)
    arguments = parser.parse_args()
    processes.start(place_of(arguments.coordinator, arguments.num_processes, arguments.process_id))
    return max(train.main(command) for command in json.loads(arguments.commands.read_text()))


if __name__ == "__main__":
    sys.exit(main())

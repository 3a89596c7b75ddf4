#!/usr/bin/env bash
# N processes of one job on this machine: to try a job of several hosts, or one process for each GPU.
#
#   launch/local.sh N -- COMMAND ...
#   launch/local.sh 2 -- python -m beats_jax.train --config quickstart --workdir runs/two
#   python -m beats_jax.train --config quickstart --plan cpu-2      what that takes: memory, operations, exchange
#   DEVICES=4 launch/local.sh 2 -- ...      two processes with four simulated CPU devices each
#
# COMMAND     gets --coordinator, --num-processes and --process-id at its end, as train, evaluate --run and embed take them
# DEVICES     simulated CPU devices of each process; absent = real devices
# LOGS        folder for the output of the processes 1 to N-1 (process-I.log); without it their errors appear with [I] before each line
# DRY_RUN=1   prints the commands and starts nothing
#
# GPUs are shared out: of G that CUDA_VISIBLE_DEVICES or nvidia-smi show, each process sees G/N. Prints what process 0 prints.
# SIGTERM and Ctrl-C go to all. Exit status: the first that is not 0 in the order of the processes, 0 when all end well.
set -euo pipefail

usage() { sed -n '2,16s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[[ ${1:-} =~ ^[1-9][0-9]*$ && ${2:-} == -- && $# -gt 2 ]] || usage
count=$1
shift 2

free_port() { # of this machine: nobody listens on it now
  local port
  for _ in $(seq 100); do
    port=$((20000 + RANDOM % 20000))
    if ! (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then
      echo "$port"
      return
    fi
  done
  echo "no free port was found" >&2
  return 1
}

gpus_of() { # process: its part of the GPUs, as CUDA_VISIBLE_DEVICES; nothing where there are none
  local all each
  IFS=, read -r -a all <<< "${CUDA_VISIBLE_DEVICES-$(nvidia-smi --query-gpu=index --format=csv,noheader 2> /dev/null | paste -sd, -)}"
  [ ${#all[@]} -gt 0 ] && [ -n "${all[0]}" ] || return 0
  if [ $((${#all[@]} % count)) -ne 0 ]; then
    echo "${#all[@]} GPUs cannot be shared out to $count processes; choose another number, or set CUDA_VISIBLE_DEVICES" >&2
    return 2
  fi
  each=$((${#all[@]} / count))
  (IFS=,; echo "${all[*]:$(($1 * each)):each}")
}

address=127.0.0.1:$(free_port)
variables=()
if [ -n "${DEVICES:-}" ]; then
  variables=(JAX_PLATFORMS=cpu "XLA_FLAGS=${XLA_FLAGS:-} --xla_force_host_platform_device_count=$DEVICES")
fi

processes=()
trap 'kill -TERM "${processes[@]}" 2> /dev/null || true' TERM INT

for ((index = 0; index < count; index++)); do
  gpus=$(gpus_of "$index")
  own=(env "${variables[@]}")
  [ -z "$gpus" ] || own+=("CUDA_VISIBLE_DEVICES=$gpus")
  command=("${own[@]}" "$@" --coordinator "$address" --num-processes "$count" --process-id "$index")
  if [ -n "${DRY_RUN:-}" ]; then
    printf '%q ' "${command[@]}"
    echo
  elif [ "$index" -eq 0 ]; then
    "${command[@]}" &
    processes+=($!)
  elif [ -n "${LOGS:-}" ]; then
    mkdir -p "$LOGS"
    "${command[@]}" > "$LOGS/process-$index.log" 2>&1 &
    processes+=($!)
  else
    "${command[@]}" 2> >(sed "s/^/[$index] /" >&2) > /dev/null &
    processes+=($!)
  fi
done

worst=0
for process in "${processes[@]}"; do
  status=0
  wait "$process" || status=$?
  while kill -0 "$process" 2> /dev/null; do # a signal ended the waiting, not the process
    status=0
    wait "$process" || status=$?
  done
  [ "$worst" -ne 0 ] || worst=$status
done
exit "$worst"

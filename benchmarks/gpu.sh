#!/usr/bin/env bash
# Everything that is to be measured on one GPU, in less than 15 minutes: speed, share of the peak, memory, profile, beside PyTorch.
#
#   OUT=results benchmarks/gpu.sh
#   REHEARSAL=1 OUT=/tmp/rehearsal benchmarks/gpu.sh        tiny models on the CPU: does every part run?
#
# OUT         folder for results.jsonl (a line a part: what it found, or why it failed), log.txt (all that was printed), trace.tar.gz
# MACHINE     the machine for `train --plan` and the share of the peak (default 1xH200)
# PYTHON      (default python3). TORCH_PYTHON   one with torch and openbeats, GPU builds (default: PYTHON, if it has them)
# INSTALL=1   first installs jax[cuda13] and this package into a new environment (CUDA=12 for older drivers); else PYTHON as it is
# ONLY        names of parts, with spaces between. FACTOR   multiplies the time that every part may take (busy machines)
#
# A part that fails or is late is recorded, and the rest goes on. The first parts matter most.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
out=${OUT:?give a folder}
mkdir -p "$out"
out=$(cd "$out" && pwd)
python=${PYTHON:-python3}
machine=${MACHINE:-1xH200}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
: > "$out/results.jsonl"
: > "$out/log.txt"

note() { # NAME STATUS SECONDS FILE: the last line of FILE, if it is JSON, else its end as text
  "$python" -S - "$@" >> "$out/results.jsonl" << 'END'
import json, sys
name, status, seconds, path = sys.argv[1:]
lines = open(path, errors="replace").read().strip().splitlines() or [""]
try:
    found = json.loads(lines[-1])
except ValueError:
    found = lines[-40:]
print(json.dumps({"part": name, "status": int(status), "seconds": int(seconds), "found": found}))
END
}

part() { # NAME SECONDS COMMAND ...
  local name=$1 most=$2 begun=$SECONDS status=0
  shift 2
  [[ -z ${ONLY:-} || " $ONLY " == *" $name "* ]] || return 0
  printf '\n== %s: %s\n' "$name" "$*" >> "$out/log.txt"
  timeout --kill-after=5 "$((most * ${FACTOR:-1}))" "$@" > "$out/.part" 2> "$out/.errors" || status=$?
  cat "$out/.errors" "$out/.part" >> "$out/log.txt"
  ((status)) && cp "$out/.errors" "$out/.part"
  note "$name" "$status" "$((SECONDS - begun))" "$out/.part"
  rm -f "$out/.part" "$out/.errors"
  echo "$name: status $status, $((SECONDS - begun)) s"
}

if [[ -n ${INSTALL:-} ]]; then
  "$python" -m venv /tmp/beats_jax_gpu
  part install 240 /tmp/beats_jax_gpu/bin/pip install "jax[cuda${CUDA:-13}]" .
  python=/tmp/beats_jax_gpu/bin/python
fi
torch=${TORCH_PYTHON:-$python}

base=finetune stage=pretrain_beats:iter1 clips=64 long=8 rounds=8 seconds=10
random=--config.model.checkpoint=none
if [[ -n ${REHEARSAL:-} ]]; then
  export JAX_PLATFORMS=cpu
  machine=cpu-1 base=small stage=pretrain_beats:iter1_small clips=2 long=1 rounds=2 seconds=1
fi
window=--config.data.window_seconds
batch=--config.data.batch_size
precision=--config.training.precision

step() { # CONFIG SETTINGS ...
  local config=$1
  shift
  "$python" benchmarks/step.py "$config" --machine "$machine" --rounds "$rounds" "$random" "$@"
}
export -f step
export python machine rounds random

part gpu 20 nvidia-smi
part machine 60 "$python" -c "import jax; print(jax.__version__, jax.devices())"
part supervised_bfloat16 90 bash -c 'step "$@"' step "$base" "$window=10" "$batch=$clips" "$precision=bfloat16"
part pretraining_bfloat16 90 bash -c 'step "$@"' step "$stage" "$window=10" "$batch=$clips" "$precision=bfloat16"
part forward 120 "$python" benchmarks/forward.py ours --clips "$clips" --rounds "$rounds" ${REHEARSAL:+--tiny}
part torch 120 "$torch" benchmarks/forward.py torch --clips "$clips" --rounds "$rounds" ${REHEARSAL:+--tiny}
part supervised_float32 90 bash -c 'step "$@"' step "$base" "$window=10" "$batch=$clips" "$precision=float32"
part pretraining_float32 90 bash -c 'step "$@"' step "$stage" "$window=10" "$batch=$clips" "$precision=float32"
part minute_bfloat16 90 bash -c 'step "$@"' step "$base" "$window=60" "$batch=$long" "$precision=bfloat16"
part plan 60 "$python" -m beats_jax.train --config "$base" "$random" "$window=10" "$batch=$clips" "$precision=bfloat16" --plan "$machine"
part trace 90 bash -c 'step "$@"' step "$base" --trace "$out/trace" "$window=10" "$batch=$clips" "$precision=bfloat16"
part episodes 60 "$python" benchmarks/few_shot_training.py --rounds 1 --seconds "$seconds"

if [[ -d $out/trace ]]; then
  tar -C "$out" -czf "$out/trace.tar.gz" trace && rm -rf "$out/trace"
fi
echo "results: $out/results.jsonl"

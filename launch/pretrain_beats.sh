#!/usr/bin/env bash
# BEATs from nothing: encoder, tokenizer, encoder; with labelled recordings also fine-tuning, tokenizer, encoder.
#
#   launch/pretrain_beats.sh RECORDINGS RUNS [SETTING ...]
#   SIZE=small LABELLED=owls launch/pretrain_beats.sh recordings runs --config.training.precision=float32
#   python -m beats_jax.train --config pretrain_beats:iter1 --plan 8xH100      what a stage takes: memory, time, exchange
#
# RECORDINGS  folder with audio at any depth; labels are not read
# RUNS        every stage is a run in a folder of this one; a stage that is finished is passed over, one that was stopped goes
#             on where it stopped: give the same command again, as often as needed
# SETTING     goes to every pre-training stage (not to fine-tuning), such as --config.data.batch_size=64
# SIZE        "small" for one CPU, else the paper's
# LABELLED    folder with one folder per class: fine-tunes iter2 on it, whose logits then teach the third iteration
# FINETUNING  settings of the fine-tuning, such as "--config.training.learning_rate=1e-3 --config.training.max_steps=1000"
# PYTHON      the interpreter (python)
#
# On several machines that share RECORDINGS and RUNS: srun --ntasks=4 launch/pretrain_beats.sh ..., or mpirun. Without a launcher
# start it on each of them, with
# JOB         "--coordinator HOST:PORT --num-processes N --process-id I", see python -m beats_jax.train --help
set -euo pipefail

if [ $# -lt 2 ]; then
  sed -n '2,21s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
recordings=$1 runs=$2
shift 2
suffix=${SIZE:+_$SIZE}
configs=$(cd "$(dirname "$0")/../configs" && pwd)

train() { # folder, config, settings
  local folder=$runs/$1 config=$2
  shift 2
  echo "== $folder"
  # shellcheck disable=SC2086  # several words
  "${PYTHON:-python}" -m beats_jax.train --config "$configs/$config" --workdir "$folder" ${JOB:-} "$@"
}

stage() { # stage, settings
  local name=$1
  shift
  train "$name$suffix" "pretrain_beats.py:$name$suffix" --config.data.root="$recordings" "$@"
}

stage iter1 "$@"
stage tokenizer --config.objective.teacher="$runs/iter1$suffix" "$@"
stage iter2 --config.objective.tokenizer="$runs/tokenizer$suffix" "$@"
if [ -n "${LABELLED:-}" ]; then
  # shellcheck disable=SC2086  # several words
  train "finetuned$suffix" finetune.py --config.data.root="$LABELLED" --config.model.checkpoint="$runs/iter2$suffix" ${FINETUNING:-}
  stage tokenizer_finetuned --config.objective.teacher="$runs/finetuned$suffix" "$@"
  stage iter3 --config.objective.tokenizer="$runs/tokenizer_finetuned$suffix" "$@"
fi

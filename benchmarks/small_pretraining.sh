#!/usr/bin/env bash
# The study of pre-training on two cores (docs/results.md): prepares, pre-trains, probes, fine-tunes. About 2.5 hours of two cores.
#
#   benchmarks/small_pretraining.sh ../shared/data STUDY
#
# Every run is a folder of STUDY/runs; one that is finished is passed over, one that was stopped goes on: give the same command
# again. STUDY/probes holds the probes' reports; accuracies are printed.
# PYTHON   the interpreter (python)
set -euo pipefail
shared=$(realpath "$1") study=$(realpath -m "$2")
cd "$(dirname "$0")/.."
python=${PYTHON:-python}

[ -s "$study/probe.csv" ] || "$python" benchmarks/small_pretraining.py "$shared" "$study"

train() { # run, config, settings
  local run=$study/runs/$1 config=$2
  shift 2
  echo "== $run"
  "$python" -m beats_jax.train --config "configs/$config" --workdir "$run" "$@" > "$run.log" 2>&1
}

probe() { # run, settings
  local run=$1 output=$study/probes/$1
  shift
  [ -s "$output/metrics.json" ] || "$python" -m beats_jax.evaluate --probe "$study/runs/$run" --output "$output" \
    --layers=-1 --poolings mean --probe-kinds logistic "$@" > "$output.log" 2>&1
  printf '%s\n' "$run" && grep -E '"(fbank_|random_)?accuracy(_low|_high)?"' "$output/metrics.json"
}

few() { # table, name, settings
  local run=few/$1/$2 table=$study/few/$1.csv
  shift 2
  mkdir -p "$(dirname "$study/runs/$run")"
  train "$run" esc50.py --config.data.source=csv --config.data.fold= --config.data.metadata_file="$table" \
    --config.data.split_column=split --config.training.max_epochs=0 --config.training.max_steps=200 \
    --config.training.evaluate_every_epochs=1000 "$@"
  grep -E '"accuracy(_low|_high)?"' "$study/runs/$run/metrics.json"
}

mkdir -p "$study/runs" "$study/probes"
sound=$study/sound
train iter1 pretrain_beats.py:iter1_small --config.data.root="$sound"
train tokenizer pretrain_beats.py:tokenizer_small --config.data.root="$sound" --config.objective.teacher="$study/runs/iter1"
train iter2 pretrain_beats.py:iter2_small --config.data.root="$sound" --config.objective.tokenizer="$study/runs/tokenizer"
train eat pretrain_eat.py:small --config.data.root="$sound"
train contrastive "bioacoustics.py:small,data_dir=$sound,model_path=$study/runs/iter1,epochs=60,checkpoint_freq=10"
for run in iter1 iter2 eat contrastive; do
  probe "$run" --data "$shared/esc10" --baseline fbank,random
done
front=--config.audio.filterbank
eat=(--config.model.family=eat --config.model.patch_size=32 --config.model.embed_dim=128 --config.model.depth=4
  --config.model.num_heads=4 --config.model.mask_padding=True --config.data.window_seconds=5.0 "$front.window=hanning"
  "$front.waveform_scale=1.0" "$front.subtract_clip_mean=True" "$front.mean=-4.268" "$front.std=4.569" "$front.target_frames=512")
gently=(--config.training.learning_rate=5e-4 --config.training.layer_decay=0.7)
for table in 5_0 5_1 5_2 10_0 10_1 10_2; do
  few "$table" eat "${eat[@]}" "${gently[@]}" --config.model.checkpoint="$study/runs/eat"
  few "$table" eat_scratch "${eat[@]}"
  few "$table" contrastive "${gently[@]}" --config.model.checkpoint="$study/runs/contrastive"
  few "$table" beats_scratch
done

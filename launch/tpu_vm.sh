#!/usr/bin/env bash
# A training run on a Cloud TPU slice: make it, install, run on all workers, look, resume, delete.
#
#   launch/tpu_vm.sh create             a queued resource; waits until it is there
#   launch/tpu_vm.sh install            the package of this folder, with jax[tpu], on all workers
#   launch/tpu_vm.sh run ARGUMENTS      python -m beats_jax.train ARGUMENTS on all workers, in the background; again = resume
#   launch/tpu_vm.sh log | stop | delete
#   DRY_RUN=1 launch/tpu_vm.sh ...      prints the commands and runs none
#   python -m beats_jax.train --config pretrain_beats:iter1 --config.data.batch_size=512 --plan v5e-64      what a run takes
#
# NAME        of the slice (beats)              ZONE     such as us-east5-a (gcloud's own setting)
# TYPE        accelerator (v5litepod-64)        VERSION  of the system (v2-alpha-tpuv5-lite)
# SPOT=1      a slice that may be taken away: SIGTERM saves, `create` and `run` again resume
# BUCKET      gs://… mounted at /data on every worker by gcsfuse; recordings and --workdir lie there
set -euo pipefail

name=${NAME:-beats} type=${TYPE:-v5litepod-64} version=${VERSION:-v2-alpha-tpuv5-lite}
zone=(${ZONE:+--zone="$ZONE"})

do_it() {
  if [ -n "${DRY_RUN:-}" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

on_all() { do_it gcloud compute tpus tpu-vm ssh "$name" "${zone[@]}" --worker=all --command="$1"; }

quoted() { printf '%q ' "$@"; }

verb=${1:-}
[ $# -eq 0 ] || shift
case $verb in
  create)
    do_it gcloud compute tpus queued-resources create "$name" --node-id="$name" "${zone[@]}" --accelerator-type="$type" \
      --runtime-version="$version" ${SPOT:+--spot}
    do_it timeout 24h bash -c "until gcloud compute tpus queued-resources describe $name ${zone[*]} \
      --format='value(state.state)' | grep -q ACTIVE; do sleep 30; done"
    ;;
  install)
    top=$(cd "$(dirname "$0")/.." && pwd)
    do_it tar --create --gzip --file=/tmp/beats_jax.tar.gz --directory="$top" beats_jax configs launch pyproject.toml setup.py README.md LICENSE
    do_it gcloud compute tpus tpu-vm scp /tmp/beats_jax.tar.gz "$name": "${zone[@]}" --worker=all
    on_all 'mkdir -p beats && tar -xzf beats_jax.tar.gz -C beats && python3 -m venv env && env/bin/pip install -q "jax[tpu]" ./beats'
    if [ -n "${BUCKET:-}" ]; then
      on_all "sudo mkdir -p /data && sudo chown \$USER /data && mountpoint -q /data || gcsfuse --implicit-dirs ${BUCKET#gs://} /data"
    fi
    ;;
  run)
    [ $# -gt 0 ] || { echo "run needs the arguments of python -m beats_jax.train" >&2; exit 2; }
    on_all "nohup env/bin/python -m beats_jax.train $(quoted "$@")>> beats.log 2>&1 < /dev/null & sleep 20; tail -n 5 beats.log"
    ;;
  log) do_it gcloud compute tpus tpu-vm ssh "$name" "${zone[@]}" --worker=0 --command='tail -n 200 -f beats.log' ;;
  stop) on_all 'pkill -TERM -f beats_jax.train || true' ;; # all save the same step
  delete) do_it gcloud compute tpus queued-resources delete "$name" "${zone[@]}" --force --quiet ;;
  *)
    sed -n '2,16s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

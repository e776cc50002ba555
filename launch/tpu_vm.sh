#!/usr/bin/env bash
# Runs one maskjax command on every host of Cloud TPU VMs; see launch/tpu_vm.md.
#
#   launch/tpu_vm.sh NAME ZONE train --config=mim/mae:l16 --workdir=/mnt/shared/runs/l16
#
# REPO=url      what to install from, once; default: this clone's origin
# SETUP=0       skips the installation
set -euo pipefail

if [[ $# -lt 3 ]]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
name=$1 zone=$2
shift 2
repo=${REPO:-$(git -C "$(dirname "$0")" remote get-url origin)}

on_every_host() {
  gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$1"
}

if [[ ${SETUP:-1} != 0 ]]; then
  on_every_host "set -e
    test -d maskjax || git clone --quiet $(printf %q "$repo") maskjax
    cd maskjax && git pull --quiet --ff-only
    test -d .venv || python3.11 -m venv .venv
    .venv/bin/pip install --quiet -c constraints.txt -e '.[tpu,gcs]'"
fi
# The same command everywhere: each host finds its place in the metadata of the TPU.
on_every_host "cd maskjax && source launch/env_tpu.sh && .venv/bin/maskjax $(printf '%q ' "$@")"

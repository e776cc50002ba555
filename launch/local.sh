#!/usr/bin/env bash
# Runs one maskjax command as N processes on this machine; see launch/local.md.
#
#   launch/local.sh 2 train --config=mim/mae:tiny --workdir=runs/two
#
# DEVICES=n     n emulated CPU devices in each process (for trying things without accelerators)
# RESTARTS=n    starts all of them again, up to n times, when a process fails
# GRACE=s       seconds that the others get to end by themselves when one has failed; default 30
# PYTHON=path   default: python of the environment that is active
set -uo pipefail

if [[ $# -lt 2 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
  sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
count=$1
shift
python=${PYTHON:-python}
if [[ -n ${DEVICES:-} ]]; then
  # On few cores one process may compile for minutes while another one waits for it.
  export XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=$DEVICES \
--xla_cpu_collective_timeout_seconds=600 --xla_cpu_collective_call_terminate_timeout_seconds=600"
fi

pids=()
stopped=
pass_on() { # a signal to this script goes to all
  stopped=1
  kill -s "$1" "${pids[@]}" 2>/dev/null
}
trap 'pass_on TERM' TERM
trap 'pass_on INT' INT

free_port() {
  "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start() {
  pids=()
  local address
  address=127.0.0.1:$(free_port)
  for ((i = 0; i < count; i++)); do
    JAX_COORDINATOR_ADDRESS=$address JAX_NUM_PROCESSES=$count JAX_PROCESS_ID=$i \
      "$python" -u -m maskjax "$@" > >(sed -u "s/^/[$i] /") 2>&1 &
    pids+=($!)
  done
}

# The exit code of the first process that failed, or 0; the others are ended after GRACE seconds.
outcome() {
  local code=0 failed_at=0 alive pid rc
  local waiting=("${pids[@]}")
  while ((${#waiting[@]})); do
    alive=()
    for pid in "${waiting[@]}"; do
      if kill -0 "$pid" 2>/dev/null; then
        alive+=("$pid")
        continue
      fi
      wait "$pid"
      rc=$?
      if ((rc && !code)); then
        code=$rc
        failed_at=$SECONDS
      fi
    done
    waiting=("${alive[@]}")
    if ((code && SECONDS - failed_at >= ${GRACE:-30} && ${#waiting[@]})); then
      kill -KILL "${waiting[@]}" 2>/dev/null
    fi
    ((${#waiting[@]})) && sleep 0.1
  done
  return "$code"
}

for ((attempt = 0; ; attempt++)); do
  start "$@"
  outcome
  code=$?
  # 2 is wrong input, which stays wrong; 130 and 143 were asked for.
  if ((code == 0 || code == 2 || code == 130 || code == 143 || attempt >= ${RESTARTS:-0})) || [[ -n $stopped ]]; then
    exit "$code"
  fi
  echo "launch/local.sh: a process ended with $code; starting all again ($((attempt + 1)) of $RESTARTS)" >&2
done

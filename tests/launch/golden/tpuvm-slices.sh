#!/bin/bash
# distil on 2xv6e:16x16: 2 x 64 hosts.
set -u

# Runs on every host.
remote=$(cat <<'REMOTE'
set -eu
sudo docker rm --force distil >/dev/null 2>&1 || true
sudo docker run --rm --privileged --net=host --name=distil --stop-timeout=120 --env 'JAX_LOG=a b' registry.example/sentidistill:1 sentidistill train --config=configs/pod.py '--workdir=/data/it'"'"'s here'
REMOTE
)

clean_up() {
  gcloud compute tpus queued-resources delete distil --zone=us-east5-b --project=mine --force --quiet
}
trap clean_up EXIT

state() {
  gcloud compute tpus queued-resources describe distil --zone=us-east5-b --project=mine --format='value(state.state)' 2>/dev/null
}

acquire() {
  case "$(state)" in
    ACTIVE) return ;;
    SUSPENDED | SUSPENDING | FAILED) clean_up ;;
  esac
  [ -n "$(state)" ] || gcloud compute tpus queued-resources create distil --zone=us-east5-b --project=mine --accelerator-type=v6e-256 --runtime-version=v2-alpha-tpuv6e --node-count=2 --node-prefix=distil || exit 1
  until [ "$(state)" = ACTIVE ]; do
    [ "$(state)" != FAILED ] || exit 1
    sleep 30
  done
}

code=1
for attempt in $(seq 0 10); do
  echo "attempt $attempt"
  acquire
  pids=()
  gcloud compute tpus tpu-vm ssh distil-0 --zone=us-east5-b --project=mine --worker=all --command="$remote" &
  pids+=($!)
  gcloud compute tpus tpu-vm ssh distil-1 --zone=us-east5-b --project=mine --worker=all --command="$remote" &
  pids+=($!)
  code=0
  for pid in "${pids[@]}"; do
    wait "$pid" || code=$?
  done
  [ "$code" -ne 0 ] && [ "$code" -ne 2 ] || break
done
exit "$code"

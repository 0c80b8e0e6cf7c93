#!/bin/bash
# distil on v5e:4x4: 1 x 4 hosts.
set -u

# Runs on every host.
remote=$(cat <<'REMOTE'
set -eu
sudo mkdir -p /mnt/storage-0
mountpoint -q /mnt/storage-0 || sudo gcsfuse --implicit-dirs -o allow_other bucket /mnt/storage-0
HF_TOKEN=$(gcloud secrets versions access latest --secret=hf-token)
export HF_TOKEN
sudo docker rm --force distil >/dev/null 2>&1 || true
sudo --preserve-env=HF_TOKEN docker run --rm --privileged --net=host --name=distil --stop-timeout=120 --volume /mnt/storage-0:/data --env 'JAX_LOG=a b' --env HF_TOKEN registry.example/sentidistill:1 sentidistill train --config=configs/pod.py '--workdir=/data/it'"'"'s here'
REMOTE
)

clean_up() {
  gcloud compute tpus queued-resources delete distil --zone=us-west4-a --force --quiet
}
trap clean_up EXIT

state() {
  gcloud compute tpus queued-resources describe distil --zone=us-west4-a --format='value(state.state)' 2>/dev/null
}

acquire() {
  case "$(state)" in
    ACTIVE) return ;;
    SUSPENDED | SUSPENDING | FAILED) clean_up ;;
  esac
  [ -n "$(state)" ] || gcloud compute tpus queued-resources create distil --zone=us-west4-a --accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --node-id=distil --spot || exit 1
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
  gcloud compute tpus tpu-vm ssh distil --zone=us-west4-a --worker=all --command="$remote" &
  pids+=($!)
  code=0
  for pid in "${pids[@]}"; do
    wait "$pid" || code=$?
  done
  [ "$code" -ne 0 ] && [ "$code" -ne 2 ] || break
done
exit "$code"

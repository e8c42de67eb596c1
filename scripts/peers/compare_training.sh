#!/usr/bin/env bash
# Trains a small recipe with Riffle and with PyTorch in turn, seed by seed, and prints accuracy and seconds of both.
# PyTorch reads what Riffle resolved (config.resolved.yaml), so network, augmentation, optimiser and schedule are the same.
# Needs python3 with torch, torchvision, PyYAML and Pillow (Debian: python3-torch python3-torchvision python3-yaml).
# Usage: scripts/peers/compare_training.sh CONFIG [--seeds "1 2 3"] [--threads N] [--data DIR] [--out DIR] [KEY=VALUE...]
#   --data DIR   where PyTorch reads the images (torch_network.py), if not where the configuration says
set -euo pipefail
cd "$(dirname "$0")/../.."

usage() { sed -n '2,6s/^# //p' "$0"; }

riffle=${RIFFLE:-build/release/riffle}
python=${PYTHON:-python3}
seeds="1 2 3" threads=$(nproc) data="" out=runs/peers overrides=() config=""
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage; exit 0 ;;
    --seeds) seeds=${2:?--seeds needs a list such as "1 2 3"}; shift ;;
    --threads) threads=${2:?--threads needs a number}; shift ;;
    --data) data=${2:?--data needs a folder}; shift ;;
    --out) out=${2:?--out needs a folder}; shift ;;
    -*) echo "error: unknown argument $1" >&2; usage >&2; exit 2 ;;
    *=*) overrides+=("$1") ;;
    *) config=$1 ;;
  esac
  shift
done
[ -n "$config" ] || { echo "error: no configuration given" >&2; usage >&2; exit 2; }
[ -x "$riffle" ] || { echo "error: $riffle is not there; build it, or set RIFFLE" >&2; exit 1; }

mkdir -p "$out"
for seed in $seeds; do
  run=$out/riffle-$seed
  begin=$(date +%s.%N)
  "$riffle" train "$config" -o "$run" --overwrite --device cpu --threads "$threads" --seed "$seed" "${overrides[@]}" \
    >"$out/riffle-$seed.log"
  end=$(date +%s.%N)
  "$python" - "$run/metrics.jsonl" "$seed" "$begin" "$end" <<'PYTHON'
import json, sys
path, seed, begin, end = sys.argv[1:]
with open(path) as file:
    last = [record for record in map(json.loads, file) if record["type"] == "val"][-1]
print(f"seed {seed}  riffle   top-1 {100 * last['top1']:.2f} %  {float(end) - float(begin):.0f} s", flush=True)
PYTHON
  "$python" scripts/peers/torch_train.py "$run/config.resolved.yaml" --seed "$seed" --threads "$threads" \
    ${data:+--data "$data"} >"$out/pytorch-$seed.jsonl"
  "$python" - "$out/pytorch-$seed.jsonl" "$seed" <<'PYTHON'
import json, sys
path, seed = sys.argv[1:]
with open(path) as file:
    last = [json.loads(line) for line in file][-1]
print(f"seed {seed}  {last['result']}  top-1 {last['top1']:.2f} %  {last['seconds']:.0f} s", flush=True)
PYTHON
done

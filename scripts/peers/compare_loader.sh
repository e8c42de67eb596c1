#!/usr/bin/env bash
# Riffle's training loader against PyTorch's DataLoader with torchvision's v1 transforms and Pillow, on the images of a
# folder of classes and on packed shards of the same, made here with a short edge of 256. Prints tables (Markdown).
# Usage: scripts/peers/compare_loader.sh FOLDER [options of compare_loader.py, such as --rounds 3 --seconds 6]
# PEER_PYTHON: a Python that has torch, torchvision and Pillow from PyPI; by default a virtual environment in build/peers.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(realpath "${1:?usage: $0 FOLDER [options]}")
shift
riffle=${RIFFLE:-build/release/riffle}
python=${PEER_PYTHON:-build/peers/bin/python}
if [ ! -x "$python" ]; then
  python3 -m venv build/peers
  python=build/peers/bin/python
  "$python" -m pip install --quiet torch torchvision pillow
fi
packed=$(mktemp -d)
trap 'rm -rf "$packed"' EXIT
"$riffle" data pack "folder:$folder" "$packed" --split train --short-edge 256 >/dev/null
"$python" scripts/peers/compare_loader.py "$folder" --riffle "$riffle" --packed "$packed/train" "$@"

#!/usr/bin/env bash
# Development only: proves that checkpoints which Riffle wrote load in PyTorch (weights_only=True, strictly into a model),
# numpy and safetensors, and hold the same numbers. Give files of one set of weights in any of the three formats:
#   scripts/check_pytorch.sh [--model shufflenet_v2_x0_5] OUT.pth OUT.npz OUT.safetensors
# PYTHON names an interpreter that has torch (and torchvision for --model); what is missing fails rather than being skipped.
set -euo pipefail
exec "${PYTHON:-python3}" "$(dirname "$0")/check_pytorch.py" "$@"

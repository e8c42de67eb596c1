#!/usr/bin/env bash
# Reads what Riffle writes for TensorBoard with the real package: event files of a test (a resumed run, cut at its end),
# and those of a short training run. Usage: check_tensorboard_python.sh BUILD_FOLDER [PYTHON]
# Where PYTHON (default python3) lacks the package tensorboard, it is installed into a virtual environment that goes away
# afterwards; where that is not possible the check is skipped, and says so. Riffle itself needs no Python.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${1:?usage: $0 BUILD_FOLDER [PYTHON]}
python=${2:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! "$python" -c 'import tensorboard' 2>/dev/null; then
  if ! { "$python" -m venv "$work/venv" && "$work/venv/bin/pip" install --quiet tensorboard; } >"$work/pip.log" 2>&1; then
    echo "skipped: Python's tensorboard package is not here and could not be installed: $(tail -n 1 "$work/pip.log")"
    exit 0
  fi
  python=$work/venv/bin/python
fi

mkdir "$work/exchange"
RIFFLE_TENSORBOARD_EXCHANGE=$work/exchange "$build/tests/test_tensorboard" \
  --gtest_filter=TensorBoardPython.WritesForPython --gtest_brief=1
"$build/riffle" train configs/fashion_mnist.yaml -o "$work/run" --device cpu train.duration=12it schedule.warmup=0ep train.log_every_steps=4 \
  eval.batch=250 >"$work/log" || { cat "$work/log" >&2; exit 1; }
"$python" tests/judge_tensorboard.py "$work/exchange" "$work/run"

#!/usr/bin/env bash
# Exchanges files with Python's safetensors package in both directions: Python must read what Riffle writes, and Riffle
# what Python writes. Usage: check_safetensors_python.sh PATH/test_checkpoint_safetensors [PYTHON]
# Needs the Python packages safetensors and numpy. Not part of the test suite, which needs no Python.
set -euo pipefail
cd "$(dirname "$0")/.."

test_program=${1:?usage: $0 PATH/test_checkpoint_safetensors [PYTHON]}
python=${2:-python3}
export RIFFLE_SAFETENSORS_EXCHANGE
RIFFLE_SAFETENSORS_EXCHANGE=$(mktemp -d)
trap 'rm -rf "$RIFFLE_SAFETENSORS_EXCHANGE"' EXIT

"$test_program" --gtest_filter=SafetensorsPython.WritesForPython --gtest_brief=1
"$python" - <<'PYTHON'
import os
import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

folder = os.environ["RIFFLE_SAFETENSORS_EXCHANGE"]
expected = {
    "f32": np.array([[1, -2, 3.5], [0, 1e-40, 6]], np.float32),
    "f64": np.array([0.1, -1e300], np.float64),
    "f16": np.array([0x3C00, 0x8001, 0x7BFF], np.uint16).view(np.float16),
    "u8": np.array([0, 1, 127, 128, 255], np.uint8),
    "i32": np.array([-(2**31), 2**31 - 1], np.int32),
    "scalar": np.array(42, np.float32),
    "empty": np.zeros((3, 0, 2), np.float32),
    'name with "quotes", \\ and \u00e9': np.array([7], np.float32),
}
path = os.path.join(folder, "from_riffle.safetensors")
read = load_file(path)
assert sorted(read) == sorted(expected), sorted(read)
for name, array in expected.items():
    assert read[name].dtype == array.dtype and read[name].shape == array.shape, name
    assert read[name].tobytes() == array.tobytes(), name
metadata = {"format": "pt", "classes": '["cat","dog"]'}
with safetensors.safe_open(path, "np") as file:
    assert file.metadata() == metadata, file.metadata()

save_file({**expected, "i64": np.array([-3, 4], np.int64)}, os.path.join(folder, "from_python.safetensors"), metadata)
print(f"Python's safetensors {safetensors.__version__} read {len(read)} tensors of Riffle's, bit for bit")
PYTHON
"$test_program" --gtest_filter=SafetensorsPython.ReadsWhatPythonWrote --gtest_brief=1
"$python" tests/judge_safetensors.py "$RIFFLE_SAFETENSORS_EXCHANGE"
"$test_program" --gtest_filter=SafetensorsPython.JudgesAsPythonDoes --gtest_brief=1
echo "Riffle read Python's file, bit for bit"

#!/usr/bin/env bash
# Installs what is needed, builds, and runs every test: with the address and undefined behaviour sanitizers, then
# optimised; then fuzzes the parsers of checkpoints and of data sets, 3 seconds each. `scripts/test.sh --quick` leaves the
# sanitizers and the fuzzing out. RIFFLE_WERROR=ON makes warnings errors, except with the sanitizers, whose
# instrumentation makes g++ warn of its own library.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/dependencies.sh

install_packages "${build_packages[@]}" "${test_packages[@]}"

test_build() {  # preset, warnings as errors
  echo "== $1: build"
  cmake --preset "$1" -DCMAKE_COMPILE_WARNING_AS_ERROR="$2" >/dev/null
  cmake --build --preset "$1"
  echo "== $1: test"
  ctest --preset "$1" --no-tests=error -j "$(nproc)"
}

[ "${1:-}" = --quick ] || test_build sanitize OFF
test_build test "${RIFFLE_WERROR:-OFF}"

[ "${1:-}" = --quick ] || RIFFLE_FUZZ_SEED=1 scripts/fuzz.sh 3

# Files for Python, where its safetensors package is at hand; Riffle itself needs no Python.
if python3 -c 'import safetensors, numpy' 2>/dev/null; then
  echo "== safetensors: exchange with Python"
  tests/check_safetensors_python.sh build/test/tests/test_checkpoint_safetensors
fi

if command -v python3 >/dev/null; then
  echo "== TensorBoard: what the real package reads"
  tests/check_tensorboard_python.sh build/test
fi

if [ -x build/test/riffle-emulated ]; then
  echo "== gpu_check.sh on the emulated device"
  tests/check_gpu_check.sh build/test
fi

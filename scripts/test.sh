#!/usr/bin/env bash
# Installs what is needed, builds, and runs every test: an optimised build, then one with the address and undefined
# behaviour sanitizers. About 10 minutes on two cores from nothing; `scripts/test.sh --quick` leaves the sanitizers out.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/dependencies.sh

install_packages "${build_packages[@]}" "${test_packages[@]}" clang-format

echo "== format"
git ls-files '*.h' '*.cpp' '*.cu' | xargs clang-format --dry-run --Werror

test_build() {
  echo "== $1: build"
  cmake --preset "$1" -DCMAKE_COMPILE_WARNING_AS_ERROR=ON >/dev/null
  cmake --build --preset "$1"
  echo "== $1: test"
  ctest --preset "$1" --no-tests=error
}

[ "${1:-}" = --quick ] || test_build sanitize
test_build release

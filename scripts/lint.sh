#!/usr/bin/env bash
# clang-format and clang-tidy over every source file, or over those given. Slow (minutes): not part of scripts/test.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/dependencies.sh

install_packages "${build_packages[@]}" "${test_packages[@]}" clang-format clang-tidy libomp-dev
mapfile -t files < <(if [ $# -gt 0 ]; then printf '%s\n' "$@"; else git ls-files '*.cpp'; fi)
git ls-files '*.h' '*.cpp' '*.cu' | xargs clang-format --dry-run --Werror
cmake --preset release >/dev/null
printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -n 1 clang-tidy --quiet --warnings-as-errors='*' -p build/release

#!/usr/bin/env bash
# clang-format and clang-tidy (both of version 14: others lay code out differently), over every source file or those
# given. `scripts/lint.sh --format` only checks the layout. clang-tidy takes minutes: not part of scripts/test.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/dependencies.sh

install_packages git clang-format-14
git ls-files '*.h' '*.cpp' '*.cu' | xargs clang-format-14 --dry-run --Werror
[ "${1:-}" = --format ] && exit 0

install_packages "${build_packages[@]}" "${test_packages[@]}" "${benchmark_packages[@]}" clang-tidy-14
cmake --preset test -DRIFFLE_BENCHMARKS=ON >/dev/null
cmake --build --preset test --target riffle_event_messages riffle_build_commit >/dev/null  # headers that are generated
if [ $# -gt 0 ]; then files=("$@"); else
  mapfile -t files < <(git ls-files '*.cpp' ':!tests/fuzz/fuzz_target.cpp')  # needs a target's name: scripts/fuzz.sh
fi
printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -n 1 clang-tidy-14 --quiet --warnings-as-errors='*' -p build/test

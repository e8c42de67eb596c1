#!/usr/bin/env bash
# Fuzzes the parsers of checkpoints and data sets: scripts/fuzz.sh [SECONDS] [TARGET...], by default 60 seconds for each
# target. Installs and builds what it needs (clang 14 with libFuzzer, address and undefined behaviour sanitizers). What was
# learnt stays in build/fuzz/corpus. A finding fails the run and is kept in build/fuzz/findings; once fixed, move it to
# tests/fixtures/fuzz_regressions/TARGET, which test_fuzz_regressions replays.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/dependencies.sh

seconds=${1:-60}
[ $# -eq 0 ] || shift
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "usage: scripts/fuzz.sh [SECONDS] [TARGET...]" >&2; exit 2; }
targets=("$@")
[ $# -gt 0 ] || targets=(pth pickle npz safetensors tensorflow
  jpeg png tar labels matlab pack_index index_cache idx)

install_packages cmake ninja-build clang-14 libclang-rt-14-dev libjpeg-dev libpng-dev libzip-dev nlohmann-json3-dev \
  zlib1g-dev
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz

build=build/fuzz
"$build"/tests/fuzz/write_seeds "$build/seeds"
failed=()
for target in "${targets[@]}"; do
  program=$build/tests/fuzz/fuzz_$target
  [ -x "$program" ] || { echo "error: no target '$target'" >&2; exit 2; }
  dictionary=tests/fuzz/$target.dict
  known=tests/fixtures/fuzz_regressions/$target
  mkdir -p "$build/corpus/$target" "$build/findings/$target"
  echo "== fuzz $target, $seconds s"
  # An archive may unpack to 64 MiB, and a few copies of that are alive at once. Inputs take a millisecond; the timeout is
  # long because it counts what a busy machine keeps the process waiting.
  log=$build/$target.log
  if "$program" -max_total_time="$seconds" -max_len=32768 -timeout=60 -report_slow_units=60 -malloc_limit_mb=256 \
    -rss_limit_mb=2048 -seed="${RIFFLE_FUZZ_SEED:-0}" $([ ! -f "$dictionary" ] || echo "-dict=$dictionary") \
    -artifact_prefix="$build/findings/$target/" \
    -print_final_stats=1 "$build/corpus/$target" "$build/seeds/$target" \
    $([ ! -d "$known" ] || echo "$known") >"$log" 2>&1; then
    echo "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, nothing found"
  else
    tail -n 60 "$log"
    failed+=("$target")
  fi
done
[ ${#failed[@]} -eq 0 ] || { echo "error: findings in ${failed[*]}, see above, $build/findings and $build/*.log" >&2; exit 1; }

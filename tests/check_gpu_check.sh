#!/usr/bin/env bash
# scripts/gpu_check.sh on the emulated device: every part runs and passes, the reports are there and well formed; with a
# broken program every part still runs, and the failures are counted. Usage: check_gpu_check.sh BUILD_FOLDER
set -euo pipefail
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

expect() {  # description, command...
  "${@:2}" || {
    echo "error: gpu_check.sh: expected $1" >&2
    exit 1
  }
}
status_of() { "$@" >"$work/output" 2>&1 && echo 0 || echo $?; }
checks() { grep -c "\"status\":\"$1\"" "$work/out/report.json" || true; }

status=$(status_of scripts/gpu_check.sh "$build" --emulated --out "$work/out")
cat "$work/output"
expect 'exit code 0' test "$status" -eq 0
expect 'no failed check' test "$(checks fail)" -eq 0
for part in 1 2 3 4 5; do
  expect "a passed check in part $part" grep -q '"status":"pass"' "$work/out/part$part/checks.jsonl"
done
expect 'part 6 skipped, with a reason' grep -q '\*\*skip\*\* .*torch' "$work/out/report.md"
expect 'a table of layers' grep -q '^| stage2.0.branch1 | [0-9.]* | [0-9.]* | [0-9.]* |$' "$work/out/report.md"
expect 'layers in report.json' grep -q '"layers":.*"name":"conv5"' <(tr -d '\n' <"$work/out/report.json")
expect 'a table of operations' grep -q '^| norm_depthwise_backward, stride 1 |' "$work/out/report.md"
for check in 'mixed losses on CPU and CUDA' 'losses after a stop, fp16' 'parity, the quickest algorithms'; do
  expect "a passed check '$check'" grep -q "\"check\":\"$check.*\"status\":\"pass\"" "$work/out/report.json"
done
expect 'the logs in one archive' tar -tzf "$work/out/logs.tar.gz" part4/losses.txt part4/train_cpu.log
if command -v python3 >/dev/null; then
  expect 'a report.json that parses' python3 -m json.tool "$work/out/report.json" /dev/null
fi

mkdir "$work/broken"
printf '#!/bin/sh\necho "error: \\"broken\\"" >&2\nexit 3\n' >"$work/broken/riffle-emulated"
chmod +x "$work/broken/riffle-emulated"
status=$(status_of scripts/gpu_check.sh "$work/broken" --emulated --out "$work/out")
expect 'exit code 1 where programs fail' test "$status" -eq 1
for part in 1 2 3 4 5; do
  expect "a failed check in part $part" grep -q '"status":"fail"' "$work/out/part$part/checks.jsonl"
done
expect 'the reason in the report' grep -q 'exit code 3: error: .*broken' "$work/out/report.md"
if command -v python3 >/dev/null; then
  expect 'a report.json that parses' python3 -m json.tool "$work/out/report.json" /dev/null
fi
expect 'an excerpt of the log in the report' grep -q '^    error: "broken"' "$work/out/report.md"

# Stopped from outside, as a machine does that ends commands after some time: the report tells of all that was done.
# shellcheck disable=SC2016  # expanded by the program
printf '#!/bin/sh\n[ "$1" = devices ] && exit 0\nexec sleep 60\n' >"$work/broken/riffle-emulated"
scripts/gpu_check.sh "$work/broken" --emulated --parts 1,4 --out "$work/stopped" >"$work/output" 2>&1 &
sleep 2
kill -TERM $!
wait $! && status=0 || status=$?
expect 'exit code 143 where it is stopped' test "$status" -eq 143
expect 'a report that says so' grep -q '\*\*fail\*\* .*stopped from outside' "$work/stopped/report.md"

# As on a GPU, with programs that only write down how they are called. This sanitizer, too, takes it for an error that a
# library asks the driver for a function that is not there, unless it is told otherwise.
mkdir "$work/gpu"
cat >"$work/gpu/riffle" <<'END'
#!/bin/sh
[ "$1" != devices ] || printf 'cuda    usable\nauto    CUDA: a GPU\n'
END
cat >"$work/gpu/test_cuda_parity" <<'END'
#!/bin/sh
echo "$*" >>"$CALLS"
if [ "$1" = --gtest_list_tests ]; then echo Backends/PointwiseParity.; else echo '[  PASSED  ] 3 tests.'; fi
END
cat >"$work/gpu/compute-sanitizer" <<'END'
#!/bin/sh
case "$*" in
  --version) echo 'version 1' ;;
  *'--tool memcheck'*'--report-api-errors no'* | *'--tool racecheck'*) exit 0 ;;
  *) exit 86 ;;
esac
END
chmod +x "$work/gpu/"*
status=$(CALLS=$work/gpu/calls COMPUTE_SANITIZER=$work/gpu/compute-sanitizer \
  status_of scripts/gpu_check.sh "$work/gpu" --parts 2,3 --out "$work/gpu/report")
expect 'the sanitizer to be quiet about statuses that are checked anyway' test "$status" -eq 0
expect 'a run of each tool over a training step' \
  test "$(grep -c '"check":"[a-z]*check: train' "$work/gpu/report/report.json")" -eq 6
for precision in F32 TF32 BF16 F16; do
  expect "the suites in $precision" grep -q -e "--gtest_filter=\*/Cuda$precision\$" "$work/gpu/calls"
done

expect 'exit code 2 for a wrong part' test "$(status_of scripts/gpu_check.sh "$build" --parts 7)" -eq 2

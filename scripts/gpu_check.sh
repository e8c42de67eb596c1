#!/usr/bin/env bash
# Everything there is to check on a machine with a GPU, in six parts of less than ten minutes each; writes a report in
# Markdown and JSON, anew after every part. A failed check never stops the others. docs/gpu-check.md explains the parts
# and the report.
# shellcheck disable=SC2034  # variables are used by the files it sources
set -uo pipefail
export LC_ALL=C

usage() {
  cat <<'END'
Usage: gpu_check.sh [BUNDLE] [--parts 1,2,...] [--out DIR] [--data DIR] [--minutes N] [--total N] [--emulated]
  BUNDLE       an archive of scripts/bundle.sh, the folder it was unpacked to, or a build folder.
               Default: the bundle that this script lies in, or build/test of the source tree
  --parts      1 devices, 2 test suites, 3 compute-sanitizer, 4 training, 5 benchmarks, 6 PyTorch beside them. Default: all
  --out DIR    where logs and reports go; parts run earlier with the same DIR stay in the report. Default: gpu_check_report
  --data DIR   folder of Fashion-MNIST's four files. Default: the bundle's, then /usr/share/datasets/fashion-mnist
  --emulated   tiny runs on the emulated device of a build folder, to know that this script works. Proves nothing of a GPU
  --minutes N  limit of each part. Default: 9, so that a part and its report fit into ten
  --total N    limit of all parts together, for a machine that ends commands after some time. Default: none
Exit code: 0 if every check that ran passed, 1 if one failed, 2 for a wrong command line, 143 if it was stopped; the
report is written then, too.
END
}

die_usage() {
  echo "error: $1" >&2
  usage >&2
  exit 2
}

here=$(cd "$(dirname "$0")" && pwd)
bundle='' parts=1,2,3,4,5,6 out=gpu_check_report data='' emulated='' minutes=9 total=''
while [ $# -gt 0 ]; do
  case $1 in
    --parts | --out | --data | --minutes | --total)
      [ $# -gt 1 ] || die_usage "$1 needs a value"
      declare "${1#--}=$2"
      shift
      ;;
    --emulated) emulated=yes ;;
    --help | -h) usage; exit 0 ;;
    -*) die_usage "unknown option $1" ;;
    *) [ -z "$bundle" ] || die_usage "two bundles: $bundle and $1"; bundle=$1 ;;
  esac
  shift
done
[[ $parts =~ ^[1-6](,[1-6])*$ ]] || die_usage "--parts is '$parts'; give numbers from 1 to 6 such as 1,2,5"
[[ $minutes =~ ^[1-9][0-9]*$ ]] || die_usage "--minutes is '$minutes'; give a whole number"
[[ $total =~ ^([1-9][0-9]*)?$ ]] || die_usage "--total is '$total'; give a whole number"

for file in record programs report part1_devices part2_suites part3_sanitizer part4_training part5_benchmarks \
  part6_pytorch; do
  # shellcheck source=/dev/null
  source "$here/gpu_check/$file.sh" || exit 2
done

mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 2
started=$(date -u +%Y-%m-%dT%H:%M:%SZ)
[ -z "$total" ] || run_end=$((SECONDS + 60 * total))
open_bundle
find_fashion_mnist
find_libraries
trap stop_early TERM INT HUP
for part in ${parts//,/ }; do
  begin_part "$part"
  "run_part_$part"
  end_part
  write_reports
done
report_result

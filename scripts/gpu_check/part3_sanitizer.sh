# Part 3: compute-sanitizer's memcheck and racecheck over a small network's training step and over the parity suites.
# shellcheck shell=bash disable=SC2154

# Sets sanitizer; empty where there is none.
find_sanitizer() {
  local candidate
  for candidate in "${COMPUTE_SANITIZER:-}" "$(command -v compute-sanitizer)" \
    /usr/local/cuda*/bin/compute-sanitizer /opt/cuda/bin/compute-sanitizer \
    "$(python3 -c 'import glob, sys
print(next(iter(f for p in sys.path for f in glob.glob(p + "/nvidia/*/bin/compute-sanitizer")), ""))' 2>/dev/null)"; do
    [ -n "$candidate" ] && [ -x "$candidate" ] && sanitizer=$candidate && return
  done
  sanitizer=''
}

# under TOOL NAME COMMAND... Races are looked for in our kernels only: in the libraries' it takes minutes, and NVIDIA
# does that. memcheck watches those, too: their pointers and workspaces are ours. It would also count statuses of CUDA's
# API other than success as errors: libraries ask for functions that a driver may lack and do without them, and Riffle
# checks the status of every call itself.
under() {
  local tool=$1 what=$2 options=(--report-api-errors no)
  shift 2
  [ "$tool" != racecheck ] || options=(--kernel-name kns=riffle)
  if [ -n "$emulated" ]; then  # which the tool does not know
    check "$what" "$@"
  else
    check "$tool: $what" "$sanitizer" --tool "$tool" "${options[@]}" --print-limit 20 --error-exitcode 86 "$@"
  fi
}

run_part_3() {
  find_sanitizer
  if [ -z "$sanitizer$emulated" ]; then
    record compute-sanitizer skip 'not found: set COMPUTE_SANITIZER, or install cuda-sanitizer of the CUDA toolkit'
    return
  fi
  if [ -n "$sanitizer" ]; then say "$("$sanitizer" --version | tail -n 1)"; fi
  local tool tools='memcheck racecheck' precision precisions='fp32 bf16 fp16'
  [ -z "$emulated" ] || tools=none precisions=bf16
  for tool in $tools; do
    for precision in $precisions; do
      under "$tool" "train $precision" "$riffle" bench --device cuda --no-graphs --width 0.5x --size 32 --batch 3 \
        --steps 1 --repeats 1 --precision "$precision"
    done
  done
  [ -z "$emulated" ] || return
  find_parity || return
  local suite
  # Each run loads the libraries under the tool, and the time is up before all are done: smaller ones first.
  for suite in $("$parity" --gtest_list_tests | sed -n 's/^\(Backends\/[A-Za-z0-9]*\)\.$/\1/p'); do
    for tool in $tools; do
      under "$tool" "${suite#*/}" "$parity" --gtest_filter="$suite.*/CudaBF16:$suite.*/CudaF32"
    done
  done
}

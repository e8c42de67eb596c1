# Part 2: the parity suite on CUDA: every operation and whole networks, forward and gradients, against the float64
# reference, in each precision; of tf32 what it changes, which is what the libraries' products are part of.
# shellcheck shell=bash disable=SC2154

# Sets parity: the program of the parity suite. Records a failure where there is none.
find_parity() {
  local name=test_cuda_parity
  [ -z "$emulated" ] || name=test_emulated_parity
  parity=$(program "$name") && return
  record "$name" fail "not in ${program_folders[*]}"
  return 1
}

run_part_2() {
  find_parity || return
  say '| precision | tests passed | skipped |' '|---|---|---|'
  local precision
  if [ -n "$emulated" ]; then  # scripts/test.sh runs the whole suite
    run_tests 'parity, bf16, pooling' 'Backends/Pooling*/CudaBF16'
    export RIFFLE_TEST_TIMED_ALGORITHMS=1
    run_tests 'parity, the quickest algorithms, bf16, pointwise' 'Backends/Pointwise*/CudaBF16'
    unset RIFFLE_TEST_TIMED_ALGORITHMS
    return
  fi
  for precision in F32 TF32 BF16 F16; do run_tests "parity, $precision" "*/Cuda$precision"; done
  run_tests 'parity, tests of no single precision' '-*/CudaF32:*/CudaTF32:*/CudaBF16:*/CudaF16'
  # The runs before have the libraries' first choices of algorithms; programs use the quickest of many.
  export RIFFLE_TEST_TIMED_ALGORITHMS=1
  run_tests 'parity, the quickest algorithms' '*Pointwise*:*Conv2d*:*Fused*:*Network*'
  unset RIFFLE_TEST_TIMED_ALGORITHMS
}

# run_tests NAME FILTER. That every test was skipped, or none chosen, does not count as passed.
run_tests() {
  local passed skipped
  if [ "$(seconds_left)" -le 0 ]; then
    record "$1" skip "not reached in $minutes minutes${total:+, or $total for all parts}"
    return
  fi
  run "$1" "$parity" --gtest_filter="$2"
  passed=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$log")
  skipped=$(sed -n 's/^\[  SKIPPED \] \([0-9]*\) test.*/\1/p' "$log")
  say "| $1 | ${passed:-0} | ${skipped:-0} |"
  if [ "$status" -ne 0 ]; then
    record_failure "$1"
  elif [ "${passed:-0}" -eq 0 ]; then
    record "$1" fail 'no test ran' "$took"
  else
    record "$1" pass "$passed tests" "$took"
  fi
}

# Part 5: images/s of whole steps, GB/s of every operation against a device copy, time per layer.
# shellcheck shell=bash disable=SC2154

run_part_5() {
  local widths='1.0x 0.5x' batches='256 1024' modes='train infer' precisions='bf16 tf32 fp32'
  local size=224 repeats=5 kernels='bf16 fp32' kernel_options=(--batch 1024)
  if [ -n "$emulated" ]; then
    widths=0.5x batches=2 precisions=bf16 kernels=bf16 size=32 repeats=1
    kernel_options=(--batch 1 --size 32 --seconds 0 --repeats 1)
  fi
  local precision mode
  for precision in $kernels; do
    bench_kernels "operations, $precision" --precision "$precision" "${kernel_options[@]}"
    bench_kernels "depthwise convolutions of cuDNN, $precision" --precision "$precision" "${kernel_options[@]}" \
      --only depthwise --cudnn-depthwise
  done
  for mode in $modes; do bench_layers "$mode"; done
  bench_steps
}

# bench_kernels NAME OPTION...
bench_kernels() {
  local bench line program_name=bench_cuda_kernels
  [ -z "$emulated" ] || program_name=bench_emulated_kernels
  bench=$(program "$program_name") || {
    record "$program_name" fail "not in ${program_folders[*]}"
    return
  }
  check "$1" "$bench" --json "${@:2}" || return
  grep '^{' "$log" >>"$folder/operations.jsonl"
  say "${1^}, against a copy within the device:" '' \
    '| operation | shape | microseconds | GB/s | of copy |' '|---|---|---|---|---|'
  grep '^{' "$log" | while IFS= read -r line; do
    printf '| %s | %s | %.1f | %.0f | %.2f |\n' "$(json_field operation "$line")" \
      "$(sed 's/.*"shape":\[\([^]]*\)\].*/\1/; s/,/x/g' <<<"$line")" "$(json_field microseconds "$line")" \
      "$(json_field gb_per_s "$line")" "$(json_field of_copy "$line")"
  done | say
  say ''
}

bench_steps() {
  local width batch mode precision
  say 'Whole steps, synthetic images on the device:' '' \
    '| mode | width | batch | precision | images/s | slowest, fastest repeat | peak memory MiB |' '|---|---|---|---|---|---|---|'
  for width in $widths; do
    for batch in $batches; do
      for mode in $modes; do
        for precision in $precisions; do bench_step "$mode" "$width" "$batch" "$precision"; done
      done
    done
  done
  say ''
}

bench_step() {
  local line
  check "$1 $2, batch $3, $4" "$riffle" bench --mode "$1" --width "$2" --batch "$3" --precision "$4" --size "$size" \
    --repeats "$repeats" --steps "$((repeats * 4))" --json --device cuda || return
  line=$(grep '^{' "$log")
  printf '%s\n' "$line" >>"$folder/steps.jsonl"
  printf '| %s | %s | %s | %s | %.0f | %.0f, %.0f | %.0f |\n' "$1" "$2" "$3" "$4" \
    "$(json_field images_per_s "$line")" "$(json_field images_per_s_min "$line")" \
    "$(json_field images_per_s_max "$line")" "$(json_field peak_bytes "$line" | awk '{ print $1 / 1048576 }')" | say
}

# bench_layers MODE: time per layer, from events around each layer's kernels.
bench_layers() {
  local line row
  check "time per layer, $1" "$riffle" bench --layers --json --device cuda --mode "$1" --width "${widths%% *}" \
    --batch "${batches%% *}" --precision bf16 --size "$size" --repeats "$repeats" --steps "$((repeats * 4))" || return
  line=$(grep '^{' "$log")
  printf '%s\n' "$line" >>"$folder/layers.jsonl"
  say "Time per layer of ${widths%% *}, $1, batch ${batches%% *}, bf16, without CUDA graphs:" '' \
    '| layer | forward ms | backward ms | share of a step |' '|---|---|---|---|'
  grep -o '{"backward_ms":[^}]*}' <<<"$line" | while IFS= read -r row; do
    printf '| %s | %.3f | %.3f | %.3f |\n' "$(json_field name "$row")" "$(json_field forward_ms "$row")" \
      "$(json_field backward_ms "$row")" "$(json_field share "$row")"
  done | say
  printf '| sum | | | %.3f of %.3f ms |\n' "$(json_field covered "$line")" "$(json_field step_ms "$line")" | say
  say ''
}

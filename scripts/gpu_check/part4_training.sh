# Part 4: training. CPU and CUDA side by side, also with mixed images; CUDA graphs on and off; stopping and going on;
# training from JPEGs; and Fashion-MNIST to a known accuracy.
# shellcheck shell=bash disable=SC2154

# Bounds. The first steps differ by rounding only; later ones drift apart, as the least difference grows in training.
early_steps=10 early_tolerance=1e-3
late_steps=50 late_tolerance=0.05
least_top1=0.92

# train NAME PRECISION DEVICE [OVERRIDE...]: of configs/fashion_mnist.yaml, into $folder/NAME.
train() {
  local name=$1 precision=$2 device=$3
  shift 3
  check "train $name" "$riffle" train "$resources/configs/fashion_mnist.yaml" -o "$folder/$name" --device "$device" \
    "data.source=idx:$training_data" "train.precision=$precision" "$@"
}

losses() { sed -n 's/.*"loss":\([^,]*\),.*"step":\([0-9]*\),.*"type":"train".*/\2 \1/p' "$folder/$1/metrics.jsonl"; }

run_part_4() {
  if [ -z "$fashion_mnist" ]; then
    record Fashion-MNIST skip 'not found: give --data DIR, or install the package dataset-fashion-mnist'
    return
  fi
  training_data=$fashion_mnist
  local steps=200 warmup=50 small=()
  if [ -n "$emulated" ]; then
    steps=4 warmup=2 early_steps=2 late_steps=2
    training_data=$folder/data
    first_images 16 "$fashion_mnist" "$training_data"
    small=(model.width=custom 'model.stage_channels=[8,12,16]' 'model.stage_repeats=[1,2,1]' model.head_channels=16
      train.batch=4 eval.batch=8)
  fi
  local short=("train.duration=${steps}it" "schedule.warmup=${warmup}it" schedule.lr=0.05 train.log_every_steps=1
    "${small[@]}")
  compare_devices '' "${short[@]}"
  compare_devices mixed_ augment.mixup=0.2 augment.cutmix=1 "${short[@]}"
  compare_graphs "${short[@]}"
  local precision
  for precision in bf16 fp16; do compare_resumed "$precision" $((steps / 2)) "${short[@]}"; done
  for precision in bf16 fp16; do
    # On the emulated device the same short run again: the accuracy after four steps is no result.
    if [ -n "$emulated" ]; then
      train "$precision" "$precision" cuda "${short[@]}" && check_accuracy "$precision" 0
    else
      train "$precision" "$precision" cuda && check_accuracy "$precision" "$least_top1"
    fi
  done
  train_from_jpegs
}

# compare_devices PREFIX [OVERRIDE...]: the losses of runs PREFIXcpu and PREFIXcuda.
compare_devices() {
  local prefix=$1
  shift
  train "${prefix}cpu" fp32 cpu "$@" || return
  train "${prefix}cuda" fp32 cuda "$@" || return
  local pairs=$folder/${prefix}losses.txt name="${prefix//_/ }losses on CPU and CUDA"
  join <(losses "${prefix}cpu" | sort) <(losses "${prefix}cuda" | sort) | sort -n >"$pairs"
  say "${name^}, fp32:" '' '| step | CPU | CUDA | relative difference |' '|---|---|---|---|'
  awk 'NR <= 5 || NR % 20 == 0 { printf "| %d | %.6f | %.6f | %.1e |\n", $1, $2, $3, ($3 - $2) / $2 }' "$pairs" | say
  say ''
  [ -s "$pairs" ] || {
    record "$name" fail 'no losses in metrics.jsonl'
    return
  }
  local verdict
  verdict=$(awk -v early="$early_steps" -v late="$late_steps" -v tolerance="$early_tolerance" \
    -v late_tolerance="$late_tolerance" '
      function magnitude(x) { return x < 0 ? -x : x }
      { cpu[NR] = $2; cuda[NR] = $3 }
      NR <= early { d = magnitude($3 - $2) / $2; if (d > worst) worst = d }
      END {
        for (i = NR - late + 1; i <= NR; ++i) { a += cpu[i]; b += cuda[i] }
        drift = magnitude(b - a) / a
        printf "%s first %d steps differ by at most %.1e (%g allowed), the means of the last %d by %.1e (%g allowed)",
          (worst <= tolerance && drift <= late_tolerance ? "pass" : "fail"), early, worst, tolerance, late, drift,
          late_tolerance
      }' "$pairs")
  record "$name" "${verdict%% *}" "${verdict#* }"
}

# compare_resumed PRECISION STEP [OVERRIDE...]: a run, and another that goes on from the first one's checkpoint of STEP.
compare_resumed() {
  local precision=$1 step=$2 checkpoint whole rest name="losses after a stop, $1"
  shift 2
  train "whole_$precision" "$precision" cuda train.deterministic=true "checkpoint.every=${step}it" \
    "checkpoint.keep_every=${step}it" "$@" || return
  checkpoint=$folder/whole_$precision/checkpoints/step-$(printf %08d "$step").safetensors
  check "resume $precision" "$riffle" train --resume "$checkpoint" -o "$folder/rest_$precision" --device cuda || return
  whole=$(losses "whole_$precision" | awk -v step="$step" '$1 > step') rest=$(losses "rest_$precision")
  if [ -n "$rest" ] && [ "$whole" = "$rest" ]; then
    record "$name" pass "equal at all $(wc -l <<<"$rest") steps after step $step"
  else
    record "$name" fail "first difference (step, whole, resumed): $(join <(sort <<<"$whole") <(sort <<<"$rest") |
      sort -n | awk '$2 != $3' | head -n 1)"
  fi
}

# Images/s of whole training from JPEGs, decoded whole and only as far as a crop needs, and how much of it is waiting.
train_from_jpegs() {
  local photos=$folder/photos count=2048 steps=60 batch=256 decode line network=()
  [ -z "$emulated" ] || count=16 steps=3 batch=4 network=(model.width=0.5x augment.size=32 eval.resize=40 eval.crop=32)
  if ! python3 "$here/gpu_check/make_photos.py" "$photos" "$count" 2>"$folder/photos.log"; then
    record 'training from JPEGs' skip "python3 cannot make any: $(tail -n 1 "$folder/photos.log")"
    return
  fi
  say 'Training of 1.0x in bf16 from JPEGs of 500x375, and how long a step waits for its images:' '' \
    '| decoding | loader alone, images/s | training, images/s | waiting, ms a step |' '|---|---|---|---|'
  for decode in exact quick; do
    local data=("data.source=folder:$photos" "data.decode=$decode" "train.batch=$batch" schedule.warmup=0it)
    check "load $decode" "$riffle" bench data "$resources/configs/imagenet.yaml" --json --images "$count" \
      "${data[@]}" "${network[@]}" || continue
    line=$(grep '^{' "$log")
    check "train from JPEGs, $decode" "$riffle" train "$resources/configs/imagenet.yaml" -o "$folder/jpegs_$decode" \
      --device cuda train.precision=bf16 "train.duration=${steps}it" "train.log_every_steps=$((steps / 3))" \
      "${data[@]}" "${network[@]}" || continue
    local metrics
    metrics=$(grep '"type":"train"' "$folder/jpegs_$decode/metrics.jsonl" | tail -n 1)
    printf '| %s | %.0f | %.0f | %.1f |\n' "$decode" "$(json_field images_per_s "$line")" \
      "$(json_field images_per_s "$metrics")" "$(json_field data_wait_ms "$metrics")" | say
  done
  say ''
  rm -rf "$photos"
}

compare_graphs() {
  local precision=bf16
  train graphs_on "$precision" cuda train.deterministic=true train.cuda_graphs=true "$@" || return
  local execution
  execution=$(sed -n 's/^execution *//p' "$log")
  if [ "$execution" = 'one CUDA graph a step' ]; then
    record 'the step ran as a CUDA graph' pass ''
  else
    record 'the step ran as a CUDA graph' fail "the log says '$execution' (${log#"$out"/})"
  fi
  train graphs_off "$precision" cuda train.deterministic=true train.cuda_graphs=false "$@" || return
  losses graphs_on >"$folder/on.txt"
  losses graphs_off >"$folder/off.txt"
  if [ -s "$folder/on.txt" ] && cmp -s "$folder/on.txt" "$folder/off.txt"; then
    record 'losses with and without CUDA graphs' pass "equal at all $(wc -l <"$folder/on.txt") steps"
  else
    record 'losses with and without CUDA graphs' fail \
      "first difference (step, with, without): $(join "$folder/on.txt" "$folder/off.txt" | awk '$2 != $3' | head -n 1)"
  fi
}

# check_accuracy NAME LEAST: of the best checkpoint on the 10,000 test images.
check_accuracy() {
  local top1
  check "eval $1" "$riffle" eval "$folder/$1/checkpoints/best.safetensors" --device cuda --json "$folder/$1/eval.json" ||
    return
  top1=$(sed -n 's/.*"top1": *\([0-9.e-]*\).*/\1/p' "$folder/$1/eval.json" | head -n 1)
  say "Fashion-MNIST in $1: top-1 $top1" ''
  if [ -n "$top1" ] && awk "BEGIN { exit !($top1 >= $2) }"; then
    record "accuracy in $1" pass "top-1 $top1; at least $2 is expected"
  else
    record "accuracy in $1" fail "top-1 '$top1'; at least $2 is expected"
  fi
}

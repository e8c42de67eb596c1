#!/usr/bin/env bash
# Compiles every cuda/*.cu for one or more GPU architectures and writes what ptxas says of each kernel, registers, shared
# memory and spills, to docs/results/DATE-kernels.md. Fails, after writing it, if a hot kernel spills or is missing.
# Usage: scripts/kernel_table.sh [--archs "80 90"] [--out FILE]        nvcc from $CUDACXX, PATH or /usr/local/cuda
set -euo pipefail
cd "$(dirname "$0")/.."

# Kernels that take most of a step's time, as file:name. A renamed one must be renamed here.
hot_kernels=(
  batch_norm:apply_kernel batch_norm:backward_sums_kernel batch_norm:backward_apply_kernel
  batch_norm_pool:norm_pool_kernel batch_norm_pool:norm_pool_sums_kernel batch_norm_pool:norm_pool_data_kernel
  batch_norm_statistics:moments_kernel
  mixing:normalize_mixed_kernel
  channel_shuffle:interleave_kernel channel_shuffle:deinterleave_kernel channel_shuffle:channel_shuffle_kernel
  depthwise:depthwise3x3_kernel depthwise_data:depthwise3x3_stride2_data_kernel
  depthwise_weights:depthwise3x3_weights_kernel
  depthwise_fused:depthwise3x3_kernel depthwise_fused:norm_depthwise_backward_kernel
  movement:copy_kernel movement:normalize_kernel
  optimizer:sgd_step_kernel optimizer:squared_norm_kernel optimizer:ema_update_kernel
  pooling:max_pool_kernel pooling:max_pool_backward_kernel pooling:global_average_pool_kernel
)

usage() { sed -n '2,4s/^# //p' "$0"; }

archs="80 90" out=docs/results/$(date +%F)-kernels.md
while [ $# -gt 0 ]; do
  case $1 in
    --archs) archs=${2:?--archs needs a list such as "80 90"}; shift ;;
    --out) out=${2:?--out needs a file}; shift ;;
    --help | -h) usage; exit 0 ;;
    *) echo "error: unknown argument $1" >&2; usage >&2; exit 2 ;;
  esac
  shift
done

nvcc=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
command -v "$nvcc" >/dev/null || {
  echo "error: no nvcc: set CUDACXX, or put the CUDA toolkit's bin folder into PATH" >&2
  exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() {  # file, architecture: leaves ptxas's report in $work
  local log
  log=$work/$(basename "$1" .cu).sm_$2
  # The flags of cuda/CMakeLists.txt.
  "$nvcc" -std=c++17 -O3 -DNDEBUG -lineinfo -gencode "arch=compute_$2,code=sm_$2" -Xptxas -v \
    -DRIFFLE_CUDA_ARCHITECTURES="\"$2\"" -I. -c "$1" -o "$log.o" >"$log.log" 2>&1 || {
    cat "$log.log" >&2
    return 255
  }
}
export -f compile
export nvcc work
# shellcheck disable=SC2016  # expanded by the shells that xargs starts
for arch in $archs; do printf '%s\0'"$arch"'\0' cuda/*.cu; done |
  xargs -0 -n 2 -P "$(nproc)" bash -c 'compile "$1" "$2"' compile

# One line for each kernel: file:kernel, variants (template instances), fewest and most registers, and the most shared
# memory, stack and spilled bytes (stores + loads) of a variant.
summarise() {  # architecture
  local log
  for log in "$work"/*.sm_"$1".log; do
    # shellcheck disable=SC2094  # basename reads no file
    c++filt <"$log" | awk -v file="$(basename "$log" ".sm_$1.log")" '
      /Compiling entry function/ {
        name = $0
        sub(/^[^\047]*\047/, "", name)
        gsub(/\(anonymous namespace\)::/, "", name)
        sub(/[<(].*/, "", name)  # templates are "void riffle::kernel<...>(...)"
        sub(/.*[ :]/, "", name)
        name = file ":" name
      }
      /bytes spill stores/ {
        if ($1 > stack[name]) stack[name] = $1
        if ($5 + $9 > spilled[name]) spilled[name] = $5 + $9
      }
      /Used [0-9]+ registers/ {
        registers = $5
        shared = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART) + 0 : 0
        if (!variants[name]++ || registers < fewest[name]) fewest[name] = registers
        if (registers > most[name]) most[name] = registers
        if (shared > memory[name]) memory[name] = shared
      }
      END {
        for (name in variants)
          print name, variants[name], fewest[name], most[name], memory[name] + 0, stack[name] + 0, spilled[name] + 0
      }'
  done | sort
}

failures=()
tables() {
  local arch kernel line
  for arch in $archs; do
    summarise "$arch" >"$work/summary.$arch"
    printf '\n## sm_%s\n\n%s\n%s\n' "$arch" \
      '| file | kernel | variants | registers | shared memory | stack | spilled |' '|---|---|---|---|---|---|---|'
    awk '{ split($1, part, ":"); range = $3 == $4 ? $3 : $3 " to " $4
           printf "| %s.cu | %s | %d | %s | %d | %d | %d |\n", part[1], part[2], $2, range, $5, $6, $7 }' \
      "$work/summary.$arch"
    for kernel in "${hot_kernels[@]}"; do
      line=$(grep "^$kernel " "$work/summary.$arch") || {
        failures+=("sm_$arch: no kernel $kernel; was it renamed? see hot_kernels in scripts/kernel_table.sh")
        continue
      }
      [ "${line##* }" = 0 ] || failures+=("sm_$arch: $kernel spills up to ${line##* } bytes")
    done
  done
}

commit=$(git rev-parse --short HEAD)
git diff --quiet HEAD -- cuda core || commit+=' with changes'
nvcc_version=$("$nvcc" --version | sed -n 's/.*release .*, V//p')
{
  cat <<END
# Registers, shared memory and spills of every kernel, $(date +%F)

Made by \`scripts/kernel_table.sh\` at commit $commit, nvcc $nvcc_version, -O3.
A kernel has a variant for each element type, vector width, stride and so on; a row gives the least and most registers of
its variants, and the most static shared memory, stack and spilled bytes (stores + loads of a thread). Dynamic shared
memory is chosen at launch and not in the table.
END
  tables
} >"$work/table.md"
mkdir -p "$(dirname "$out")"
cp "$work/table.md" "$out"
echo "wrote $out"
[ ${#failures[@]} -eq 0 ] || {
  printf 'error: %s\n' "${failures[@]}" >&2
  exit 1
}

#!/usr/bin/env bash
# Builds Riffle with CUDA and packs programs, tests, benchmarks and the libraries they need into one archive that runs on
# another Linux with an NVIDIA driver; then unpacks it elsewhere and runs its CPU path. docs/gpu-check.md says more.
# Usage: scripts/bundle.sh [OUT.tar.xz]        default: build/riffle-VERSION-linux-ARCH.tar.xz
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/dependencies.sh
source scripts/gpu_check/programs.sh

most_megabytes=60
build=build/bundle
version=$(sed -n 's/.*kVersion = "\(.*\)".*/\1/p' train/version.h)
name=riffle-$version-linux-$(uname -m)
archive=$(realpath -m "${1:-build/$name.tar.xz}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stage=$work/$name
programs=(riffle test_cuda_parity bench_cuda_kernels)

# The C library comes with the system: its parts must fit one another and the system's loader. Everything else is
# packed, libstdc++ too: the target's may be older than the one we were compiled against.
of_c_library='^(ld-linux.*|libc|libm|libpthread|libdl|librt|libresolv|libutil|libanl|linux-vdso)\.so'
of_nvidia='^lib(cuda|cudart|cudnn|cublas|nv)'

build_programs() {
  install_packages "${build_packages[@]}" "${test_packages[@]}" patchelf
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DRIFFLE_CUDA=ON -DRIFFLE_TESTS=ON >/dev/null
  cmake --build "$build" --target "${programs[@]}"
}

# Lines "name => path" of a program's or library's dependencies, those of the C library left out.
dependencies() {
  ldd "$@" | awk 'NF >= 3 && $2 == "=>" { print $1, $3 }' | sort -u | grep -vE "$of_c_library" || true
}

pack_programs() {
  mkdir -p "$stage/bin" "$stage/lib" "$stage/licenses"
  local program library path
  for program in "${programs[@]}"; do
    strip -o "$stage/bin/$program" "$build/$program"
    patchelf --set-rpath "\$ORIGIN/../lib" "$stage/bin/$program"
  done
  dependencies "${programs[@]/#/$build/}" >"$work/libraries"
  while read -r library path; do
    [ "$path" != not ] || { echo "error: $library was not found" >&2; exit 1; }
    if [[ $library =~ $of_nvidia ]]; then
      echo "error: a program links $library, which must be opened at run time instead" >&2
      exit 1
    fi
    strip -o "$stage/lib/$library" "$(readlink -f "$path")"
    patchelf --set-rpath "\$ORIGIN" "$stage/lib/$library"
    pack_license "$(readlink -f "$path")"
  done <"$work/libraries"
}

# The copyright file of the Debian package that a file is of.
pack_license() {
  local package
  package=$(dpkg-query -S "$1" "${1#/usr}" 2>/dev/null | head -n 1 | cut -d: -f1 || true)  # /lib is /usr/lib
  [ -n "$package" ] || { echo "error: no package owns $1, so its licence is not known" >&2; exit 1; }
  cp "/usr/share/doc/$package/copyright" "$stage/licenses/$package"
}

pack_files() {
  cp -r configs README.md docs scripts/gpu_check.sh scripts/gpu_check "$stage"
  mkdir -p "$stage/data/fashion-mnist"
  cp /usr/share/datasets/fashion-mnist/*.gz "$stage/data/fashion-mnist"
  pack_license /usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz
  if [ -f ../shared/peers/torch_bench.py ]; then
    mkdir "$stage/peers"
    cp ../shared/peers/torch_bench.py "$stage/peers"
  fi
  local glibc
  glibc=$(objdump -T "$stage"/bin/* "$stage"/lib/* | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
  cat >"$stage/BUNDLE" <<END
riffle $version
commit $(git rev-parse HEAD)$(git diff --quiet HEAD || echo ' with changes')
date $(date -u +%F)
needs glibc ${glibc#GLIBC_} or later, an NVIDIA driver (580 or later for CUDA 13) for CUDA, cuDNN 9 and cuBLAS
END
}

pack_archive() {
  mkdir -p "$(dirname "$archive")"
  # xz's window is large enough to find what the test programs have in common.
  tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner -c "$name" | xz -T1 --lzma2=preset=6,dict=128MiB >"$archive"
  local bytes
  bytes=$(stat -c %s "$archive")
  echo "== $archive: $((bytes / 1000000)) MB"
  [ "$bytes" -lt $((most_megabytes * 1000000)) ] || {
    echo "error: the archive has $bytes bytes; it must stay under $most_megabytes MB" >&2
    exit 1
  }
}

# Unpacks the archive and runs the CPU path with the build folder out of sight.
verify() {
  local unpacked=$work/elsewhere file library path
  mkdir "$unpacked"
  tar -xf "$archive" -C "$unpacked" --strip-components=1
  mv "$build" "$build.hidden"
  trap 'mv "$build.hidden" "$build"; rm -rf "$work"' EXIT
  for file in "$unpacked"/bin/* "$unpacked"/lib/*; do
    while read -r library path; do
      [ "$(realpath "$path")" = "$(realpath "$unpacked/lib/$library")" ] || {
        echo "error: $(basename "$file") would load $library from $path, which is not in the bundle" >&2
        exit 1
      }
    done < <(dependencies "$file")
  done
  first_images 64 "$unpacked/data/fashion-mnist" "$work/data"
  (
    cd "$work"
    riffle() { env -i PATH=/usr/bin:/bin "$unpacked/bin/riffle" "$@"; }
    riffle devices
    riffle train "$unpacked/configs/fashion_mnist.yaml" -o "$work/run" --device cpu "data.source=idx:$work/data" \
      train.duration=2ep train.batch=16
    riffle eval "$work/run/checkpoints/last.safetensors" --device cpu
  )
  echo "== the unpacked bundle computes on the CPU"
}

build_programs
pack_programs
pack_files
pack_archive
verify

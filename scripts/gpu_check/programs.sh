# Where the programs, the configuration and the data are.
# shellcheck shell=bash disable=SC2154,SC2034  # bundle, data, emulated, here, out: of gpu_check.sh

# Sets root (of the bundle or build folder), program_folders and resources (the folder with configs/).
open_bundle() {
  if [ -z "$bundle" ]; then
    if [ -f "$here/BUNDLE" ]; then bundle=$here; else bundle=$here/../build/test; fi
  fi
  if [ -f "$bundle" ]; then
    mkdir -p "$out/bundle"
    tar -xf "$bundle" -C "$out/bundle" --strip-components=1 || die_usage "cannot unpack $bundle"
    bundle=$out/bundle
  fi
  [ -d "$bundle" ] || die_usage "there is no bundle at $bundle; scripts/bundle.sh makes one"
  root=$(cd "$bundle" && pwd)
  if [ -f "$root/BUNDLE" ]; then
    program_folders=("$root/bin") resources=$root
  else
    program_folders=("$root" "$root/tests/cuda") resources=$here/..
  fi
  if [ -n "$emulated" ]; then
    riffle=$(program riffle-emulated) || die_usage "no riffle-emulated in $root: --emulated needs a build folder with tests"
  else
    riffle=$(program riffle) || die_usage "there is no program riffle in $root"
  fi
}

# Where the program itself finds no cuDNN or cuBLASLt, python3 is asked for the folders of its packages, so that the
# other checks run; part 1 records it as a failure.
find_libraries() {
  libraries_note=''
  [ -z "$emulated${RIFFLE_CUDA_LIBRARIES:-}" ] && command -v python3 >/dev/null || return 0
  "$riffle" devices 2>/dev/null | grep -q '^auto *CUDA' && return
  local folders
  folders=$(python3 -c 'import glob, sys
print(":".join(f for p in sys.path for f in sorted(glob.glob(p + "/nvidia/*/lib"))))' 2>/dev/null)
  [ -n "$folders" ] || return 0
  export RIFFLE_CUDA_LIBRARIES=$folders
  if "$riffle" devices 2>/dev/null | grep -q '^auto *CUDA'; then
    libraries_note="not found by the program, which needs RIFFLE_CUDA_LIBRARIES=$folders"
  else
    unset RIFFLE_CUDA_LIBRARIES
  fi
}

# program NAME: its path; fails if there is none.
program() {
  local folder
  for folder in "${program_folders[@]}"; do
    [ -x "$folder/$1" ] && echo "$folder/$1" && return
  done
  return 1
}

commit() {
  if [ -f "$root/BUNDLE" ]; then
    sed -n 's/^commit //p' "$root/BUNDLE"
  else
    git -C "$here" rev-parse HEAD 2>/dev/null || echo unknown
  fi
}

# Sets fashion_mnist, empty where there is none.
find_fashion_mnist() {
  fashion_mnist=''
  local folder
  for folder in "$data" "$root/data/fashion-mnist" /usr/share/datasets/fashion-mnist; do
    [ -n "$folder" ] && [ -f "$folder/train-images-idx3-ubyte.gz" ] && fashion_mnist=$folder && return
  done
  [ -z "$data" ] || die_usage "--data $data has no train-images-idx3-ubyte.gz"
}

# bytes SKIPPED COUNT: of standard input, which is read to its end, so that its writer does not fail.
bytes() { tail -c +$(($1 + 1)) | { head -c "$2"; cat >/dev/null; }; }

# first_images COUNT FROM TO: an IDX data set of the first images (under 256) of both parts, for tiny runs.
first_images() {
  local count=$1 from=$2 to=$3 part byte
  byte=\\x$(printf %02x "$count")
  mkdir -p "$to"
  for part in train t10k; do
    {  # magic number, images, height, width, all big endian
      printf '%b' '\0\0\x08\x03\0\0\0' "$byte" '\0\0\0\x1c\0\0\0\x1c'
      gzip -dc "$from/$part-images-idx3-ubyte.gz" | bytes 16 $((count * 784))
    } | gzip >"$to/$part-images-idx3-ubyte.gz"
    {
      printf '%b' '\0\0\x08\x01\0\0\0' "$byte"
      gzip -dc "$from/$part-labels-idx1-ubyte.gz" | bytes 8 "$count"
    } | gzip >"$to/$part-labels-idx1-ubyte.gz"
  done
}

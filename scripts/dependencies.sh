# Sourced by the other scripts: installs the Debian (12 or later) or Ubuntu (24.04 or later) packages that are missing.
# install_packages PACKAGE...

install_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  command -v apt-get >/dev/null || {
    echo "error: these packages are missing, and apt-get is not here to install them: ${missing[*]}" >&2
    return 1
  }
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
      echo "error: run as root, or install these packages first: ${missing[*]}" >&2
      return 1
    }
    sudo=(sudo)
  fi
  echo "== installing ${missing[*]}"
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# What the program needs to be built. docs/architecture.md says what each one is for.
build_packages=(g++ cmake ninja-build libdnnl-dev libyaml-cpp-dev libcli11-dev nlohmann-json3-dev libzip-dev
                libjpeg-dev libpng-dev zlib1g-dev protobuf-compiler libprotobuf-dev)
test_packages=(libgtest-dev dataset-fashion-mnist python3-venv)  # venv: reads event files back with TensorBoard
# Reports are looked at in a browser; Ubuntu's chromium is a snap, which containers cannot install.
if grep -qs '^ID=debian' /etc/os-release; then test_packages+=(chromium); fi
benchmark_packages=(libbenchmark-dev)

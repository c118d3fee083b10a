#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages that this project needs and that are missing:
#   system-packages.sh python | window | test
# python: a virtual environment can be made; window: napari opens on a display; test: windows on a virtual screen.
# Without root or passwordless sudo it names what is missing and goes on: what works without them shall work.
# With CI=true a missing package is an error.
set -euo pipefail

python_packages=(python3-venv)
window_packages=(
  libdbus-1-3 libegl1 libfontconfig1 libgl1 libgl1-mesa-dri libglib2.0-0 libxcb-cursor0 libxcb-icccm4
  libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xkb1
  libxkbcommon-x11-0 libxkbcommon0
)
screen_packages=(xauth xvfb)

case "${1:-}" in
  python) wanted=() ;;
  window) wanted=("${window_packages[@]}") ;;
  test) wanted=("${window_packages[@]}" "${screen_packages[@]}") ;;
  *) echo "usage: $0 python|window|test" >&2; exit 2 ;;
esac
# A Python from elsewhere brings venv along; Debian's needs a package for it.
if ! "${PYTHON:-python3}" -c "import ensurepip, venv" 2>/dev/null; then
  wanted+=("${python_packages[@]}")
fi

# Other systems come with these libraries or name them differently.
command -v dpkg-query >/dev/null || exit 0

# Debian's move to 64-bit times renamed some libraries (libglib2.0-0t64).
installed() {
  local package
  for package in "$1" "$1t64"; do
    if dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed; then
      return 0
    fi
  done
  return 1
}

missing=()
for package in "${wanted[@]}"; do
  installed "$package" || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -eq 0 ]; then
  as_root=()
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
  as_root=(sudo)
else
  echo "System packages are missing; without administrator rights some things may not work:" >&2
  echo "  sudo apt-get install ${missing[*]}" >&2
  [ "${CI:-}" != true ]
  exit
fi

echo "Installing system packages: ${missing[*]}"
install() {
  "${as_root[@]}" apt-get -qq update &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get -qq install --yes --no-install-recommends "${missing[@]}" >/dev/null
}
if ! install; then
  echo "The system packages could not be installed; without them some things may not work: ${missing[*]}" >&2
  [ "${CI:-}" != true ]
fi

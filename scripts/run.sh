#!/usr/bin/env bash
# Shows the analysis of a bundled micrograph: in napari where there is a display, else as a figure.
set -euo pipefail

program="${1:?usage: run.sh PROGRAM, the installed hrstem-defects}"
if [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ] || [ "$(uname)" = Darwin ]; then
  exec "$program" view
fi

sample="sample_data/gaas_twin.tif"
out="results"
echo "There is no display: analysing $sample on the command line."
"$program" analyze "$sample" --out "$out" --overwrite
echo
echo "The figure is $PWD/$out/$(basename "$sample" .tif)/overview.png; tables and masks lie beside it."

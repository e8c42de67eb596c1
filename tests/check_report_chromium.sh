#!/usr/bin/env bash
# Opens a report in headless Chromium at 1280 and 390 pixels, light and dark, with and without JavaScript: the script must
# run to its end without an error and draw every chart, and the page must be readable without it.
# Usage: check_report_chromium.sh PATH/riffle PATH/test_report_page [FOLDER for the screenshots]
# Exit code 77 (skipped) where there is no Chromium: apt-get install chromium.
set -euo pipefail
cd "$(dirname "$0")/.."

usage="usage: $0 PATH/riffle PATH/test_report_page [FOLDER]"
riffle=$(realpath "${1:?$usage}")
test_program=$(realpath "${2:?$usage}")
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -z "$browser" ]; then
  echo "skipped: no Chromium here (apt-get install chromium)"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
shots=${3:-$work/screenshots}
mkdir -p "$shots"
shots=$(realpath "$shots")

fail() {
  echo "check_report_chromium.sh: $*" >&2
  exit 1
}

# Chromium's sandbox needs a user other than root; the pages are our own.
chromium() {
  timeout 60 "$browser" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars \
    --no-first-run --disable-background-networking --force-device-scale-factor=1 --user-data-dir="$work/profile" \
    --allow-file-access-from-files --enable-logging=stderr "$@"
}

# Two runs, one of them evaluated, with a class name that is HTML; the other was killed in the middle of a line.
RIFFLE_REPORT_EXCHANGE=$work "$test_program" --gtest_filter=ReportExchange.WritesRuns --gtest_brief=1
printf '{"type":"tra' >>"$work/run-b/metrics.jsonl"
"$riffle" report "$work/run-a" "$work/run-b" --out "$work/report.html" 2>"$work/warnings"
grep -q 'not a whole record' "$work/warnings" || fail "the broken line was not reported"

# A window cannot be narrower than 500 pixels, so the page is shown in a frame; one that is sandboxed runs no scripts.
frame() { # width, attributes
  echo "<!DOCTYPE html><body style='margin:0'><iframe $2 src=report.html style='border:0;width:${1}px;height:5200px'></iframe>"
}

screenshot() { # name, width, preferred colour scheme (0 dark, 1 light), attributes of the frame
  frame "$2" "$4" >"$work/frame.html"
  chromium --window-size=$(($2 < 500 ? 500 : $2)),5200 --blink-settings=preferredColorScheme="$3" \
    --screenshot="$shots/$1.png" "file://$work/frame.html" >"$work/log" 2>&1 || fail "no screenshot $1: $(cat "$work/log")"
  [ -s "$shots/$1.png" ] || fail "no screenshot $1"
  if grep -E 'CONSOLE.*(Error|error)' "$work/log" | grep -v 'sandboxed'; then fail "errors on the console of $1"; fi
}

for width in 1280 390; do
  screenshot "light-$width" "$width" 1 ""
  screenshot "dark-$width" "$width" 0 ""
done
screenshot "no-script-1280" 1280 1 sandbox
screenshot "no-script-390" 390 0 sandbox
cmp -s "$shots/light-1280.png" "$shots/dark-1280.png" && fail "light and dark look the same"
cmp -s "$shots/light-1280.png" "$shots/no-script-1280.png" && fail "the script changes nothing"

# The page as it is after its script ran, with the network cut off.
dom() { chromium --host-resolver-rules='MAP * ~NOTFOUND' --virtual-time-budget=3000 --dump-dom "$1" 2>"$work/log"; }
dom "file://$work/report.html" >"$work/dom.html"
grep -q 'data-script="finished"' "$work/dom.html" || fail "the script did not finish: $(cat "$work/log")"
grep -q 'CONSOLE.*Uncaught' "$work/log" && fail "$(cat "$work/log")"
charts=$(grep -c '<figure class="chart"' "$work/report.html")
drawn=$(grep -o 'clip-path' "$work/dom.html" | wc -l)
[ "$charts" -ge 6 ] || fail "$charts charts"
[ "$drawn" -ge "$charts" ] || fail "$drawn curves in $charts charts"
grep -qE '<[a-z]+ data-hostile' "$work/dom.html" && fail "a class name became an element"

# A page whose script drives the report's: zoom by dragging, readout, switches, sorting.
cp tests/check_report_interaction.html "$work/interaction.html"
dom "file://$work/interaction.html" >"$work/interaction.dom"
grep -q 'data-verdict="passed"' "$work/interaction.dom" ||
  fail "interaction: $(grep -o 'data-verdict="[^"]*"' "$work/interaction.dom" || cat "$work/log")"
echo "the report works in $("$browser" --version 2>/dev/null): $charts charts, $drawn curves; zoom, readout, switches, sorting"

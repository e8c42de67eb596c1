# report.md and report.json, from the folders of all parts that were run.
# shellcheck shell=bash disable=SC2154

gpu_name() {
  if [ -n "$emulated" ]; then
    echo 'none: the emulated device'
  elif command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1
  else
    "$riffle" devices 2>/dev/null | sed -n 's/^ *cuda:0 \([^,]*\),.*/\1/p'
  fi
}

driver_version() {
  local version=''
  command -v nvidia-smi >/dev/null &&
    version=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)
  echo "${version:-unknown}"
}

# After every part, so that whatever ends the run leaves a report of what was done. All of it is in three files.
write_reports() {
  local gpu driver
  gpu=$(gpu_name) driver=$(driver_version)
  write_json >"$out/report.json"
  write_markdown >"$out/report.md"
  (cd "$out" && find part? -type f \( -name '*.log' -o -name '*.md' -o -name '*.json*' -o -name '*.txt' \) -print0 |
    tar --null -czf logs.tar.gz --files-from=-)
}

report_result() {
  local number failed=0
  for number in 1 2 3 4 5 6; do
    [ -f "$out/part$number/checks.jsonl" ] && failed=$((failed + $(count fail "$out/part$number")))
  done
  echo "wrote report.md, report.json and logs.tar.gz in $out"
  [ "$failed" -eq 0 ] || {
    echo "$failed checks failed" >&2
    return 1
  }
}

write_markdown() {
  cat <<END
# GPU check

- GPU: ${gpu:-none found}
- Driver: $driver
- Commit: $(commit)
- Date: $started
- Host: $(uname -sr), $(nproc) CPUs
END
  [ -z "${libraries_note:-}" ] || echo "- Libraries: $libraries_note"
  [ -z "$emulated" ] || printf '\n%s\n' '**Emulated device, tiny runs: says that the script works, and nothing of any GPU.**'
  printf '\n| part | passed | failed | skipped | seconds |\n|---|---|---|---|---|\n'
  local number folder
  for number in 1 2 3 4 5 6; do
    folder=$out/part$number
    if [ -f "$folder/checks.jsonl" ]; then
      echo "| $number ${part_titles[number]} | $(count pass "$folder") | $(count fail "$folder") |" \
        "$(count skip "$folder") | $(cat "$folder/seconds" 2>/dev/null) |"
    else
      echo "| $number ${part_titles[number]} | not run | | | |"
    fi
  done
  for number in 1 2 3 4 5 6; do
    [ -f "$out/part$number/checks.jsonl" ] || continue
    printf '\n## Part %d: %s\n\n' "$number" "${part_titles[number]}"
    if grep -v '"status":"pass"' "$out/part$number/checks.jsonl" |
      sed 's/.*"check":"\(.*\)","status":"\([a-z]*\)".*"detail":"\(.*\)"}/- **\2** \1: \3/' | grep .; then
      echo
    fi
    cat "$out/part$number/section.md" "$out/part$number/failures.md"
  done
}

# A JSON array of the lines of the files that exist.
json_array() {
  cat "$@" 2>/dev/null | awk 'BEGIN { print "[" } { print (NR > 1 ? "," : "") $0 } END { print "]" }'
}

write_json() {
  printf '{"gpu":%s,"driver":%s,"commit":%s,"date":"%s","emulated":%s' "$(json_string "$gpu")" \
    "$(json_string "$driver")" "$(json_string "$(commit)")" "$started" "$([ -n "$emulated" ] && echo true || echo false)"
  printf ',"checks":%s' "$(json_array "$out"/part?/checks.jsonl)"
  printf ',"steps":%s' "$(json_array "$out/part5/steps.jsonl")"
  printf ',"layers":%s' "$(json_array "$out/part5/layers.jsonl")"
  printf ',"operations":%s' "$(json_array "$out/part5/operations.jsonl")"
  printf ',"pytorch":%s}\n' "$(json_array "$out"/part6/*-*.jsonl)"
}

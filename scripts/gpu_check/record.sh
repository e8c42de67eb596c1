# Checks and their results. Each part has a folder $out/partN with checks.jsonl, section.md and the logs of its commands.
# shellcheck shell=bash disable=SC2154  # out, minutes: of gpu_check.sh

part_titles=('' 'Devices and libraries' 'Test suites' 'compute-sanitizer' 'Training' 'Benchmarks' 'PyTorch beside them')

begin_part() {
  part=$1
  folder=$out/part$part
  [ "$part" = 6 ] || rm -rf "$folder"  # part 6 goes on where it stopped
  mkdir -p "$folder"
  : >"$folder/checks.jsonl"
  : >"$folder/section.md"
  part_end=$((SECONDS + 60 * minutes))
  echo "== part $part: ${part_titles[part]}"
}

end_part() {
  echo "== part $part: $(count pass "$folder") passed, $(count fail "$folder") failed, $(count skip "$folder") skipped"
}

seconds_left() { echo $((part_end - SECONDS)); }

# Markdown of the part's section, from the arguments or standard input.
say() {
  if [ $# -gt 0 ]; then printf '%s\n' "$@"; else cat; fi >>"$folder/section.md"
}

json_string() {
  printf '%s' "$1" | awk 'BEGIN { ORS = ""; print "\"" }
    { gsub(/\\/, "\\\\"); gsub(/"/, "\\\""); gsub(/\t/, " "); gsub(/[\001-\037]/, "")
      if (NR > 1) print "\\n"; print } END { print "\"" }'
}

# record NAME pass|fail|skip DETAIL [SECONDS]
record() {
  printf '{"part":%d,"check":%s,"status":"%s","seconds":%d,"detail":%s}\n' \
    "$part" "$(json_string "$1")" "$2" "${4:-0}" "$(json_string "$3")" >>"$folder/checks.jsonl"
  printf '   %-4s  %s%s\n' "$2" "$1" "${3:+: ${3%%$'\n'*}}"
}

# Number of checks of a status in a part's folder.
count() { grep -c "\"status\":\"$1\"" "$2/checks.jsonl"; }

# run NAME COMMAND...: runs it within the part's time; its output goes to $log. Sets status: 0, 124 for "time is up", or
# the command's own.
run() {
  local name=$1 left
  shift
  log=$folder/$(printf '%s' "$name" | tr -cs 'A-Za-z0-9._-' '_').log
  left=$(seconds_left)
  local begin=$SECONDS
  printf '$ %s\n' "$*" >"$log"
  status=124
  if [ "$left" -gt 0 ]; then
    timeout --kill-after=10 "$left" "$@" >>"$log" 2>&1
    status=$?
  fi
  took=$((SECONDS - begin))
}

# Why the last run failed, in a line. From its log: the last line that says error or failed, else the last line.
reason() {
  if [ "$status" -eq 124 ]; then
    echo "time is up: the part has ${minutes} minutes"
    return
  fi
  local line
  line=$(grep -iE 'error|failed|what\(\)' "$log" | tail -n 1)
  echo "exit code $status: ${line:-$(tail -n 1 "$log")} (see ${log#"$out"/})"
}

# check NAME COMMAND...: passes if the command exits with 0. Not reached because of the time: skipped.
check() {
  local name=$1
  if [ "$(seconds_left)" -le 0 ]; then
    record "$name" skip "not reached in $minutes minutes"
    status=124
    return 1
  fi
  run "$@"
  if [ "$status" -eq 0 ]; then
    record "$name" pass '' "$took"
  else
    record "$name" fail "$(reason)" "$took"
    return 1
  fi
}

# json_field NAME LINE: a number, a word or a string of one line of JSON without blanks between its parts.
json_field() {
  local rest=${2#*"\"$1\":"}
  case $rest in
    \"*) rest=${rest#\"} && printf '%s' "${rest%%\"*}" ;;
    *) printf '%s' "${rest%%[,\}]*}" ;;
  esac
}

# Checks and their results. Each part has a folder $out/partN with checks.jsonl, section.md and the logs of its commands.
# shellcheck shell=bash disable=SC2154  # out, minutes: of gpu_check.sh

child='' running='' run_end=''

part_titles=('' 'Devices and libraries' 'Test suites' 'compute-sanitizer' 'Training' 'Benchmarks' 'PyTorch beside them')

begin_part() {
  part=$1
  folder=$out/part$part
  [ "$part" = 6 ] || rm -rf "$folder"  # part 6 goes on where it stopped
  mkdir -p "$folder"
  : >"$folder/checks.jsonl"
  : >"$folder/section.md"
  : >"$folder/failures.md"
  part_begin=$SECONDS
  part_end=$((SECONDS + 60 * minutes))
  if [ -n "$run_end" ] && [ "$part_end" -gt "$run_end" ]; then part_end=$run_end; fi
  echo "== part $part: ${part_titles[part]}"
}

end_part() {
  echo $((SECONDS - part_begin)) >"$folder/seconds"
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

# SIGTERM and the like: what was under way has failed, and the report says so.
stop_early() {
  trap '' TERM INT HUP
  [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
  record "${running:-part $part}" fail 'stopped from outside'
  end_part
  write_reports
  exit 143
}

# Number of checks of a status in a part's folder.
count() { grep -c "\"status\":\"$1\"" "$2/checks.jsonl"; }

# run NAME COMMAND...: runs it within the part's time; its output goes to $log. Sets status: 0, 124 for "time is up", or
# the command's own.
run() {
  running=$1
  shift
  local left begin=$SECONDS
  log=$folder/$(printf '%s' "$running" | tr -cs 'A-Za-z0-9._-' '_').log
  left=$(seconds_left)
  printf '$ %s\n' "$*" >"$log"
  status=124
  if [ "$left" -gt 0 ]; then
    timeout --kill-after=10 "$left" "$@" >>"$log" 2>&1 &
    child=$!
    wait "$child"  # which a signal ends, as it would not end a command in the foreground
    status=$?
    child=''
  fi
  took=$((SECONDS - begin))
}

# Why the last run failed, in a line. From its log: the last line that says error or failed, else the last line.
reason() {
  if [ "$status" -eq 124 ]; then
    echo "time is up: the part has ${minutes} minutes${total:+, all of them $total}"
    return
  fi
  local line
  line=$(grep -iE 'error|failed|what\(\)' "$log" | tail -n 1)
  echo "exit code $status: ${line:-$(tail -n 1 "$log")} (see ${log#"$out"/})"
}

# What of the last run's log a reader of the report needs: of tests the failures, of compute-sanitizer its findings, of
# everything else the end.
excerpt() {
  if grep -q '^\[  FAILED' "$log"; then
    grep -E -A 6 ': Failure$|C\+\+ exception' "$log" | head -n 40
    grep '^\[  FAILED  \]' "$log" | sort -u | head -n 20
  elif grep -q '^=========' "$log"; then
    grep -m 40 '^=========' "$log"
    tail -n 5 "$log"
  else
    tail -n 30 "$log"
  fi | cut -c1-240
}

# record_failure NAME: of the last run. The first dozen of a part's failures come with an excerpt of their logs.
record_failure() {
  record "$1" fail "$(reason)" "$took"
  [ "$(count fail "$folder")" -le 12 ] || return
  printf '\n%s\n\n' "**$1**, \`${log#"$out"/}\`:" >>"$folder/failures.md"
  excerpt | sed 's/^/    /' >>"$folder/failures.md"
}

# check NAME COMMAND...: passes if the command exits with 0. Not reached because of the time: skipped.
check() {
  if [ "$(seconds_left)" -le 0 ]; then
    record "$1" skip "not reached in $minutes minutes${total:+, or $total for all parts}"
    status=124
    return 1
  fi
  run "$@"
  if [ "$status" -eq 0 ]; then
    record "$1" pass '' "$took"
  else
    record_failure "$1"
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

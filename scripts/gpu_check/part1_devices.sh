# Part 1: what riffle and the driver say of the machine.
# shellcheck shell=bash disable=SC2154

run_part_1() {
  local fields=name,driver_version,memory.total,pcie.link.gen.max,clocks.max.sm,clocks.max.mem,power.limit
  if command -v nvidia-smi >/dev/null; then
    check nvidia-smi nvidia-smi --query-gpu="$fields" --format=csv,noheader &&
      say '`'"$fields"'`:' '' '```' "$(tail -n +2 "$log")" '```' ''
  else
    record nvidia-smi skip 'there is no nvidia-smi here'
  fi
  [ -z "$libraries_note" ] || record 'libraries are found' fail "$libraries_note"
  check 'riffle devices' "$riffle" devices || return
  say '```' "$(tail -n +2 "$log")" '```'
  if grep -q '^cuda *usable' "$log"; then
    record 'a GPU can be used' pass "$(sed -n 's/^ *cuda:0 //p' "$log")"
  else
    record 'a GPU can be used' fail "$(sed -n 's/^cuda *//p' "$log")"
  fi
  check 'libraries work: a step of training' "$riffle" bench --device cuda --width 0.5x --size 32 --batch 2 --steps 1 \
    --repeats 1
}

# Part 6: the same steps in PyTorch. torch.compile takes a minute a case, so that not all fit into one part's time: the
# part goes on where it stopped when it is run again with the same --out.
# shellcheck shell=bash disable=SC2154

run_part_6() {
  if [ -n "$emulated" ]; then
    record PyTorch skip 'torch is not compared with the emulated device'
    return
  fi
  local torch_bench='' candidate
  for candidate in "$resources/peers/torch_bench.py" "$here/../../shared/peers/torch_bench.py"; do
    [ -f "$candidate" ] && torch_bench=$candidate && break
  done
  if [ -z "$torch_bench" ]; then
    record torch_bench.py skip 'not in this bundle'
    return
  fi
  if ! python3 -c 'import torch, torchvision; assert torch.cuda.is_available()' 2>"$folder/import.log"; then
    record PyTorch skip "python3 has no torch and torchvision that find a GPU: $(tail -n 1 "$folder/import.log")"
    return
  fi
  local width batch mode dtype
  # The ones to compare first come first: what is not reached is measured when the part is run again.
  for width in 1.0 0.5; do
    for batch in 256 1024; do
      for mode in train infer; do
        # Its fp32 allows TF32: the one to compare with Riffle's tf32.
        for dtype in bf16 fp32; do torch_case "$torch_bench" "$mode" "$width" "$batch" "$dtype"; done
      done
    done
  done
  torch_table
}

torch_case() {
  local name="$2 ${3}x, batch $4, $5" file=$folder/$2-$3-$4-$5.jsonl
  if [ -s "$file" ]; then
    record "$name" pass 'measured before'
    return
  fi
  check "$name" python3 "$1" --device cuda --all --mode "$2" --width "$3" --batch "$4" --dtype "$5" || return
  grep '^{' "$log" >"$file"
}

torch_table() {
  local file best
  say '| mode | width | batch | dtype | images/s | channels last, compile, graphs |' '|---|---|---|---|---|---|'
  for file in "$folder"/*-*.jsonl; do
    [ -f "$file" ] || continue
    best=$(grep '^{"best"' "$file" | sed 's/": /":/g; s/, "/,"/g')
    printf '| %s | %sx | %s | %s | %s | %s, %s, %s |\n' "$(json_field mode "$best")" "$(json_field width "$best")" \
      "$(json_field batch "$best")" "$(json_field dtype "$best")" "$(json_field images_per_s "$best")" \
      "$(json_field channels_last "$best")" "$(json_field compile "$best")" "$(json_field cuda_graphs "$best")" | say
  done
}

#!/usr/bin/env bash
# `qkv lab` from end to end, at sizes that take seconds. Usage: QKV SOURCE_DIR
set -uo pipefail
qkv=$1 root=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failures=0
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }
# expect STATUS TEXT COMMAND...: the command exits so and what it prints (either way) holds the text.
expect() {
  local status=$1 text=$2 got=0; shift 2
  "$@" > "$dir/stdout" 2> "$dir/stderr" < /dev/null || got=$?
  if [ "$got" != "$status" ] || ! cat "$dir/stdout" "$dir/stderr" | grep > /dev/null -F -- "$text"; then
    fail "$*"; echo "  wanted status $status and '$text', got status $got and: $(cat "$dir/stdout" "$dir/stderr" | head -c 800)"
  fi
}
# holds N PATTERN: standard output has N lines with it.
holds() { [ "$(grep -cE -- "$2" "$dir/stdout")" = "$1" ] || fail "wanted $1 lines with $2, got: $(head -c 800 "$dir/stdout")"; }
# takes TEXT: standard error, which is no terminal, says what will be done and how long that takes.
takes() { grep -qE -- "$1.*; (about [0-9:]+( s)?|a few seconds) with [0-9]+ thread" "$dir/stderr" || fail "wanted '$1' and a duration, got: $(head -c 800 "$dir/stderr")"; }
# An SVG that is whole and draws something.
chart() { grep -q "</svg>" "$1" && grep -q "class='m'" "$1" && ! grep -q "no data" "$1" || fail "$1 is no chart: $(head -c 300 "$1")"; }
V="$root/tests/data/valid.tsv" M="$root/models/en-de"

# What attention costs: 6 paths, 2 passes but for the decode step's, 2 lengths.
expect 0 "reference ms" "$qkv" lab cost --lengths 8,16 --heads 2 --d-head 8 --svg "$dir/cost.svg"
holds 4 '^(8|16) '
takes "2 lengths, 6 paths"
chart "$dir/cost.svg"
expect 0 '"path":"window 4"' "$qkv" lab cost --lengths 16,8 --heads 2 --d-head 8 --window 4 --dtype f32 --json
holds 22 '"bytes":[1-9]'
holds 4 '"path":"whole rows"'
holds 2 '"pass":"forward","path":"decode step","queries":1[,}]'
[ "$(head -1 "$dir/stdout" | grep -c '"length":8')" = 1 ] || fail "lengths do not rise"
expect 0 "" "$qkv" lab cost --lengths 8 --heads 1 --d-head 4 --threads 1
takes "1 length, 6 paths"
holds 1 '^forward: 1 head of 4, '
expect 0 " -  " "$qkv" lab cost --lengths 8,64 --heads 1 --d-head 8 --most-seconds 1e-4
# Memory is that of one call, and grows with the length, not with its square, whatever ran before.
expect 0 "" "$qkv" lab cost --lengths 512,2048 --heads 1 --d-head 16 --dtype f32 --threads 1 --most-seconds 0.3 --json
bytes() { grep "\"path\":\"blocked\"" "$dir/stdout" | grep '"pass":"forward"' | grep "\"length\":$1[,}]" | sed 's/.*"bytes":\([0-9]*\).*/\1/'; }
[ "$(bytes 2048)" -lt $((8 * $(bytes 512))) ] || fail "blocked memory: $(bytes 512) for 512, $(bytes 2048) for 2048"

# Which heads matter: 36 heads of the shipped model.
expect 0 "encoder layer 1" "$qkv" lab heads "$M" --pairs "$V" --limit 2 --svg "$dir/heads.svg"
holds 9 '^(encoder|decoder|cross) layer'
takes "37 passes over 2 pairs"
chart "$dir/heads.svg"
cut -f1 "$V" | head -2 > "$dir/src"; cut -f2 "$V" | head -2 > "$dir/ref"
expect 0 '"metric":"chrf"' "$qkv" lab heads "$M" --data "$dir/src" "$dir/ref" "$dir/ref" --metric chrf --limit 1 --noise 1 --json
holds 72 '"harm"'
holds 36 '"with_noise"'
# Pruning, on a model of four heads.
small="--vocab-size 300 --encoder-layers 1 --decoder-layers 1 --d-model 16 --d-ff 16 --n-heads 1 --max-epochs 0 --max-steps 1 --bleu-sentences 0 --quiet"
"$qkv" train translate --pairs "$V" --valid-pairs "$V" $small --out "$dir/run" > /dev/null 2>&1 || fail "train"
expect 0 "heads left" "$qkv" lab heads "$dir/run" --pairs "$V" --limit 5 --prune --svg "$dir/prune.svg"
holds 3 '^(encoder|decoder|cross) 1.1 '
grep -q "Heads removed" "$dir/prune.svg" || fail "no curve"

# Positions: every encoding, short and long.
tiny="--steps 3 --length 8 --batch 2 --d-model 16 --n-layers 1"
expect 0 "No model can go below" "$qkv" lab positions $tiny --times 2 --svg "$dir/positions.svg"
holds 8 '^(none|sinusoidal|learned|shaw|t5|alibi|rope|transformer_xl) '
takes "8 models, 3 steps of 16 tokens each"
chart "$dir/positions.svg"
expect 0 '"positions":"rope:500 + window:4"' "$qkv" lab positions $tiny --times 4 --encodings 'rope:500 + window:4' --text "$V" --json
holds 3 '"loss":'

# Heads and widths.
expect 0 "d_k" "$qkv" lab sweep $tiny --n-heads 1,2 --d-k 4 --d-v 2,4 --svg "$dir/sweep.svg"
holds 4 '^[12] '
chart "$dir/sweep.svg"
expect 0 "" "$qkv" lab sweep $tiny --n-heads 3 --d-k 4 --d-v 4 --positions alibi --json
holds 1 '"n_heads":3'

# Wrong calls say what would be right, before anything is trained.
expect 2 "lab needs one of these after it: cost, heads, positions, sweep" "$qkv" lab
expect 2 "Did you mean positions?" "$qkv" lab position
expect 2 "lengths" "$qkv" lab cost --lengths 0
expect 2 "lengths" "$qkv" lab cost --lengths 8,x
expect 2 "dtype" "$qkv" lab cost --dtype f16
expect 2 "is nan, needs to be a number above 0" "$qkv" lab cost --most-seconds nan
expect 2 "is inf, needs to be a number above 0" "$qkv" lab positions --lr inf
expect 1 "No such file or directory" "$qkv" lab cost --lengths 8 --heads 1 --d-head 4 --svg "$dir/no/where.svg"
# Before the work, not after it: this would take minutes.
expect 1 "No such file or directory" timeout 20 "$qkv" lab positions --steps 100000 --svg "$dir/no/where.svg"
expect 1 "No such file or directory" timeout 20 "$qkv" lab heads "$M" --pairs "$V" --prune --svg "$dir/no/where.svg"
expect 2 "is 1e308, needs to be a number above 0, at most 1000" "$qkv" lab heads "$M" --pairs "$V" --noise 1e308
expect 2 "--data SOURCE REFERENCE, or --pairs" "$qkv" lab heads "$M"
expect 1 "no such directory" "$qkv" lab heads "$dir/nowhere" --pairs "$V"
expect 2 "there are loss, bleu, chrf" "$qkv" lab heads "$M" --pairs "$V" --metric ter
head -1 "$dir/src" > "$dir/one"
expect 1 "line counts differ" "$qkv" lab heads "$M" --data "$dir/one" "$dir/ref"
expect 2 "did you mean rope" "$qkv" lab positions $tiny --encodings none,rop
expect 2 "says nothing about positions" "$qkv" lab positions $tiny --encodings scaled_dot
expect 2 "does not divide" "$qkv" lab positions $tiny --n-heads 3
expect 1 "too few" "$qkv" lab positions $tiny --text "$dir/one"
expect 2 "is too much for" "$qkv" lab positions $tiny --times 256 --text "$V"
expect 2 "needs 8 or more" "$qkv" lab positions --length 4
[ "$failures" = 0 ] && echo "passed" || { echo "$failures failed"; exit 1; }

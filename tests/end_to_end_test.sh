#!/usr/bin/env bash
# Trains on a few hundred real pairs and translates with the result, through the real program. Usage: QKV SOURCE_DIR
set -euo pipefail
qkv=$1 root=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

"$qkv" train translate --pairs "$root/tests/data/train.tsv" --valid-pairs "$root/tests/data/valid.tsv" --out "$dir/run" \
  --vocab-size 500 --encoder-layers 1 --decoder-layers 1 --d-model 64 --d-ff 128 --n-heads 4 --dropout 0.3 \
  --lr 0.003 --warmup 50 --batch-tokens 600 --max-epochs 0 --max-steps 600 --validate-every 100 --save-every 100 --average 2 --quiet

# The fixed bar: 6.2 nats a token before training, 4.4 for a model that has learned word frequencies, 3.61 measured.
loss=$(sed -n '/"last"/,/}/s/.*"loss": \([0-9.]*\).*/\1/p' "$dir/run/summary.json" | head -1)
echo "validation loss $loss"
awk -v l="$loss" 'BEGIN { exit !(l > 0 && l < 3.75) }' || fail "validation loss $loss is not below 3.75"

# Ten sentences are learned by heart, which takes an encoder, a decoder and attention between them that work.
head -10 "$root/tests/data/train.tsv" > "$dir/ten"
"$qkv" train translate --pairs "$dir/ten" --valid-pairs "$dir/ten" --out "$dir/ten_run" --vocab-size 300 --encoder-layers 2 \
  --decoder-layers 2 --d-model 64 --d-ff 128 --n-heads 4 --dropout 0 --lr 0.003 --warmup 50 --max-epochs 0 --max-steps 150 \
  --validate-every 50 --save-every 50 --average 0 --quiet
cut -f2 "$dir/ten" > "$dir/ten_ref"
cut -f1 "$dir/ten" | "$qkv" translate --model "$dir/ten_run" | cmp - "$dir/ten_ref" || fail "ten sentences were not learned by heart"
# So do other kinds of attention; positions then enter there alone.
n=0
for kind in 'rope|qk_norm + sink' 't5|dot + soft_cap:20' 'transformer_xl|scaled_dot'; do
  "$qkv" train translate --pairs "$dir/ten" --valid-pairs "$dir/ten" --out "$dir/kind$((++n))" --vocab-size 300 --encoder-layers 1 \
    --decoder-layers 1 --d-model 64 --d-ff 128 --n-heads 4 --dropout 0 --lr 0.003 --warmup 50 --max-epochs 0 --max-steps 300 \
    --validate-every 300 --save-every 300 --average 0 --quiet --positions "${kind%|*}" --encoder-attention "${kind#*|}" --decoder-attention "${kind#*|}"
  cut -f1 "$dir/ten" | "$qkv" translate --beam 1 --model "$dir/kind$n" | cmp - "$dir/ten_ref" || fail "ten sentences were not learned by heart by $kind"
done

# Output line n belongs to input line n, empty lines stay empty.
printf 'I know.\n\nWho are you?\r\n' > "$dir/in"
"$qkv" translate --model "$dir/run" --beam 3 < "$dir/in" > "$dir/out"
[ "$(wc -l < "$dir/out")" = 3 ] || fail "3 lines in, $(wc -l < "$dir/out") out"
[ -z "$(sed -n 2p "$dir/out")" ] || fail "an empty line became '$(sed -n 2p "$dir/out")'"
[ -n "$(sed -n 1p "$dir/out")" ] || fail "no translation"

# Sentences of the call are its lines; a person at a terminal is told what to do.
[ "$("$qkv" translate 'I know.' '' 'Who are you?' --model "$dir/run" --beam 3)" = "$(cat "$dir/out")" ] || fail "sentences in the call"
[ "$("$qkv" translate --model "$dir/run" train | wc -l)" = 1 ] || fail "a sentence that is the name of a command"
if echo | script -qec true /dev/null > /dev/null 2>&1; then
  (sleep 2; printf '\004') | script -qec "'$qkv' translate --model '$dir/run'" /dev/null | grep > /dev/null 'type sentences, one a line; Ctrl-D ends' || fail "a terminal is not told"
fi

cut -f1 "$root/tests/data/valid.tsv" > "$dir/src"; cut -f2 "$root/tests/data/valid.tsv" > "$dir/ref"
# The same sentence alone, in a batch, on one thread and on two.
"$qkv" translate --model "$dir/run" --scores --beam 4 -i "$dir/src" > "$dir/all"
"$qkv" translate --model "$dir/run" --scores --beam 4 --batch-size 1 --threads 1 -i "$dir/src" > "$dir/alone"
cmp "$dir/all" "$dir/alone" || fail "translations depend on the batch or the threads"

gzip -c "$dir/src" | "$qkv" translate --model "$dir/run" --scores --beam 4 | cmp - "$dir/all" || fail "gzipped lines are read otherwise"

# n-best, JSON, alignment and page.
[ "$(echo 'I know.' | "$qkv" translate --model "$dir/run" --nbest 3 | grep -c '|||')" = 3 ] || fail "n-best"
echo 'I know.' | "$qkv" translate --model "$dir/run" --align | grep -Eq '\|\|\| [0-9]+-[0-9]+' || fail "alignment"
echo 'I know.' | "$qkv" translate --model "$dir/run" --align --json | grep > /dev/null '"alignment":"' || fail "JSON"
echo 'I know.' | "$qkv" translate --model "$dir/run" --html "$dir/page.html" > /dev/null 2>&1
grep -q 'Content-Security-Policy' "$dir/page.html" || fail "page"
"$qkv" info "$dir/run" --json | grep > /dev/null '"model_type":"marian"' || fail "info"

# A timeline beside the same translations.
echo 'I know.' | "$qkv" translate --model "$dir/run" --trace "$dir/trace.json" > "$dir/traced" 2> "$dir/told"
echo 'I know.' | "$qkv" translate --model "$dir/run" | cmp - "$dir/traced" || fail "a trace changes a translation"
grep -q '^trace: [1-9][0-9]* spans in ' "$dir/told" || fail "trace: $(cat "$dir/told")"
grep -q '"name":"decode_step"' "$dir/trace.json" && grep -q '"name":"attention".*"gflop_s"' "$dir/trace.json" || fail "trace"
"$qkv" bench gemm --shape 64x64x64 --trace "$dir/trace.json" 2> /dev/null | grep > /dev/null 'GFLOP/s peak' || fail "bench with a trace"
[ "$(grep -c '"name":"matmul","cat":"kernel"' "$dir/trace.json")" = 52 ] || fail "50 products and 2 to warm up are not in the trace"

# Searching alone, with weights that never learned: 16 sentences of exactly 32 tokens, which say something.
"$qkv" bench translate --case small-3+3x256-8k --beam 4 --batch 8 --reps 1 --json > "$dir/bench"
grep -q '"target_tokens":512,' "$dir/bench" || fail "bench translate: $(cat "$dir/bench")"
[ "$(sed 's/.*"distinct_tokens":\([0-9]*\).*/\1/' "$dir/bench")" -gt 100 ] || fail "bench translate repeats itself: $(cat "$dir/bench")"

# A score of its translations, with its signature.
"$qkv" translate --model "$dir/run" -i "$dir/src" -o "$dir/hyp"
"$qkv" score bleu --ref "$dir/ref" --json < "$dir/hyp" | grep > /dev/null '"signature"' || fail "score"

# The same model in 8 bits: smaller, judged before and after, and it translates.
"$qkv" quantize "$dir/run" --out "$dir/small" --pairs "$root/tests/data/valid.tsv" --beam 1 --json > "$dir/report"
for key in '"BLEU":{"after":' '"chrF2":{"after":' '"matrices":' '"worst_weight":'; do
  grep -qF "$key" "$dir/report" || fail "quantize does not report $key: $(cat "$dir/report")"
done
[ "$("$qkv" translate --model "$dir/small" -i "$dir/src" | wc -l)" = "$(wc -l < "$dir/src")" ] || fail "a model in 8 bits does not translate"
"$qkv" info "$dir/small" --load | grep > /dev/null 'loads for int8 in' || fail "info --load"
echo "passed"

# Threads have a processor each where all are used, and run anywhere where fewer are: the others may be somebody else's.
bound() {
  env -u OMP_PROC_BIND -u OMP_PLACES -u QKV_THREADS OMP_DISPLAY_ENV=true "$qkv" bench gemm --shape 8x8x8 "$@" 2>&1 > /dev/null |
    sed -n "s/.*OMP_PROC_BIND = '\([A-Z]*\).*/\1/p" | tail -1
}
if [ "$(nproc)" -gt 1 ]; then
  [ "$(bound)" = TRUE ] || fail "threads that use all processors are not bound to one each: $(bound)"
  for few in '-t 1' -t1 '--threads 1' --threads=1; do
    [ "$(bound $few)" = FALSE ] || fail "threads are bound with $few: $(bound $few)"
  done
fi

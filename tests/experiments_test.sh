#!/usr/bin/env bash
# Looking for settings: --find-lr suggests a rate and writes nothing; --sweep runs every combination, survives one that
# fails, ranks them, and when called again runs only what has no result. Usage: QKV SOURCE_DIR
set -euo pipefail
qkv=$1 root=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
train() {
  "$qkv" train translate --pairs "$root/tests/data/valid.tsv" --valid-pairs "$root/tests/data/valid.tsv" --vocab-size 400 \
    --encoder-layers 1 --decoder-layers 1 --d-model 16 --d-ff 16 --n-heads 2 --batch-tokens 300 --max-epochs 0 --max-steps 6 \
    --warmup 2 --validate-every 3 --save-every 3 --bleu-sentences 0 --dtype f32 --quiet "$@"
}

(cd "$dir" && train --optimizer lion --find-lr > "$dir/rates") || fail "find-lr"
grep -q -- "--lr [0-9.]*e-[0-9]*" "$dir/rates" || fail "no rate is suggested: $(tail -1 "$dir/rates")"
[ "$(ls "$dir")" = rates ] || fail "find-lr wrote $(ls "$dir")"

printf 'lr = [0.01, 1e30]\noptimizer = ["adamw", "muon"]\nr_drop = [1]\nema_decay = [0.9]\n' > "$dir/sweep.toml"
train --sweep "$dir/sweep.toml" --out "$dir/runs" --stochastic-depth 0.3 > "$dir/table" 2> "$dir/log" || fail "the sweep ended: $(cat "$dir/log")"
[ "$(head -1 "$dir/table" | tr -s ' ')" = "run score loss time weights" ] || fail "no header: $(cat "$dir/table")"
[ "$(grep -cE '^ema.*  - .* [0-9]+( s|:[0-9]{2}) ' "$dir/table")" = 2 ] && [ "$(grep -c 'failed: train: step' "$dir/table")" = 2 ] || fail "table: $(cat "$dir/table")"
[ -e "$dir/runs/ema_decay=0.9,lr=0.01,optimizer=muon,r_drop=1/ema/model.safetensors" ] || fail "no moving average: $(ls "$dir"/runs/*)"
before=$(sha256sum "$dir"/runs/*lr=0.01*/metrics.jsonl)
train --sweep "$dir/sweep.toml" --out "$dir/runs" --stochastic-depth 0.3 > "$dir/again" 2> /dev/null || fail "the sweep did not go on"
diff "$dir/table" "$dir/again" || fail "the second table differs"
[ "$before" = "$(sha256sum "$dir"/runs/*lr=0.01*/metrics.jsonl)" ] || fail "a finished run ran again"

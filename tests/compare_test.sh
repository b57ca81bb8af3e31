#!/usr/bin/env bash
# bench/compare.cc on commands whose numbers are known. Usage: BENCH_COMPARE
set -euo pipefail
compare=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
run() { "$compare" --pause 0 "$@"; }

# Half the time is twice as fast; so are twice the tokens a second.
run --peer 'echo "{\"med_ms\": 20}"' --ours 'echo "{\"med_ms\": 10}"' --rounds 3 | grep > /dev/null 'ours is 2.000 times as fast' || fail "a time"
run --peer 'echo "{\"tok_s\": 100}"' --ours 'echo "{\"tok_s\": 200}"' --rounds 3 | grep > /dev/null 'ours is 2.000 times as fast' || fail "a rate"
run --peer 'echo "{\"loss\": 3}"' --ours 'echo "{\"loss\": 1.5}"' --key loss --better less --rounds 1 | grep > /dev/null '2.000' || fail "--better"
# The last line that has the key counts, whatever stands around it; the peer's may have another name.
run --peer 'echo hello; echo "{\"t_ms\": 1}"; echo "{\"t_ms\": 30}"; echo "{\"other\": 1}"; echo "{"' --ours 'echo "{\"med_ms\": 10}"' \
  --key med_ms --peer-key t_ms --rounds 1 | grep > /dev/null 'ours is 3.000' || fail "the line that counts"

# The order changes from round to round, and each round has its ratio: 2, 4, 8 for ours at 10 and the peer at 20, 40, 80.
cat > "$dir/peer" <<'PEER'
echo P >> "$1/order"; n=$(grep -c P "$1/order"); echo "{\"med_ms\": $((10 << n))}"
PEER
ours="echo O >> '$dir/order'; echo '{\"med_ms\": 10}'"
run --peer "sh '$dir/peer' '$dir'" --ours "$ours" --key med_ms --rounds 3 --json > "$dir/json"
[ "$(tr -d '\n' < "$dir/order")" = POOPPO ] || fail "order $(tr -d '\n' < "$dir/order")"
for part in '"peer_med":40.0' '"ours_med":10.0' '"ratio":4.0' '"ratio_p25":3.0' '"ratio_p75":6.0' '"ratios":[2.0,4.0,8.0]'; do
  grep -qF "$part" "$dir/json" || fail "$part is not in $(cat "$dir/json")"
done

# Line by line: those of one shape belong together, in our order; and rows of a table.
lines() { printf 'echo "{\\"shape\\": \\"%s\\", \\"med_ms\\": %s}"; ' "$@"; }
run --peer "$(lines 9x9 40 10x9 10)" --ours "$(lines 10x9 10 9x9 10)" --key med_ms --by shape --rounds 2 --json > "$dir/json"
grep -o '"ratio":[0-9.]*\|"shape":[^}]*' "$dir/json" | tr '\n' ' ' | grep > /dev/null -F '"ratio":1.0 "shape":"10x9" "ratio":4.0 "shape":"9x9"' || fail "--by: $(cat "$dir/json")"
said() { printf "echo '{\"tok_s_med\": %s, \"peak_rss_mb\": %s, \"dtype\": \"bf16\", \"threads\": 2}'" "$@"; }
run --peer "$(said 10000 300)" --ours "$(said 12345.6 99.6)" --key tok_s_med --rounds 1 --markdown 'train x' |
  grep -qxF '| train x | bf16 | 2 | 10,000 tokens/s | 12,346 tokens/s | 1.23 (1.23 to 1.23) | 300 / 100 MB |' || fail "--markdown"

# expect STATUS TEXT ARGUMENTS...
expect() {
  local status=$1 text=$2 got=0; shift 2
  run "$@" > "$dir/out" 2>&1 || got=$?
  [ "$got" = "$status" ] && grep -qF -- "$text" "$dir/out" || fail "wanted $status and '$text', got $got and $(cat "$dir/out")"
}
good='echo "{\"med_ms\": 10}"'
expect 1 'ended with status 3' --peer 'exit 3' --ours "$good"
expect 1 'its last one has med_ms' --peer "$good" --ours "$good" --key tok_s
expect 1 'it prints none at all' --peer 'echo fast' --ours "$good" --key med_ms
expect 1 'name what to compare with --key' --peer 'echo fast' --ours "$good"
expect 1 'needs a number above 0' --peer 'echo "{\"med_ms\": 0}"' --ours "$good"
expect 1 'the peer alone prints a line with "shape" "9x9"' --peer "$(lines 9x9 40 10x9 10)" --ours "$(lines 10x9 10)" --key med_ms --by shape
expect 1 'no JSON line with a number "med_ms" and "shape"' --peer "$good" --ours "$good" --key med_ms --by shape
expect 2 '--ours is required' --peer "$good"
echo passed

#!/usr/bin/env bash
# script/compare with programs whose numbers are known in place of PyTorch, oneDNN and qkv. Usage: BENCH_COMPARE SOURCE_DIR
set -euo pipefail
compare=$1 root=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
for script in "$root"/script/* "$root"/bench/peers/*.sh; do bash -n "$script" || fail "$script"; done

# A build folder, and a Python. Each says what it was called with, and how long it took in surroundings that are its own.
ln -s "$compare" "$dir/bench_compare"
cat > "$dir/qkv" <<'QKV'
#!/bin/sh
[ "$1" != --version ] || { echo qkv 1.2.3; exit; }
echo "${QKV_ISA-all} $*" >> "$(dirname "$0")/calls"
[ -z "${OMP_PROC_BIND-}${MALLOC_TRIM_THRESHOLD_-}" ] || exit 1
for m in 1 2; do echo "{\"shape\": \"${m}x8x8\", \"med_ms\": 10, \"tok_s_med\": 10, \"gflops_med\": $m, \"dtype\": \"bf16\", \"threads\": 3, \"peak_rss_mb\": 5}"; done
QKV
cat > "$dir/python" <<'PYTHON'
#!/bin/sh
[ "$1" != -c ] || { echo 9.9; exit; }
echo "peer $*" >> "$(dirname "$0")/calls"
[ "$OMP_NUM_THREADS $OMP_PROC_BIND" = "3 true" ] && ! grep -q 'batch 32' "$(dirname "$0")/calls" || exit 1
echo '{"med_ms": 20, "tok_s_med": 5, "peak_rss_mb": 50}'
PYTHON
cat > "$dir/onednn_gemm" <<'ONEDNN'
#!/bin/sh
echo "{\"shape\": \"2x8x8\", \"gflops_med\": 8}"
echo "{\"shape\": \"1x8x8\", \"gflops_med\": 1}"
ONEDNN
chmod +x "$dir"/*
run() { "$root/script/compare" --build "$dir" --python "$dir/python" --pause 0 --rounds 2 --threads 3 "$@" 2> "$dir/told"; }

run train --only nmt --dtype bf16 --out "$dir/table" > "$dir/printed" || fail "train: $(cat "$dir/told")"
grep -qxF '| train nmt-3+3x256-8k | bf16 | 3 | 5 tokens/s | 10 tokens/s | 2.00 (2.00 to 2.00) | 50 / 5 MB |' "$dir/table" || fail "row: $(cat "$dir/table")"
cmp "$dir/table" "$dir/printed" || fail "--out is not what was printed"
grep -q 'qkv 1.2.3, PyTorch 9.9' "$dir/table" || fail "head: $(head -1 "$dir/table")"
grep -q 'one case, 2 rounds: about 1 min' "$dir/told" || fail "no time told: $(cat "$dir/told")"
grep -qxF 'all bench train --case nmt-3+3x256-8k --dtype bf16 --threads 3 --json' "$dir/calls" || fail "qkv: $(cat "$dir/calls")"
grep -qxF 'peer -B bench/peers/torch_train.py --case nmt-3+3x256-8k --dtype bf16 --threads 3' "$dir/calls" || fail "peer: $(cat "$dir/calls")"

# Products shape by shape, in qkv's order, on fewer instructions.
run gemm --dtype bf16 --isa avx2 > "$dir/printed" || fail "gemm: $(cat "$dir/told")"
grep -A1 -F '| gemm 1x8x8 | bf16 | 3 | 1 GFLOP/s | 1 GFLOP/s | 1.00' "$dir/printed" | grep > /dev/null -F '| gemm 2x8x8 | bf16 | 3 | 8 GFLOP/s | 2 GFLOP/s | 0.25' || fail "gemm: $(cat "$dir/printed")"
grep -q '^avx2 bench gemm' "$dir/calls" || fail "--isa does not reach qkv"

# A plan runs nothing; a case that fails is a row, and the next one goes on.
calls=$(wc -l < "$dir/calls")
run --plan > "$dir/printed" || fail "--plan"
[ "$(wc -l < "$dir/calls")" = "$calls" ] && grep -q 'beam 4, batch 32 int8' "$dir/printed" || fail "--plan: $(cat "$dir/printed")"
! run infer --only '32 bf16' > "$dir/printed" || fail "a failure is no success"
grep -qF '| BERT-base, 128 tokens, batch 32 | bf16 | 3 | failed |' "$dir/printed" && grep -q 'ended with status 1' "$dir/told" || fail "a failure: $(cat "$dir/printed")"

# What is missing, and wrong calls.
rm "$dir/onednn_gemm"
! "$root/script/compare" --build "$dir" --python "$dir/none" > "$dir/told" 2>&1 || fail "nothing to compare with is no success"
grep -q 'apt-get install libdnnl-dev' "$dir/told" && grep -q 'train infer attention translate.*python3-torch' "$dir/told" || fail "missing: $(cat "$dir/told")"
"$root/script/compare" -h | grep > /dev/null 'script/compare train attention --dtype bf16' || fail "no example"
for call in '--dtype f16' '--rounds 0' '--threads' '--isa sse' 'gem' '--out /no/such/file' 'infer --only nothing'; do
  status=0; run $call > /dev/null || status=$?
  [ "$status" = 2 ] || fail "$call: wanted 2, got $status and $(cat "$dir/told")"
done
echo passed

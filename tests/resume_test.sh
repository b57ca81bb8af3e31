#!/usr/bin/env bash
# A run killed with SIGKILL at three random moments and resumed ends in the same bits as one that was never interrupted; and
# SIGTERM saves and leaves with its own exit status. Usage: QKV SOURCE_DIR
set -euo pipefail
qkv=$1 root=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
# exec: a kill must reach the program itself, not a shell around it.
train() {
  exec "$qkv" train translate --pairs "$root/tests/data/train.tsv" --valid-pairs "$root/tests/data/valid.tsv" \
    --vocab-size 500 --encoder-layers 1 --decoder-layers 1 --d-model 32 --d-ff 64 --n-heads 2 --dropout 0.2 --attention-dropout 0.1 \
    --batch-tokens 800 --max-epochs 0 --max-steps 300 --validate-every 100 --save-every 10 --bleu-sentences 0 --average 2 --quiet "$@"
}
# All that a run leaves behind, but for times.
weights() { (cd "$1" && sha256sum last/model.safetensors best/model.safetensors average/model.safetensors && grep chosen summary.json) | sha256sum; }

start=$(date +%s%N)
(train --out "$dir/straight")
took=$(( ($(date +%s%N) - start) / 1000000 ))

train --out "$dir/killed" & pid=$!
for kill in 1 2 3; do
  sleep "$(awk -v t="$took" -v r="$RANDOM" 'BEGIN { printf "%.3f", t / 1000 * (0.1 + 0.25 * r / 32768) }')"
  kill -9 "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  # A kill before the first checkpoint leaves nothing to resume: then the run begins again.
  if ls "$dir"/killed/checkpoints/step-*/manifest.json > /dev/null 2>&1; then again=--resume; else again=; rm -rf "$dir/killed"; fi
  echo "kill $kill: $(ls "$dir/killed/checkpoints" 2>/dev/null | tail -1)"
  train --out "$dir/killed" $again & pid=$!
done
wait "$pid" || fail "the resumed run failed"
[ "$(weights "$dir/straight")" = "$(weights "$dir/killed")" ] || fail "weights differ after SIGKILL and --resume"
echo "equal weights: $(weights "$dir/straight")"

# SIGTERM: saved at the step it reached, exit status 130, resumable to the same bits; on another number of threads, and with
# gradient checkpointing, too.
status=0
for share in 2 4 8 16; do  # of the straight run's time; sooner where this run was done before the signal came
  rm -rf "$dir/term"
  train --out "$dir/term" & pid=$!
  sleep "$(awk -v t="$took" -v s="$share" 'BEGIN { printf "%.3f", t / 1000 / s }')"
  kill -TERM "$pid" 2>/dev/null || true
  status=0; wait "$pid" || status=$?
  [ "$status" = 0 ] || break
done
[ "$status" = 130 ] || fail "SIGTERM gave exit status $status"
"$qkv" train translate --out "$dir/term" --resume --threads 1 --gradient-checkpointing --quiet
[ "$(weights "$dir/straight")" = "$(weights "$dir/term")" ] || fail "weights differ after SIGTERM and --resume on one thread"

# A damaged newest checkpoint is named and passed over.
newest=$(ls -d "$dir"/killed/checkpoints/step-* | tail -1)
printf x | dd of="$newest/weights.safetensors" bs=1 seek=5000 conv=notrunc 2>/dev/null
"$qkv" train translate --out "$dir/killed" --resume > "$dir/log" 2>&1 || fail "resume past a damaged checkpoint: $(cat "$dir/log")"
grep -q "is not usable: .*weights.safetensors" "$dir/log" || fail "the damaged checkpoint is not named: $(cat "$dir/log")"

# Models of plain text, whose windows and hidden words are functions of seed, step and place.
text="$dir/text"; cut -f1 "$root/tests/data/train.tsv" > "$text"
for task in lm mlm; do
  text_run() {
    exec "$qkv" train $task --input "$text" --documents lines --vocab-size 400 --n-layers 1 --d-model 32 --d-ff 64 --n-heads 2 --dropout 0.2 \
      --context 24 --batch-tokens 500 --max-epochs 0 --max-steps 200 --warmup 20 --validate-every 100 --save-every 10 --average 2 --quiet "$@"
  }
  start=$(date +%s%N)
  (text_run --out "$dir/$task")
  took=$(( ($(date +%s%N) - start) / 1000000 ))
  for try in 1 2 3 4; do  # sooner where this run was done before the kill came
    rm -rf "$dir/$task.killed"
    text_run --out "$dir/$task.killed" & pid=$!
    sleep "$(awk -v t="$took" -v n="$try" 'BEGIN { printf "%.3f", t / 1000 * 0.6 / n }')"
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    [ -e "$dir/$task.killed/last" ] || break
  done
  if ls "$dir/$task.killed"/checkpoints/step-*/manifest.json > /dev/null 2>&1; then
    echo "$task killed at $(ls "$dir/$task.killed/checkpoints" | tail -1)"
    "$qkv" train $task --out "$dir/$task.killed" --resume --threads 1 --gradient-checkpointing true --quiet
  else
    rm -rf "$dir/$task.killed"; (text_run --out "$dir/$task.killed")
  fi
  [ "$(weights "$dir/$task")" = "$(weights "$dir/$task.killed")" ] || fail "$task: weights differ after SIGKILL and --resume"
done
echo "passed"

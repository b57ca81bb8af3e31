#!/usr/bin/env bash
# What bad input gets: a message that says what, where and what to do, the right exit status, and nothing lost.
# Usage: QKV SOURCE_DIR
set -uo pipefail
qkv=$1 root=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failures=0
# expect STATUS TEXT COMMAND...: the command exits so and its message holds the text.
expect() {
  local status=$1 text=$2 got=0; shift 2
  "$@" > "$dir/stdout" 2> "$dir/stderr" < "${input:-/dev/null}" || got=$?
  if [ "$got" != "$status" ] || { [ -n "$text" ] && ! grep -qF -- "$text" "$dir/stderr"; }; then
    echo "FAILED: $*"; echo "  wanted status $status and '$text', got status $got and: $(head -c 500 "$dir/stderr")"; failures=$((failures + 1))
  fi
}
T="$root/tests/data/train.tsv" V="$root/tests/data/valid.tsv"
small="--vocab-size 400 --encoder-layers 1 --decoder-layers 1 --d-model 16 --d-ff 16 --n-heads 2 --max-epochs 0 --max-steps 5 --validate-every 5 --save-every 5 --bleu-sentences 0 --quiet"
train() { "$qkv" train translate --valid-pairs "$V" $small --out "$dir/run$RANDOM$RANDOM" "$@"; }

# Calls. A wrong one exits with 2, whatever files hold; all else that ends badly with 1.
expect 2 "Did you mean translate?" "$qkv" tranlsate
expect 2 "Did you mean --beam" "$qkv" translate --baem 3
expect 2 "is a file; to translate its lines: -i" "$qkv" translate "$T"
expect 2 "excludes" "$qkv" translate 'I know.' -i "$0"
expect 2 "what to do? One of train, translate, score" "$qkv"
expect 2 "train needs one of these after it: translate, lm, mlm" "$qkv" train
expect 2 "--ref takes one value; give it again for each further one: --ref a --ref b" "$qkv" score bleu --ref a b
expect 2 "score needs one of these after it: bleu, chrf, ter" "$qkv" score
expect 2 'QKV_THREADS: "abc" is not a number' env QKV_THREADS=abc "$qkv" doctor
for command in "translate" "score bleu" "train lm" "bench" "bench gemm" "lab cost" "tokenizer encode" "info" "doctor"; do
  "$qkv" $command -h | grep > /dev/null -- '-t,--threads' || { echo "FAILED: qkv $command -h says nothing about --threads"; failures=$((failures + 1)); }
done
expect 2 "'abc' is not a whole number" train --pairs "$T" --max-steps abc
expect 2 "did you mean scaled_dot" train --pairs "$T" --attention scaled_dto
expect 2 "did you mean rope" train --pairs "$T" --positions roep
expect 2 "write window:N" train --pairs "$T" --encoder-attention "rope + window"
expect 2 "did you mean rope" "$qkv" bench attention --rule rop
expect 2 "requires --rule" "$qkv" bench attention --window 5
expect 2 "is not BATCHxHEADSxLENGTHxWIDTH" "$qkv" bench attention --shape 1x1x1
expect 2 'is out of bounds: each from 1, to 1048576x65536x16777216x65536, and their product to 8589934592' "$qkv" bench attention --shape 1x65536x65536x4096
expect 2 "window in cross-attention" train --pairs "$T" --attention "dot + window:3"
expect 2 "did you mean adamw" train --pairs "$T" --optimizer adanw
expect 2 "weight_decay (0.1) is not for adam; it is for adamw" train --pairs "$T" --weight-decay 0.1
expect 2 "momentum (0.9) is not for lion" train --pairs "$T" --optimizer lion --momentum 0.9
expect 2 "did you mean one_cycle" train --pairs "$T" --schedule one_cycel
expect 2 "stochastic_depth is 1" train --pairs "$T" --stochastic-depth 1
expect 2 'N in "window:0" is 0, needs to be a whole number from 1' train --pairs "$T" --encoder-attention "rope + window:0"
expect 2 "did you mean cosine" train --pairs "$T" --schedule cosin
expect 2 "activation \"rleu\" is not one of" train --pairs "$T" --activation rleu
expect 2 "needs a model or dictionary" train --pairs "$T" --bleu-tokenize ja-mecab
expect 2 "give one of the two" train --pairs "$T" --source "$T"
expect 2 "--joint false does not go with it" train --pairs "$T" --tokenizer "$T" --joint false
expect 2 "leave --out and --resume out" train --pairs "$T" --find-lr
expect 2 "neither length nor gnmt" "$qkv" translate --model "$root/models/en-de" --length-penalty-kind google 'I know.'
expect 2 "a beam of 1 keeps no more than 1" "$qkv" translate --model "$root/models/en-de" --beam 1 --nbest 3 'I know.'
expect 2 "min_length is 600" "$qkv" translate --model "$root/models/en-de" --min-length 600 --max-length 10 'I know.'
expect 2 "smoothing exp takes no value" "$qkv" score bleu --ref "$T" -i "$T" --smooth exp --smooth-value 1
expect 2 "is not MxKxN" "$qkv" bench gemm --shape 1x1
expect 2 "no case is called" "$qkv" bench train --case gpt-5
expect 2 "no case is called 'base'; there are base-6+6x512-32k" "$qkv" bench translate --case base
expect 2 "needs --case NAME for random weights, or --model and --input" "$qkv" bench translate --input "$T"
expect 2 "--case excludes --model" "$qkv" bench translate --case base --model "$root/models/en-de"
expect 2 "--reps: Value 0 not in range" "$qkv" bench translate --model "$root/models/en-de" -i "$T" --reps 0
printf '  \n\n' > "$dir/blanks"
expect 2 "blanks has no word to translate" "$qkv" bench translate --model "$root/models/en-de" -i "$dir/blanks"
printf '[training]\nlearning_rat = 1\n' > "$dir/bad.toml"
expect 1 "no setting is called training.learning_rat" train --config "$dir/bad.toml"
printf '[training\n' > "$dir/bad.toml"
expect 1 "line 1" train --config "$dir/bad.toml"
expect 1 "nothing.toml" train --config "$dir/nothing.toml"

# A trace goes nowhere it could do harm, and what was there stays when nothing came of the call.
echo mine > "$dir/notes"
expect 1 "$dir/no/such" "$qkv" bench gemm --shape 8x8x8 --trace "$dir/no/such"
expect 2 "--trace" "$qkv" translate --model "$root/models/en-de" -i "$dir/notes" --trace "$dir/notes"
expect 2 "is not MxKxN" "$qkv" bench gemm --shape 8x8 --trace "$dir/notes"
[ "$(cat "$dir/notes")" = mine ] || { echo "FAILED: a trace of nothing replaced a file"; failures=$((failures + 1)); }

# What cannot become 8 bits, or would replace a model.
expect 2 "holds a model already" "$qkv" quantize "$root/models/en-de" --out "$root/models/en-de"
expect 2 "is judged by --pairs" "$qkv" quantize "$root/models/en-de" --out "$dir/eight" --text "$dir/notes"
expect 2 "--out: is empty; name a path" "$qkv" quantize "$root/models/en-de" --out ''
expect 2 "is there already; choose another --out" "$qkv" quantize "$root/models/en-de" --out "$dir"
expect 1 "threads need a stack of 1 MiB at least" env OMP_STACKSIZE=64k "$qkv" info "$root/models/en-de"
[ ! -e "$dir/eight" ] || { echo "FAILED: a refused quantize wrote a folder"; failures=$((failures + 1)); }

# Parallel text.
cut -f1 "$T" > "$dir/src"; cut -f2 "$T" > "$dir/tgt"
head -899 "$dir/tgt" > "$dir/short"
expect 1 "has 900 lines" train --source "$dir/src" --target "$dir/short"
expect 1 "No such file" train --source "$dir/src" --target "$dir/missing"
expect 1 "a file is needed" train --source "$dir/src" --target "$dir"
: > "$dir/empty"
expect 1 "hold no sentence pair" train --source "$dir/empty" --target "$dir/empty"
(cat "$dir/src" | head -5; printf 'caf\xe9\n') > "$dir/latin1"; head -6 "$dir/tgt" > "$dir/six"
expect 1 "line 6 is not UTF-8 at byte 4" train --source "$dir/latin1" --target "$dir/six"
printf 'no tab here\n' > "$dir/notab"
expect 1 "line 1 has no tab" train --pairs "$dir/notab"
expect 2 "vocab" train --pairs "$T" --vocab-size 50000
# Byte-order mark, Windows line ends, empty lines and a line of 100,000 characters: trained around, and said so.
{ printf '\xef\xbb\xbf'; sed 's/$/\r/' "$T"; printf '\r\n\r\n'; head -c 75000 /dev/urandom | base64 -w 0; printf '\tx\r\n'; } > "$dir/windows.tsv"
small="${small/--quiet/}"
expect 0 "pairs longer than" train --pairs "$dir/windows.tsv"
expect 0 "2 pairs with an empty side left out" train --pairs "$dir/windows.tsv"

# Settings that would only fail later fail at once: before any text is read.
missing() { expect 2 "$1" train --pairs "$dir/missing" "${@:2}"; }
missing "set max_steps" --schedule cosine --max-steps 0 --max-epochs 1
missing "13b" --bleu-tokenize 13b
missing "keep_checkpoints" --keep-checkpoints 0
missing "learning rate (-1)" --lr -1
missing "batch_tokens is 0" --batch-tokens 0
missing "must not be negative" --average -2
missing "r_drop is -1" --r-drop -1
missing "ema_decay is 1" --ema-decay 1
missing "max_length (300) is over the model's max_len (10)" --max-len 10 --max-length 300
missing "save_dtype is i32" --save-dtype i32
missing "nothing says when to end" --max-steps 0
missing "is not one of none, nfc, nfkc" --normalization nfd

# Models of plain text.
text() { local task=$1; shift; "$qkv" train "$task" --n-layers 1 --d-model 16 --d-ff 16 --n-heads 2 --context 16 --max-epochs 0 --max-steps 2 --quiet --out "$dir/text$RANDOM$RANDOM" "$@"; }
expect 2 "give --input FILE" text lm
expect 1 "holds no text" text lm --input "$dir/empty"
expect 1 "nothing.txt" text lm --input "$dir/nothing.txt"
expect 2 '"pages" is not one of file, paragraphs, lines' text mlm --input "$dir/src" --documents pages
expect 2 "valid_share: 1" text lm --input "$dir/src" --valid-share 1
expect 2 "neither accuracy nor loss" text mlm --input "$dir/src" --best-by bleu
expect 2 "did you mean rope" text lm --input "$dir/src" --positions rop
expect 2 "n_heads (2) does not divide d_model (17)" text mlm --input "$dir/src" --d-model 17
expect 2 "context is 2" text mlm --input "$dir/src" --vocab-size 300 --context 2 --max-len 8
expect 2 "context (9) is over the model's max_len (8)" text lm --input "$dir/src" --vocab-size 300 --context 9 --max-len 8
expect 1 "no token that begins a text; one of [CLS], <s> is needed" text mlm --input "$dir/src" --tokenizer "$root/models/en-de"
tr '\n' ' ' < "$dir/src" > "$dir/one_line"
expect 1 "no line begins in the last" text lm --input "$dir/one_line" --vocab-size 300
expect 0 "" text lm --input "$dir/one_line" --valid "$dir/tgt" --vocab-size 300

for task in lm mlm; do  # and these before the text is read
  missing() { expect 2 "$1" text "$task" --input "$dir/missing" "${@:2}"; }
  missing "context (300) is over the model's max_len (200)" --context 300 --max-len 200
  missing "save_dtype is i32" --save-dtype i32
  missing "nothing says when to end" --max-steps 0
  missing 'N in "window:0" is 0' --attention window:0
  missing "is not one of none, nfc, nfkc" --normalization nfd
done

# Numbers that explode: seen in the same step, the checkpoint before it intact.
expect 1 "not both finite" train --pairs "$T" --lr 1e30 --warmup 1 --max-steps 20 --dtype f32

# A call that is refused leaves a run as it was.
train_in() { "$qkv" train translate --valid-pairs "$V" --pairs "$T" $small --out "$dir/kept" "$@"; }
train_in > /dev/null 2>&1
before=$(sha256sum "$dir/kept/config.toml" "$dir/kept/command.txt")
expect 1 "the model's is" "$qkv" train translate --out "$dir/kept" --resume --d-model 32
expect 1 "leave out the flag that changes them, or train anew" "$qkv" train translate --out "$dir/kept" --resume --encoder-attention t5
expect 2 "nothing says when to end" "$qkv" train translate --out "$dir/kept" --resume --max-steps 0 --max-epochs 0
[ "$before" = "$(sha256sum "$dir/kept/config.toml" "$dir/kept/command.txt")" ] || { echo "FAILED: a refused call changed the run"; failures=$((failures + 1)); }
expect 0 "" "$qkv" train translate --out "$dir/kept" --resume --max-steps 7
expect 0 "early_stop end this run at step 7" "$qkv" train translate --out "$dir/kept" --resume --max-steps 7
expect 1 "no checkpoint to resume" "$qkv" train translate --pairs "$T" --valid-pairs "$V" --out "$dir/nowhere" --resume
[ ! -e "$dir/nowhere" ] || { echo "FAILED: a refused call left a folder"; failures=$((failures + 1)); }
# What is in a folder already is nobody's to write over.
mkdir -p "$dir/mine/weights"; echo precious > "$dir/mine/weights/thesis.pt"
expect 1 'already holds "weights"' "$qkv" train translate --valid-pairs "$V" --pairs "$T" $small --out "$dir/mine"
[ -e "$dir/mine/weights/thesis.pt" ] || { echo "FAILED: a file of the user's is gone"; failures=$((failures + 1)); }
# A run's pieces that are missing or of another run.
kept() { rm -rf "$dir/k"; cp -r "$dir/kept" "$dir/k"; }
resume() { timeout 60 "$qkv" train translate --out "$dir/k" --resume --max-steps 9 "$@"; }
kept; rm "$dir/k/tokenizer.json"; expect 1 "tokenizer.json is gone" resume
kept; "$qkv" tokenizer train -i "$V" --vocab-size 400 -o "$dir/k/tokenizer.json" 2> /dev/null; expect 1 "the tokenizer is not the one" resume
kept; checkpoint=$(ls -d "$dir/k"/checkpoints/step-* | tail -1)
echo '{"format":"qkv-manifest","version":1,"about":{},"files":{}}' > "$checkpoint/manifest.json"; expect 0 "does not list weights.safetensors" resume
kept; rm "$checkpoint/manifest.json"; mkfifo "$checkpoint/manifest.json"; expect 0 "needs a regular file" resume
kept; echo x > "$dir/k/weights/step-00000005.safetensors"; expect 0 "" resume --average 5
# Numbers that make no sense.
for flag in "--lr nan" "--beta1 1" "--eps 0" "--clip-norm -5" "--batch-tokens 9223372036854775807" "--dtype f64"; do expect 2 "" train --pairs "$T" $flag; done

# Model directories.
small="$small --quiet"
train --pairs "$T" --vocab-size 400 > /dev/null 2>&1
run=$(ls -d "$dir"/run* | while read -r r; do [ -e "$r/last/model.safetensors" ] && echo "$r"; done | head -1)
model() { rm -rf "$dir/m"; cp -r "$run/last" "$dir/m"; }
translate() { "$qkv" translate --model "$dir/m"; }
echo 'I know.' > "$dir/in"; input="$dir/in"
expect 1 "no such directory" "$qkv" translate --model "$dir/nowhere"
for flag in --html -o --trace; do  # told before a model is loaded and lines are read
  expect 1 "writing $dir/no/where: No such file or directory" "$qkv" translate --model "$dir/nowhere" $flag "$dir/no/where"
done
grep -q "qkv's folder" "$dir/stderr" && { echo "FAILED: advice on a model that was given"; failures=$((failures + 1)); }
expect 1 "models/en-de: no such directory; run from qkv's folder, or give --model DIR" env -C "$dir" "$(realpath "$qkv")" translate
model; rm "$dir/m/tokenizer.json"; expect 1 "tokenizer.json" translate
model; rm "$dir/m/model.safetensors"; expect 1 "model.safetensors" translate
model; truncate -s -10 "$dir/m/model.safetensors"; expect 1 "model.safetensors" translate
model; sed -i 's/"d_model": 16/"d_model": 32/' "$dir/m/config.json"; expect 1 "config.json makes it [400, 32]" translate
model; echo '{' > "$dir/m/config.json"; expect 1 "config.json" translate
model; sed -i 's/"encoder_attention_heads": 2/"encoder_attention_heads": 3/; s/"decoder_attention_heads": 2/"decoder_attention_heads": 3/' "$dir/m/config.json"
expect 1 "config.json: n_heads (3) does not divide" translate
# What config.json says takes no memory before model.safetensors agrees.
model; sed -i 's/_ffn_dim": 16/_ffn_dim": 200000/' "$dir/m/config.json"
expect 1 "config.json makes it [200000, 16]" translate
for file in config.json tokenizer.json; do model; rm "$dir/m/$file"; mkfifo "$dir/m/$file"; expect 1 "needs a regular file" timeout 10 "$qkv" translate --model "$dir/m"; done
model; printf 'version https://git-lfs.github.com/spec/v1\n' > "$dir/m/model.safetensors"; expect 1 "pointer" translate

# What a file says cannot speak to the terminal, nor forge a second line.
model; sed -i 's/"relu"/"\\u001b[2J\\nqkv: all is well"/' "$dir/m/config.json"
expect 1 'activation "\u001b[2J\nqkv: all is well"' translate
[ "$(wc -l < "$dir/stderr")" = 1 ] || { echo "FAILED: a message of $(wc -l < "$dir/stderr") lines"; failures=$((failures + 1)); }
expect 2 '\nqkv: fine' "$qkv" translate --dtype $'f16\nqkv: fine' --model "$dir/m"

# Text to translate.
model
{ yes 'I know.' | head -1500; printf 'caf\xe9\n'; } > "$dir/in"; expect 1 "line 1501 is not UTF-8" translate
{ head -c 75000 /dev/urandom | base64 -w 0; echo; echo 'I know.'; } > "$dir/in"
expect 0 "line 1 is longer than" timeout 120 "$qkv" translate --model "$dir/m" --beam 1 --max-length 20
[ "$(wc -l < "$dir/stdout")" = 2 ] || { echo "FAILED: 2 lines in, $(wc -l < "$dir/stdout") out"; failures=$((failures + 1)); }

# Line n of the output belongs to line n of the input, whatever is asked for.
expect 2 "--prefix holds a line end" "$qkv" translate --model "$dir/m" --prefix $'Ja\nNein'
expect 2 "--prefix is not UTF-8 at byte 1" "$qkv" translate --model "$dir/m" --prefix $'\xff'

# Standard error that is closed or full: the answer arrives all the same, and alone.
expect 0 "" sh -c '"$1" translate --model "$2" --beam 1 --max-length 5 -i "$3" -o "$4" 2>&-' - "$qkv" "$dir/m" "$dir/in" "$dir/answers"
[ "$(wc -l < "$dir/answers")" = 2 ] && ! grep -q "longer than" "$dir/answers" || { echo "FAILED: a warning among the translations"; failures=$((failures + 1)); }
expect 0 "" sh -c '"$1" translate --model "$2" --beam 1 --max-length 5 -i "$3" 2> /dev/full' - "$qkv" "$dir/m" "$dir/in"
[ "$(wc -l < "$dir/stdout")" = 2 ] || { echo "FAILED: a full standard error stops a translation"; failures=$((failures + 1)); }
expect 1 "Bad file descriptor" sh -c '"$1" translate --model "$2" --max-length 5 >&-' - "$qkv" "$dir/m"
expect 2 "--html and -o name the same file" "$qkv" translate --model "$dir/m" -i "$dir/in" -o "$dir/same" --html "$dir/../$(basename "$dir")/same"
expect 1 "a stack of 1 MiB" sh -c 'ulimit -s 128; "$1" --version' - "$qkv"
expect 2 "needs numbers that rise" "$qkv" score bleu --ref "$T" -i "$T" --by-length "$T" --length-edges 10,5
expect 2 "2^64" "$qkv" score bleu --ref "$T" -i "$T" --seed 99999999999999999999

# Outputs: what is no file is written to, not replaced, and a link stays.
echo 'I know.' > "$dir/in"
ln -s /dev/null "$dir/null"; ln -s /dev/full "$dir/full"
expect 0 "" "$qkv" translate --model "$dir/m" --max-length 5 -o "$dir/null" --html "$dir/null"
[ -L "$dir/null" ] || { echo "FAILED: a link to a device was replaced"; failures=$((failures + 1)); }
expect 0 "" "$qkv" translate --model "$dir/m" --max-length 5 -o /dev/stdout
[ "$(wc -l < "$dir/stdout")" = 1 ] || { echo "FAILED: -o /dev/stdout printed nothing"; failures=$((failures + 1)); }
expect 1 "full: No space left on device" "$qkv" translate --model "$dir/m" --max-length 5 -o "$dir/full"

# Whatever a command prints arrives, or it says why not.
for command in doctor "info $dir/m" --help --version; do
  "$qkv" $command > /dev/full 2> "$dir/stderr" && { echo "FAILED: $command > /dev/full exits 0"; failures=$((failures + 1)); }
  grep -q "writing standard output: " "$dir/stderr" || { echo "FAILED: $command > /dev/full says '$(cat "$dir/stderr")'"; failures=$((failures + 1)); }
done

yes 'I know.' | head -3000 > "$dir/many"
expect 1 "writing standard output: No space left on device" sh -c '"$1" score bleu --sentence --ref "$2" < "$2" > /dev/full' - "$qkv" "$dir/many"
# But a reader that leaves has what it wants: the program ends as others do, without a word.
for command in --help "info --tensors $dir/m" "score bleu --sentence --ref $dir/many -i $dir/many" "tokenizer encode --tokenizer $dir/m/tokenizer.json -i $dir/many" "translate --model $dir/m --max-length 2 -i $dir/many"; do
  "$qkv" $command 2> "$dir/stderr" | true
  status=${PIPESTATUS[0]}
  # What fits the pipe before the reader leaves is written: that is success.
  { [ "$status" = 141 ] || [ "$status" = 0 ]; } && [ ! -s "$dir/stderr" ] || { echo "FAILED: $command | true: status $status, '$(cat "$dir/stderr")'"; failures=$((failures + 1)); }
done

# A full disk while saving: a message, no debris, and what was saved before goes on once there is room.
if mkdir "$dir/disk" && mount -t tmpfs -o size=2m none "$dir/disk" 2>/dev/null; then
  input=/dev/null run="$dir/disk/run"
  expect 1 "space" "$qkv" train translate --valid-pairs "$V" --pairs "$T" ${small/--max-steps 5/--max-steps 100} --vocab-size 600 --d-model 64 --keep-checkpoints 9 --out "$run"
  [ -e "$run/config.toml" ] || { echo "FAILED: the run directory is gone"; failures=$((failures + 1)); }
  [ -z "$(find "$dir/disk" -name '*.tmp*')" ] || { echo "FAILED: debris: $(find "$dir/disk" -name '*.tmp*')"; failures=$((failures + 1)); }
  mount -o remount,size=50m "$dir/disk"
  expect 0 "" "$qkv" train translate --out "$run" --resume --max-steps 30
  expect 0 "" "$qkv" translate --model "$run" --max-length 20
  umount "$dir/disk"
else
  echo "skipped: a full disk (mounting a small file system is not permitted here)"
fi
[ "$failures" = 0 ] && echo "passed" || { echo "$failures failed"; exit 1; }

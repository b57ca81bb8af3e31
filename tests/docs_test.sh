#!/bin/bash
# The code that pages show is the examples', which are built and run: every ```cpp and ```cmake block of a page stands in one of them,
# line for line but for indentation, and every line of a ```text block in what the page's example prints.
#   docs_test.sh ROOT BUILD
set -eu
root=$1 build=$2
bad=0

flat() { sed 's/^ *//'; }
fail() { echo "$1"; bad=1; }

# blocks PAGE KIND: the page's blocks of a kind, each ended by a line of \x1e.
blocks() { awk -v kind='```'"$2" '$0 == kind { on = 1; next } /^```/ { if (on) print "\x1e"; on = 0 } on' "$1"; }

check() {  # PAGE [EXAMPLE]
  local page=$1 example=${2:-} block code found n=0
  while IFS= read -r -d $'\x1e' block; do
    block=$(flat <<<"$block" | sed '/./,$!d')
    [ -n "$block" ] || continue
    n=$((n + 1)) found=
    for source in "$root"/examples/*.cc "$root"/examples/translate/*; do
      code=$(flat <"$source")
      [[ $code == *"$block"* ]] && found=1
    done
    [ -n "$found" ] || fail "$page: no example has this code:"$'\n'"$block"
  done < <(blocks "$root/$page" cpp; blocks "$root/$page" cmake)
  [ "$n" -gt 0 ] || fail "$page: shows no code"
  [ -n "$example" ] || return 0
  local printed=$("$build/$example")
  while IFS= read -r line; do
    [ "$line" = $'\x1e' ] || grep -qxF -- "$line" <<<"$printed" || fail "$page: $example does not print: $line"
  done < <(blocks "$root/$page" text)
}

check README.md
check docs/multi-head-attention.md example_multi_head_attention
check docs/adding/a-rule.md
check docs/adding/a-score.md
exit $bad

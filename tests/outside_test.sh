#!/usr/bin/env bash
# A project elsewhere uses qkv as README.md says: it configures, its own source compiles, and what it links is the libraries and all that
# they need. (To build these takes minutes, and the other tests do.) Usage: SOURCE_DIR
set -euo pipefail
root=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAILED: $1"; tail -20 "$dir/log"; exit 1; }
cp -r "$root/examples/translate" "$dir/mine"
cd "$dir/mine"
cmake -G Ninja -B build -DQKV="$root" -DCMAKE_BUILD_TYPE=Release > "$dir/log" 2>&1 || fail "it does not configure"
cmake --build build --target CMakeFiles/mine.dir/translate.cc.o > "$dir/log" 2>&1 || fail "its source does not compile"
ninja -C build -t commands mine > "$dir/log"
for needed in libqkv_tasks.a libqkv_base.a libgomp utf8proc pcre2-8 libfmt libz; do
  tail -1 "$dir/log" | grep > /dev/null -- "-o mine .*$needed" || fail "$needed is not linked"
done
! grep -q "apps/cli\|_test" build/build.ninja || fail "more than the libraries is made"
echo passed

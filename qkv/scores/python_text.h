#pragma once
// Python's idea of text. sacreBLEU's numbers hang on what str.split(), str.rstrip(), str.lower() and "a
// character" mean in Python 3; these are the same for UTF-8 in std::string.
//
// Bytes that are not UTF-8 count as U+FFFD (text/utf8.h), so a half-trained model's output can always be
// scored; the command line refuses such files first (text/line_reader.h).

#include <string>
#include <string_view>
#include <vector>

namespace qkv::scores {

/// The code points of `text`, and back. O(bytes).
std::u32string decode(std::string_view text);
std::string encode(std::u32string_view text);

/// str.isspace() for one character: bidirectional type WS, B or S, or category Zs. More than ASCII: U+0085,
/// U+00A0, U+3000 and others, and the separators U+001C-1F; not U+200B or U+FEFF.
bool is_space(char32_t c);

/// str.rstrip() and str.strip().
std::string_view rstrip(std::string_view text);
std::string_view strip(std::string_view text);

/// str.split(): the runs between white space. The views point into `text`.
std::vector<std::string_view> split(std::string_view text);

/// str.lower(): full lower-casing, which differs from mapping characters one by one at U+0130 (becomes two
/// characters) and at a capital sigma that ends a word (becomes U+03C2).
std::string lower(std::string_view text);

}  // namespace qkv::scores

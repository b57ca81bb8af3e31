#pragma once
// Plain text to train on: a file as documents, and the end of it held out.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qkv {

/// What a document is: the whole file; what stands between blank lines; or each line that is not blank.
enum class Documents { kFile, kParagraphs, kLines };
Documents documents_from_name(std::string_view name);  // file, paragraphs, lines; Error kValue

/// Lines are those of text/line_reader.h; in a document they are joined by \n, and blank ones at its
/// beginning and end are left out. Errors: those of read_lines, kFormat: no document.
std::vector<std::string> read_documents(const std::string& path, Documents documents);

int64_t bytes_of(const std::vector<std::string>& documents);

/// Takes the end off, about `share` of the bytes: whole documents, as few as make up that much; of a single
/// document its last lines. Errors: kValue (share is not in (0, 1)), kFormat (nothing would be left on one
/// of the sides).
std::vector<std::string> take_tail(std::vector<std::string>& documents, double share);

}  // namespace qkv

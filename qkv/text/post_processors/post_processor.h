#pragma once
// Step 4 of encoding: the tokens that a model wants round a text (`</s>`, `<s>`, ...).

#include <memory>
#include <string>
#include <vector>

#include "qkv/io/json.h"
#include "qkv/text/tokenizer.h"

namespace qkv::text {

/// TemplateProcessing, ByteLevel and Sequence of tokenizer.json, for single texts. Thread-safe.
class PostProcessor {
 public:
  virtual ~PostProcessor() = default;
  /// Puts tokens before and after those of a text of `text_bytes` bytes.
  virtual void apply(std::vector<Token>& tokens, int64_t text_bytes) const = 0;
  /// The largest id that it puts in, -1 where it puts in none.
  virtual int64_t max_id() const { return -1; }
  virtual io::Json to_json() const = 0;
};

using PostProcessorPtr = std::unique_ptr<const PostProcessor>;

/// Error kFormat (a field is missing or wrong) or kUnsupported (no such type), beginning with `where`.
PostProcessorPtr post_processor_from_json(const io::Json& json, const std::string& where);

// The makers behind the registry.
PostProcessorPtr make_template_processing(const io::Json&, const std::string&);

}  // namespace qkv::text

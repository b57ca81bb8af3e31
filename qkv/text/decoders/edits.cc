// Decoders that replace, join or strip: BPEDecoder, Metaspace, Replace, Fuse, Strip.

#include "qkv/base/error.h"
#include "qkv/text/decoders/decoder.h"
#include "qkv/text/pattern.h"
#include "qkv/text/pre_tokenizers/metaspace.h"
#include "qkv/text/registry.h"

namespace qkv::text {

namespace {

// `text` with every `from` replaced, in time linear in what comes out.
std::string replaced(const std::string& text, const std::string& from, std::string_view to) {
  if (from.empty()) return text;
  std::string out;
  size_t at = 0;
  for (size_t i = text.find(from); i != std::string::npos; i = text.find(from, at)) {
    out.append(text, at, i - at).append(to);
    at = i + from.size();
  }
  return out.append(text, at);
}

// The mark at the end of a word's last piece becomes the space after the word, but for the last word.
class BpeDecoder final : public Decoder {
 public:
  explicit BpeDecoder(std::string suffix) : suffix_(std::move(suffix)) {}
  std::vector<std::string> apply(std::vector<std::string> pieces) const override {
    for (size_t i = 0; i < pieces.size(); ++i)
      pieces[i] = replaced(pieces[i], suffix_, i + 1 == pieces.size() ? "" : " ");
    return pieces;
  }
  std::string piece_text(std::string piece) const override { return replaced(piece, suffix_, " "); }
  io::Json to_json() const override { return {{"type", "BPEDecoder"}, {"suffix", suffix_}}; }

 private:
  std::string suffix_;
};

// Marks become spaces; those of the first piece vanish, because the pre-tokenizer may have put one there.
class Metaspace final : public Decoder {
 public:
  explicit Metaspace(MetaspaceOptions options) : options_(std::move(options)) {}
  std::vector<std::string> apply(std::vector<std::string> pieces) const override {
    for (size_t i = 0; i < pieces.size(); ++i) {
      const bool drop = i == 0 && options_.prepend != PrependScheme::kNever;
      pieces[i] = replaced(pieces[i], options_.replacement, drop ? "" : " ");
    }
    return pieces;
  }
  std::string piece_text(std::string piece) const override {
    return replaced(piece, options_.replacement, " ");
  }
  io::Json to_json() const override { return metaspace_to_json(options_); }

 private:
  MetaspaceOptions options_;
};

constexpr size_t kMaxGrown = 16 << 20;

class Replace final : public Decoder {
 public:
  Replace(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  std::vector<std::string> apply(std::vector<std::string> pieces) const override {
    for (std::string& piece : pieces) piece = piece_text(std::move(piece));
    return pieces;
  }
  std::string piece_text(std::string piece) const override {
    std::vector<Span> places;
    pattern_.find_all(piece, places);
    // Decoders in a row can double a piece again and again, as normalizers can.
    QKV_CHECK(content_.empty() || places.size() < kMaxGrown / content_.size(), kUnsupported,
              "tokenizer: decoder: Replace: makes a piece longer than {} bytes", kMaxGrown);
    std::string out;
    size_t at = 0;
    for (const Span& place : places) {
      out.append(piece, at, place.begin - at).append(content_);
      at = place.end;
    }
    out.append(piece, at);
    return out;
  }
  io::Json to_json() const override {
    return {{"type", "Replace"}, {"pattern", pattern_.to_json()}, {"content", content_}};
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class Fuse final : public Decoder {
 public:
  std::vector<std::string> apply(std::vector<std::string> pieces) const override {
    std::string all;
    for (const std::string& piece : pieces) all += piece;
    return {std::move(all)};
  }
  std::string piece_text(std::string piece) const override { return piece; }
  io::Json to_json() const override { return {{"type", "Fuse"}}; }
};

// Takes away up to `start` times `content` from the beginning of each piece and `stop` times from its end.
class Strip final : public Decoder {
 public:
  Strip(std::string content, int64_t start, int64_t stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}
  std::vector<std::string> apply(std::vector<std::string> pieces) const override {
    for (std::string& piece : pieces) {
      std::string_view rest = piece;
      for (int64_t i = 0; i < start_ && rest.starts_with(content_); ++i) rest.remove_prefix(content_.size());
      for (int64_t i = 0; i < stop_ && rest.ends_with(content_); ++i) rest.remove_suffix(content_.size());
      piece = std::string(rest);
    }
    return pieces;
  }
  // What is stripped is at the borders of the text; a piece in its middle keeps all.
  std::string piece_text(std::string piece) const override { return piece; }
  io::Json to_json() const override {
    return {{"type", "Strip"}, {"content", content_}, {"start", start_}, {"stop", stop_}};
  }

 private:
  std::string content_;
  int64_t start_, stop_;
};

constexpr int64_t kMaxStrip = 1 << 20;

}  // namespace

DecoderPtr make_bpe_decoder(const io::Json& json, const std::string& where) {
  return std::make_unique<BpeDecoder>(io::get_string_or(json, "suffix", "</w>", where));
}

DecoderPtr make_metaspace_decoder(const io::Json& json, const std::string& where) {
  return std::make_unique<Metaspace>(metaspace_from_json(json, where));
}

DecoderPtr make_replace_decoder(const io::Json& json, const std::string& where) {
  return std::make_unique<Replace>(Pattern::from_json(io::get_object(json, "pattern", where), where),
                                   io::get_string(json, "content", where));
}

DecoderPtr make_fuse(const io::Json&, const std::string&) { return std::make_unique<Fuse>(); }

DecoderPtr make_strip_decoder(const io::Json& json, const std::string& where) {
  return std::make_unique<Strip>(get_character(json, "content", where),
                                 io::get_int(json, "start", 0, kMaxStrip, where),
                                 io::get_int(json, "stop", 0, kMaxStrip, where));
}

}  // namespace qkv::text

#include "qkv/io/safetensors.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "qkv/io/atomic_file.h"
#include "qkv/io/sha256.h"
#include "qkv/io/testing.h"

namespace qkv::io {
namespace {

using testing::get;
using testing::put;
using testing::TemporaryFolder;

std::span<const std::byte> as_bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

// A file of this header, without padding, and this data.
std::string file_of(std::string_view header, std::string_view data) {
  const uint64_t size = header.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &size, 8);
  return out.append(header).append(data);
}

SafetensorsFile parse(const std::string& bytes) {
  return SafetensorsFile::view(as_bytes(bytes), "m.safetensors");
}

std::string refusal(const std::string& bytes) {
  return testing::error_of(ErrorCode::kFormat, [&] { parse(bytes); });
}

// One tensor "x" described by `fields`, over `data_size` bytes of data.
std::string one(std::string_view fields, size_t data_size) {
  return file_of("{\"x\":{" + std::string(fields) + "}}", std::string(data_size, 'd'));
}

#define EXPECT_REFUSED(bytes, part)                                                \
  do {                                                                             \
    const std::string text_ = refusal(bytes);                                      \
    EXPECT_NE(text_.find(part), std::string::npos) << "the message is: " << text_; \
    EXPECT_EQ(text_.rfind("m.safetensors", 0), 0u) << "the message is: " << text_; \
  } while (0)

// --- what is valid
// ------------------------------------------------------------------------------------------

TEST(Safetensors, ReadsAFileWrittenByHand) {
  const std::string bytes =
      file_of(R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]},)"
              R"( "a":{"shape":[2,1],"data_offsets":[0,2],"dtype":"U8"}}   )",
              std::string("\x07\x08\x00\x00\x80\x3f\x00\x00\x00\xc0", 10));
  const SafetensorsFile file = parse(bytes);
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors()[0].name, "a");  // in the order of the data
  EXPECT_EQ(file.at("a").dtype, "U8");
  EXPECT_EQ(file.at("a").shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(file.at("a").data[1], std::byte{8});
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));

  std::vector<float> b(2);  // begins at an odd address: 8 + header + 2
  copy_to_f32(file.at("b"), b);
  EXPECT_EQ(b, (std::vector<float>{1, -2}));

  EXPECT_EQ(file.find("c"), nullptr);
  EXPECT_ERROR(kFormat, "m.safetensors: needs a tensor \"c\", has 2 others, such as \"a\"", file.at("c"));
}

TEST(Safetensors, AllowsScalarsZerosAndNothingAtAll) {
  EXPECT_EQ(parse(one(R"("dtype":"F32","shape":[],"data_offsets":[0,4])", 4)).at("x").shape.size(), 0u);
  EXPECT_EQ(parse(one(R"("dtype":"F32","shape":[3,0],"data_offsets":[0,0])", 0)).at("x").data.size(), 0u);
  EXPECT_EQ(parse(file_of("{}", "")).tensors().size(), 0u);
  EXPECT_EQ(parse(file_of("{\"__metadata__\":{}}", "")).tensors().size(), 0u);
  // Empty tensors may stand before, between and behind the others.
  const std::string bytes = file_of(
      R"({"z":{"dtype":"F32","shape":[0],"data_offsets":[4,4]},"y":{"dtype":"I8","shape":[4],"data_offsets":[0,4]},)"
      R"("e":{"dtype":"I64","shape":[0,9],"data_offsets":[0,0]},"f":{"dtype":"I8","shape":[1],"data_offsets":[4,5]}})",
      "abcde");
  EXPECT_EQ(parse(bytes).tensors().size(), 4u);
}

TEST(Safetensors, KnowsEveryDtypeOfTheFormat) {
  const std::map<std::string, int64_t> bits = {
      {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
      {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E5M2FNUZ", 8}, {"F8_E4M3FNUZ", 8}, {"I16", 16},
      {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
      {"F64", 64},    {"I64", 64},    {"U64", 64},    {"C64", 64}};
  for (const auto& [dtype, size] : bits) {
    EXPECT_EQ(safetensors_dtype_bits(dtype), size) << dtype;
    const std::string end = std::to_string(size);  // 8 elements take `size` bytes
    parse(one("\"dtype\":\"" + dtype + "\",\"shape\":[8],\"data_offsets\":[0," + end + "]",
              static_cast<size_t>(size)));
  }
  for (const char* unknown : {"", "f32", "F128", "F32 ", "Q4_K"})
    EXPECT_EQ(safetensors_dtype_bits(unknown), 0);
}

TEST(Safetensors, NamesAreDataAndMayBeAnything) {
  const SafetensorsFile file = parse(file_of(
      R"({"../../etc/passwd":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
      R"("":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"\u0000\n":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
      "abc"));
  EXPECT_NE(file.find("../../etc/passwd"), nullptr);
  EXPECT_NE(file.find(""), nullptr);
  EXPECT_NE(file.find(std::string_view("\0\n", 2)), nullptr);
}

// --- what is refused, beside a control that differs in the one thing
// -----------------------------------------

TEST(SafetensorsRefuses, AWrongHeaderLength) {
  const std::string good = file_of("{}", "");
  parse(good);
  for (size_t size = 1; size < 8; ++size) EXPECT_REFUSED(good.substr(0, size), "needs at least 8 bytes, has");
  const auto with_length = [&](uint64_t length) {
    std::string bytes = good;
    std::memcpy(bytes.data(), &length, 8);
    return bytes;
  };
  EXPECT_REFUSED(with_length(0), "does not begin with '{'");
  EXPECT_REFUSED(with_length(1), "not closed");
  EXPECT_REFUSED(with_length(3), "a header of 3 bytes does not fit a file of 10; it was cut short");
  EXPECT_REFUSED(with_length(100'000'000), "does not fit");
  EXPECT_REFUSED(with_length(100'000'001), "at most 100000000 bytes, the file says 100000001");
  EXPECT_REFUSED(with_length(UINT64_MAX), "at most 100000000 bytes");
  EXPECT_REFUSED(with_length(UINT64_MAX - 7), "at most 100000000 bytes");
  EXPECT_REFUSED(with_length(uint64_t{1} << 63), "at most 100000000 bytes");
}

TEST(SafetensorsRefuses, AHeaderOfExactlyTheLimitIsReadAndOneMoreIsNot) {
  std::string header = "{}";
  header.resize(100'000'000, ' ');
  std::string bytes = file_of(header, "");
  EXPECT_EQ(parse(bytes).tensors().size(), 0u);
  header.push_back(' ');
  EXPECT_REFUSED(file_of(header, ""), "at most 100000000 bytes");
}

TEST(SafetensorsRefuses, AHeaderThatIsNotOneStrictObject) {
  parse(file_of("{}  ", ""));
  EXPECT_REFUSED(file_of(" {}", ""), "does not begin with '{'");
  EXPECT_REFUSED(file_of("[]", ""), "does not begin with '{'");
  EXPECT_REFUSED(file_of("{}\n", ""), "something other than spaces");
  EXPECT_REFUSED(file_of(std::string_view("{}\0", 3), ""), "something other than spaces");
  EXPECT_REFUSED(file_of(std::string_view("{}\0{}", 5), ""), "NUL");
  EXPECT_REFUSED(file_of("{}{}", ""), "expected end of input");
  EXPECT_REFUSED(file_of("{\"\xff\":{}}", ""), "UTF-8");
  EXPECT_REFUSED(file_of("{\"x\":[[[{}]]]}", ""), "nested deeper than 3");
  EXPECT_REFUSED(file_of(std::string(1'000'000, '{') + "}", ""), "nested deeper than 3");
}

TEST(SafetensorsRefuses, RepeatedNamesHoweverEscaped) {
  const auto two = [](std::string_view first, std::string_view second) {
    const auto tensor = [](std::string_view name, int at) {
      return "\"" + std::string(name) + R"(":{"dtype":"U8","shape":[1],"data_offsets":[)" +
             std::to_string(at) + "," + std::to_string(at + 1) + "]}";
    };
    return file_of("{" + tensor(first, 0) + "," + tensor(second, 1) + "}", "ab");
  };
  parse(two("a", "b"));
  EXPECT_REFUSED(two("a", "a"), "the tensor \"a\" is there twice");
  EXPECT_REFUSED(two("a", "\\u0061"), "the tensor \"a\" is there twice");
  parse(file_of(R"({"__metadata__":{"a":"1","b":"2"}})", ""));
  EXPECT_REFUSED(file_of(R"({"__metadata__":{"a":"1","a":"2"}})", ""), "__metadata__ repeats \"a\"");
  EXPECT_REFUSED(file_of(R"({"__metadata__":{},"__metadata__":{}})", ""), "__metadata__ is repeated");
}

TEST(SafetensorsRefuses, MetadataOtherThanTexts) {
  for (const char* value : {"1", "null", "true", "{}", "[]", "1.5", "-1"})
    EXPECT_REFUSED(file_of("{\"__metadata__\":{\"k\":" + std::string(value) + "}}", ""),
                   "__metadata__ \"k\" needs a text");
  for (const char* value : {"1", "null", "\"t\"", "[]"})
    EXPECT_REFUSED(file_of("{\"__metadata__\":" + std::string(value) + "}", ""), "__metadata__");
}

TEST(SafetensorsRefuses, FieldsThatAreMissingRepeatedUnknownOrOfTheWrongType) {
  parse(one(R"("dtype":"U8","shape":[2],"data_offsets":[0,2])", 2));
  EXPECT_REFUSED(one(R"("shape":[2],"data_offsets":[0,2])", 2), "tensor \"x\" has no dtype");
  EXPECT_REFUSED(one(R"("dtype":"U8","data_offsets":[0,2])", 2), "tensor \"x\" has no shape");
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":[2])", 2), "tensor \"x\" has no data_offsets");
  EXPECT_REFUSED(one(R"("dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2])", 2), "repeats dtype");
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":[2],"shape":[2],"data_offsets":[0,2])", 2), "repeats shape");
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":[2],"data_offsets":[0,2],"strides":[1])", 2),
                 "unknown field \"strides\"");
  EXPECT_REFUSED(one(R"("dtype":"F33","shape":[2],"data_offsets":[0,2])", 2), "unknown dtype \"F33\"");
  EXPECT_REFUSED(one(R"("dtype":8,"shape":[2],"data_offsets":[0,2])", 2), "a text as dtype");
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":2,"data_offsets":[0,2])", 2), "an array as shape");
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":"2","data_offsets":[0,2])", 2), "an array as shape");
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":[2],"data_offsets":{})", 2), "an array as data_offsets");
  EXPECT_REFUSED(file_of(R"({"x":3})", ""), "tensor \"x\" needs an object, got a number");
  EXPECT_REFUSED(file_of(R"({"x":[]})", ""), "tensor \"x\" needs an object, got an array");
  EXPECT_REFUSED(file_of(R"({"x":"U8"})", ""), "tensor \"x\" needs an object, got a text");
}

TEST(SafetensorsRefuses, ShapesAndOffsetsOfAnythingButNonNegativeIntegers) {
  for (const char* number :
       {"2.0", "-2", "\"2\"", "null", "true", "2e0", "[2]", "1e400", "36893488147419103232", "-0"}) {
    refusal(one(std::string(R"("dtype":"U8","shape":[)") + number + R"(],"data_offsets":[0,2])", 2));
    refusal(one(std::string(R"("dtype":"U8","shape":[2],"data_offsets":[0,)") + number + "]", 2));
  }
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":[2.0],"data_offsets":[0,2])", 2), "not written as an integer");
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":[2],"data_offsets":[2])", 2), "needs two data_offsets");
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":[2],"data_offsets":[])", 2), "needs two data_offsets");
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":[2],"data_offsets":[0,2,2])", 2), "more than two data_offsets");
  parse(one(R"("dtype":"U8","shape":[1,1,1,1,1,1,1,2],"data_offsets":[0,2])", 2));
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,2])", 2),
                 "more than 8 dimensions");
}

TEST(SafetensorsRefuses, SizesThatOverflowOrDisagree) {
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":[3],"data_offsets":[0,2])", 2),
                 "shape [3] of U8 takes 3 bytes, data_offsets [0, 2] give 2");
  EXPECT_REFUSED(one(R"("dtype":"F32","shape":[],"data_offsets":[0,2])", 2), "takes 4 bytes");
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":[0],"data_offsets":[0,2])", 2), "takes 0 bytes");
  // 2^32 x 2^32 wraps to 0, 2^61 elements of 8 bytes wrap to 0, 2^60 of 64 bits overflow only in bits.
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0])", 0), "overflows");
  EXPECT_REFUSED(one(R"("dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0])", 0), "overflows");
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,0])", 0), "overflows");
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,0])", 0),
                 "dimension of 9223372036854775808");
  // A zero does not excuse the others, in whatever order they are multiplied.
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":[4294967296,4294967296,0],"data_offsets":[0,0])", 0),
                 "overflows");
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":[0,4294967296,4294967296],"data_offsets":[0,0])", 0),
                 "overflows");
  EXPECT_REFUSED(one(R"("dtype":"F4","shape":[3],"data_offsets":[0,1])", 1), "no whole number of bytes");
  EXPECT_REFUSED(one(R"("dtype":"F6_E2M3","shape":[2],"data_offsets":[0,1])", 1), "no whole number of bytes");
  parse(one(R"("dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3])", 3));
}

TEST(SafetensorsRefuses, OffsetsThatAreReversedOrOutside) {
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":[2],"data_offsets":[2,0])", 2), "before their begin");
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":[3],"data_offsets":[0,3])", 2),
                 "data end at 3, the file's at 2; it was cut short");
  EXPECT_REFUSED(
      one(R"("dtype":"U8","shape":[2],"data_offsets":[18446744073709551614,18446744073709551615])", 2),
      "takes 2 bytes");
  EXPECT_REFUSED(
      one(R"("dtype":"U8","shape":[2],"data_offsets":[18446744073709551613,18446744073709551615])", 2),
      "a gap");
  EXPECT_REFUSED(
      one(R"("dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807])", 2),
      "overflows");
}

TEST(SafetensorsRefuses, GapsOverlapsAndTails) {
  const auto two = [](int begin, size_t data) {
    return file_of(
        R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[)" +
            std::to_string(begin) + "," + std::to_string(begin + 2) + "]}}",
        std::string(data, 'd'));
  };
  parse(two(2, 4));
  EXPECT_REFUSED(two(3, 5), "tensor \"b\": its data begin at 3, which leaves a gap after the byte 2");
  EXPECT_REFUSED(two(1, 3), "tensor \"b\": its data begin at 1, inside the tensor before, which ends at 2");
  EXPECT_REFUSED(two(0, 2), "inside the tensor before");
  EXPECT_REFUSED(two(2, 5), "1 bytes follow the last tensor");
  EXPECT_REFUSED(one(R"("dtype":"U8","shape":[2],"data_offsets":[1,3])", 3), "leaves a gap after the byte 0");
  EXPECT_REFUSED(file_of("{}", "tail"), "4 bytes follow the last tensor");
}

TEST(SafetensorsRefuses, MoreTensorsThanAnyModelHas) {
  const auto with = [](int count) {
    std::string header = "{";
    for (int i = 0; i < count; ++i)
      header += (i > 0 ? "," : "") + ("\"" + std::to_string(i)) +
                R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
    return file_of(header + "}", "");
  };
  EXPECT_EQ(parse(with(1 << 18)).tensors().size(), size_t{1} << 18);
  EXPECT_REFUSED(with((1 << 18) + 1), "more than 262144 tensors");
}

TEST(SafetensorsRefuses, OtherThingsByTheirName) {
  TemporaryFolder folder;
  const std::map<std::string, std::string> found = {
      {"<!DOCTYPE html>\n<html><head><title>404", "web page"},
      {"\n  <html lang=en>", "web page"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"},
      {std::string("PK\x03\x04\x00\x00\x08\x08\x00\x00archive/data.pkl", 26), "pickle"},
      {std::string("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a", 11), "Python pickle"},
      {std::string("GGUF\x03\x00\x00\x00\x00\x00", 10), "GGUF"},
      {std::string("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", 10), "gzip"},
      {"{\"error\": \"Entry not found\"}", "JSON text"},
      {"", "the file is empty"}};
  for (const auto& [contents, part] : found) {
    put(folder / "model.safetensors", contents);
    EXPECT_ERROR(kFormat, part, SafetensorsFile::open(folder / "model.safetensors"));
    EXPECT_ERROR(kFormat, folder / "model.safetensors", SafetensorsFile::open(folder / "model.safetensors"));
  }
  EXPECT_ERROR(kIo, "No such file", SafetensorsFile::open(folder / "none"));
  EXPECT_ERROR(kIo, "Is a directory", SafetensorsFile::open(folder.path()));
}

// N = 640 is 80 02 00 ..., which is how a pickle begins.
TEST(SafetensorsRefuses, NotAHeaderThatOnlyLooksLikeAPickle) {
  std::string header = "{}";
  header.resize(640, ' ');
  const std::string bytes = file_of(header, "");
  ASSERT_EQ(bytes.substr(0, 2), "\x80\x02");
  EXPECT_EQ(parse(bytes).tensors().size(), 0u);
}

TEST(SafetensorsRefuses, NamesThatWouldSpoilTheMessage) {
  EXPECT_REFUSED(
      file_of(R"({"\u001b[31m\nfake: all is well":{"dtype":"U8","shape":[],"data_offsets":[0,9]}})", "d"),
      R"(tensor "\u001b[31m\nfake: all is well": shape)");
}

std::string small_file() {
  return file_of(R"({"__metadata__":{"k":"v"},"a":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]},)"
                 R"("b":{"dtype":"U8","shape":[3],"data_offsets":[4,7]}})",
                 "0123456");
}

TEST(SafetensorsRefuses, EveryTruncationAndEveryTail) {
  const std::string bytes = small_file();
  parse(bytes);
  for (size_t size = 0; size < bytes.size(); ++size) refusal(bytes.substr(0, size));
  refusal(bytes + '\0');
}

TEST(Safetensors, SurvivesRandomDamage) {
  const std::string bytes = small_file();
  std::mt19937 random(7);
  int accepted = 0;
  for (int i = 0; i < 30000; ++i) {
    // Copied to the heap at its exact size, so that the address sanitizer sees a read past the end.
    std::vector<char> damaged(bytes.begin(), bytes.end());
    for (unsigned n = random() % 3 + 1; n > 0; --n) {
      const size_t at = random() % damaged.size();
      switch (random() % 4) {
        case 0:
          damaged[at] = static_cast<char>(random());
          break;
        case 1:
          damaged[at] = "0123456789,:[]{}\"-.e"[random() % 20];
          break;
        case 2:
          damaged.erase(damaged.begin() + static_cast<std::ptrdiff_t>(at));
          break;
        default:
          damaged.insert(damaged.begin() + static_cast<std::ptrdiff_t>(at),
                         damaged[random() % damaged.size()]);
      }
    }
    try {
      const auto file = SafetensorsFile::view(std::as_bytes(std::span(damaged)), "x");
      ++accepted;
      size_t covered = 0;
      for (const auto& tensor : file.tensors()) {
        EXPECT_EQ(file.find(tensor.name), &tensor);
        EXPECT_EQ(safetensors_bytes(tensor.dtype, tensor.shape), static_cast<int64_t>(tensor.data.size()));
        EXPECT_EQ(sha256_hex(tensor.data).size(), 64u);  // every byte may be read
        covered += tensor.data.size();
      }
      EXPECT_LE(covered, damaged.size());
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kFormat) << error.what();
    }
  }
  EXPECT_GT(accepted, 100);  // damage to names, metadata and values
}

// --- writing
// ------------------------------------------------------------------------------------------------

TEST(WriteSafetensors, GivesTheBytesTheFormatAsksFor) {
  TemporaryFolder folder;
  const std::string a = "abc", f(8, 'f');
  const std::vector<SafetensorsTensor> tensors = {
      {"small", "U8", {3}, as_bytes(a)}, {"f2", "F32", {1, 2}, as_bytes(f)}, {"f1", "F32", {0}, {}}};
  write_safetensors(folder / "m", tensors, {{"format", "pt"}});
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"f1":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},)"
      R"("f2":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"small":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})";
  std::string padded = header;
  while (padded.size() % 8 != 0) padded += ' ';
  EXPECT_EQ(get(folder / "m"), file_of(padded, f + a));
}

TEST(WriteSafetensors, ReadsBackEqualAndAlignedWhateverTheOrder) {
  TemporaryFolder folder;
  const std::string data(1000, 'x');
  std::vector<SafetensorsTensor> tensors = {
      {"b\n\"é", "U8", {3}, as_bytes(data).first(3)}, {"a", "BF16", {5}, as_bytes(data).subspan(7, 10)},
      {"d", "F64", {2, 2}, as_bytes(data).first(32)}, {"c", "I32", {}, as_bytes(data).first(4)},
      {"h", "F4", {2}, as_bytes(data).first(1)},      {"g", "F6_E3M2", {4}, as_bytes(data).first(3)},
      {"z", "BF16", {1}, as_bytes(data).first(2)}};
  write_safetensors(folder / "m", tensors);
  const std::string first = get(folder / "m");
  std::reverse(tensors.begin(), tensors.end());
  write_safetensors(folder / "m", tensors);
  EXPECT_EQ(get(folder / "m"), first);
  EXPECT_EQ(folder.names(), std::set<std::string>{"m"});

  const SafetensorsFile file = SafetensorsFile::open(folder / "m");
  ASSERT_EQ(file.tensors().size(), tensors.size());
  for (const auto& tensor : tensors) {
    const auto& read = file.at(tensor.name);
    EXPECT_EQ(read.dtype, tensor.dtype);
    EXPECT_EQ(read.shape, tensor.shape);
    EXPECT_TRUE(std::equal(read.data.begin(), read.data.end(), tensor.data.begin(), tensor.data.end()));
    const auto bits = static_cast<uintptr_t>(safetensors_dtype_bits(tensor.dtype));
    const uintptr_t alignment = bits < 8 ? 1 : bits / 8;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(read.data.data()) % alignment, 0u) << tensor.name;
  }
  // What was read can be written again, even over the file it is mapped from.
  write_safetensors(folder / "m", file.tensors(), file.metadata());
  EXPECT_EQ(get(folder / "m"), first);
}

// Names, types, shapes, bytes and metadata of any kind.
RC_GTEST_PROP(WriteSafetensors, ReadsBackWhateverWasWritten, ()) {
  static const TemporaryFolder folder;
  const auto name =
      rc::gen::oneOf(rc::gen::nonEmpty(rc::gen::container<std::string>(rc::gen::inRange<char>(0, 127))),
                     rc::gen::elementOf(std::vector<std::string>{"h\u00E9", "\U0001F600.weight", "\u2028",
                                                                 "\"\\", "{}", "\uFFFD"}));
  const auto names = *rc::gen::unique<std::vector<std::string>>(name);
  std::vector<SafetensorsTensor> tensors;
  std::vector<std::string> bytes(names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    SafetensorsTensor t{.name = names[i], .dtype = {}, .shape = {}, .data = {}};
    t.dtype =
        *rc::gen::element<std::string>("F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3");
    t.shape = *rc::gen::resize(4, rc::gen::container<std::vector<int64_t>>(rc::gen::inRange<int64_t>(0, 5)));
    bytes[i].resize(static_cast<size_t>(safetensors_bytes(t.dtype, t.shape).value()));
    for (size_t k = 0; k < bytes[i].size(); ++k) bytes[i][k] = static_cast<char>(31 * i + 7 * k);
    t.data = as_bytes(bytes[i]);
    tensors.push_back(t);
  }
  const auto metadata = *rc::gen::container<std::map<std::string, std::string>>(name, name);
  write_safetensors(folder / "m", tensors, metadata);

  const SafetensorsFile file = SafetensorsFile::open(folder / "m");
  RC_ASSERT(file.metadata() == metadata);
  RC_ASSERT(file.tensors().size() == tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const SafetensorsTensor& read = file.at(names[i]);
    RC_ASSERT(read.dtype == tensors[i].dtype);
    RC_ASSERT(read.shape == tensors[i].shape);
    RC_ASSERT(std::ranges::equal(read.data, tensors[i].data));
  }
}

TEST(WriteSafetensors, RefusesWhatItsReaderWouldRefuse) {
  TemporaryFolder folder;
  const std::string data(64, 'x');
  const auto write = [&](std::vector<SafetensorsTensor> tensors,
                         std::map<std::string, std::string> metadata = {}) {
    write_safetensors(folder / "m", tensors, metadata);
  };
  EXPECT_ERROR(kValue, "shape [3] of F32 takes 12 bytes, got 8",
               write({{"x", "F32", {3}, as_bytes(data).first(8)}}));
  EXPECT_ERROR(kValue, "unknown dtype \"f32\"", write({{"x", "f32", {2}, as_bytes(data).first(8)}}));
  EXPECT_ERROR(kValue, "negative dimension", write({{"x", "U8", {-1}, {}}}));
  EXPECT_ERROR(kValue, "overflows", write({{"x", "U8", {INT64_MAX, 2}, {}}}));
  EXPECT_ERROR(kValue, "whole number of bytes", write({{"x", "F4", {3}, as_bytes(data).first(1)}}));
  EXPECT_ERROR(kValue, "\"x\" is given twice", write({{"x", "U8", {0}, {}}, {"x", "F32", {0}, {}}}));
  EXPECT_ERROR(kValue, "__metadata__", write({{"__metadata__", "U8", {0}, {}}}));
  EXPECT_ERROR(kValue, "in UTF-8, got \"\\xff\"", write({{"\xff", "U8", {0}, {}}}));
  EXPECT_ERROR(kValue, "in UTF-8", write({}, {{"k", "\xff"}}));
  EXPECT_ERROR(kValue, "at most 8 dimensions",
               write({{"x", "U8", std::vector<int64_t>(9, 1), as_bytes(data).first(1)}}));
  EXPECT_EQ(folder.names(), std::set<std::string>{});
}

TEST(WriteSafetensors, AFailingDiskLeavesTheOldFile) {
  TemporaryFolder folder;
  put(folder / "m", "old");
  const std::string data(64, 'x');
  const std::vector<SafetensorsTensor> tensors = {{"x", "U8", {64}, as_bytes(data)}};
  for (int nth = 1; nth <= 3; ++nth) {  // the length, the header, the data
    const FileFault fault(FileStep::kWrite, nth, ENOSPC);
    EXPECT_ERROR(kIo, "No space left", write_safetensors(folder / "m", tensors));
    EXPECT_TRUE(fault.fired());
    EXPECT_EQ(get(folder / "m"), "old");
    EXPECT_EQ(folder.names(), std::set<std::string>{"m"});
  }
}

// --- values
// -------------------------------------------------------------------------------------------------

TEST(CopyToF32, ConvertsEveryFloatType) {
  const uint16_t halves[] = {0x0000, 0x8000, 0x3c00, 0xc000, 0x7bff, 0x0001,
                             0x03ff, 0x0400, 0x7c00, 0xfc00, 0x3555};
  std::vector<float> out(11);
  copy_to_f32({"x", "F16", {11}, std::as_bytes(std::span(halves))}, out);
  const std::vector<float> expected = {0.f,          -0.f,     1.f,      -2.f,      65504.f,    0x1p-24f,
                                       0x1.ff8p-15f, 0x1p-14f, INFINITY, -INFINITY, 0x1.554p-2f};
  EXPECT_EQ(out, expected);
  EXPECT_TRUE(std::signbit(out[1]));
  const uint16_t nan = 0x7e01;
  out.resize(1);
  copy_to_f32({"x", "F16", {1}, std::as_bytes(std::span(&nan, 1))}, out);
  EXPECT_TRUE(std::isnan(out[0]));

  const uint16_t brains[] = {0x3f80, 0xc2f7};
  out.resize(2);
  copy_to_f32({"x", "BF16", {2}, std::as_bytes(std::span(brains))}, out);
  EXPECT_EQ(out, (std::vector<float>{1.f, -123.5f}));
  const double doubles[] = {0.1, 1e300};
  copy_to_f32({"x", "F64", {2}, std::as_bytes(std::span(doubles))}, out);
  EXPECT_EQ(out, (std::vector<float>{0.1f, INFINITY}));
  EXPECT_ERROR(kDtype, "is \"I32\"",
               copy_to_f32({"x", "I32", {1}, std::as_bytes(std::span(doubles)).first(4)}, out));
  EXPECT_ERROR(kShape, "room for 4 values, got room for 2",
               copy_to_f32({"x", "F32", {4}, std::as_bytes(std::span(doubles))}, out));
}

// --- files that others made
// ---------------------------------------------------------------------------------

std::string data_folder() {
  const char* const set = std::getenv("QKV_DATA");
  return set != nullptr ? set : QKV_SOURCE_DIR "/../shared/data";
}

TEST(SafetensorsFiles, ReadsPublishedWeights) {
  const std::string retsim = data_folder() + "/weights/retsim/model.safetensors";
  const std::string bert = data_folder() + "/weights/tiny-bert-random/model.safetensors";
  if (!exists(retsim) || !exists(bert)) GTEST_SKIP() << "no weights in " << data_folder();

  const SafetensorsFile file = SafetensorsFile::open(retsim);
  int64_t parameters = 0;
  for (const auto& tensor : file.tensors())
    if (tensor.dtype == "F32") parameters += static_cast<int64_t>(tensor.data.size() / 4);
  EXPECT_EQ(parameters, 535811);  // as its card says

  const SafetensorsFile model = SafetensorsFile::open(bert);
  const auto* words = model.find("embeddings.word_embeddings.weight");
  if (words == nullptr) words = model.find("bert.embeddings.word_embeddings.weight");
  ASSERT_NE(words, nullptr);
  EXPECT_EQ(words->shape, (std::vector<int64_t>{256, 32}));
  std::vector<float> values(256 * 32);
  copy_to_f32(*words, values);
  double squares = 0;
  for (const float value : values) squares += double{value} * value;
  EXPECT_TRUE(std::isfinite(squares) && squares > 0);
}

}  // namespace
}  // namespace qkv::io

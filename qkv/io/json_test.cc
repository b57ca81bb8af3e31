#include "qkv/io/json.h"

#include <chrono>
#include <limits>
#include <random>

#include "qkv/io/testing.h"

namespace qkv::io {
namespace {

std::string refusal(std::string_view text, const JsonLimits& limits = {}) {
  return testing::error_of(ErrorCode::kFormat, [&] { parse_json(text, "c.json", limits); });
}

TEST(ParseJson, ReadsEveryKindOfValue) {
  const Json json = parse_json(
      R"( {"a": [1, -2, 3.5, 1e3, true, false, null, {}, []], "b": "\u00e9\ud83d\ude00\n/"} )", "x");
  EXPECT_EQ(json, Json::parse(R"({"a": [1, -2, 3.5, 1000.0, true, false, null, {}, []], "b": "é😀\n/"})"));
  EXPECT_EQ(parse_json("7", "x"), 7);
  EXPECT_EQ(parse_json("\"t\"", "x"), "t");
  EXPECT_EQ(parse_json("18446744073709551615", "x"), std::numeric_limits<uint64_t>::max());
}

TEST(ParseJson, AgreesWithTheLibraryOnNestedValues) {
  const std::string text =
      R"({"model":{"vocab":{"a":0,"b":1},"merges":[["a","b"],["ab","c"]],"x":[[[]],[{}],{"y":[{}]}]},"n":[]})";
  EXPECT_EQ(parse_json(text, "x"), Json::parse(text));
}

TEST(ParseJson, NamesLineColumnAndByte) {
  EXPECT_EQ(
      refusal("{\"a\": 1,\n \"b\": x}"),
      "c.json: line 2, column 7 (byte 15): syntax error while parsing value - invalid literal; last read: "
      "'\"b\": x'");
}

TEST(ParseJson, RefusesRepeatedKeysHoweverTheyAreEscaped) {
  EXPECT_NE(refusal(R"({"a": 1, "a": 2})").find("line 1, column 12 (byte 11): the key \"a\" is repeated"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"a": 1, "\u0061": 2})").find("the key \"a\" is repeated"), std::string::npos);
  EXPECT_NE(refusal(R"([{"x": {"b": [], "b": []}}])").find("the key \"b\" is repeated"), std::string::npos);
  parse_json(R"([{"a": 1}, {"a": 2}, {"b": {"a": 3}, "a": 4}])", "x");
}

TEST(ParseJson, RefusesWhatIsNotJson) {
  for (const std::string_view text :
       {"",          " ",         "{",           "[1",          "[1,]",       "{\"a\":1,}", "{\"a\"}",
        "{a: 1}",    "'a'",       "nul",         "NaN",         "[Infinity]", "-Infinity",  "01",
        "1.",        ".5",        "+1",          "1e",          "0x10",       "-",          "\"a",
        "\"\\q\"",   "\"\\u12\"", "\"\\ud800\"", "\"\\udc00\"", "\"a\nb\"",   "\"a\tb\"",   "// c\n1",
        "/* c */ 1", "[1 2]",     "{\"a\" 1}",   "1e400",       "-1e400",     "[1e999999]"})
    refusal(text);
}

TEST(ParseJson, RefusesAnythingAfterTheValue) {
  refusal("{} x");
  refusal("{}{}");
  refusal("[1]]");
  EXPECT_NE(refusal(std::string_view("{}\0garbage", 10)).find("byte 2): a NUL byte"), std::string::npos);
  refusal(std::string_view("{}\0", 3));
  refusal(std::string_view("\"a\0b\"", 5));
  refusal(std::string_view("\"\\\0\"", 4));
  parse_json("{} \n\t\r ", "x");
}

TEST(ParseJson, RefusesWhatIsNotUtf8) {
  for (const std::string_view text : {"\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"",
                                      "\"\xe5\xa4\"", "{\"\x80\": 1}", "[1]\xff", "\xff\xfe[\0"})
    refusal(text);
  EXPECT_NE(refusal("\xef\xbb\xbf{}").find("byte-order mark"), std::string::npos);
  parse_json("\"\xf4\x8f\xbf\xbf\"", "x");  // the last code point
}

TEST(ParseJson, HoldsTheDepthLimitExactly) {
  const auto nested = [](int depth) {
    return std::string(static_cast<size_t>(depth), '[') + std::string(static_cast<size_t>(depth), ']');
  };
  parse_json(nested(128), "x");
  EXPECT_NE(refusal(nested(129)).find("(byte 128): nested deeper than 128 levels"), std::string::npos);
  refusal(std::string(10'000'000, '['));
  std::string objects;
  for (int i = 0; i < 129; ++i) objects += "{\"a\":";
  refusal(objects);
  // Brackets inside strings do not count.
  parse_json("\"" + std::string(1000, '[') + "\"", "x");
}

TEST(ParseJson, HoldsTheLimitOfOneString) {
  parse_json('"' + std::string(99, 'x') + '"', "x", {.max_string_bytes = 100});
  EXPECT_NE(
      refusal('"' + std::string(200, 'x') + '"', {.max_string_bytes = 100}).find("a string of more than 100"),
      std::string::npos);
  refusal(std::string(200, ' '), {.max_string_bytes = 100});
  refusal(std::string(200, '1'), {.max_string_bytes = 100});
  std::string many = "[0";
  for (int i = 0; i < 200; ++i) many += ", 12, \"abc\",\n3";
  parse_json(many + "]", "x", {.max_string_bytes = 100});
  std::string numbers = "[0";
  for (int i = 0; i < 200; ++i) numbers += ",-1.5e+3,\n 7";
  parse_json(numbers + "]", "x", {.max_string_bytes = 100});
}

TEST(ParseJson, HoldsTheMemoryLimit) {
  std::string cheap_to_write = "[{}";  // three bytes each, some hundred when parsed
  for (int i = 0; i < 10000; ++i) cheap_to_write += ",{}";
  cheap_to_write += "]";
  EXPECT_NE(refusal(cheap_to_write, {.max_memory = 1 << 18}).find("more than 262144 bytes of memory"),
            std::string::npos);
  parse_json(cheap_to_write, "x", {.max_memory = 1 << 21});
}

TEST(ParseJson, ShowsNoRawBytesOfTheFile) {
  for (const char c : refusal("[\"\x1b[31m\xff")) EXPECT_TRUE(c >= 0x20 && c < 0x7f) << int{c};
  EXPECT_LT(refusal("[" + std::string(100000, 'x')).size(), 600u);
}

TEST(ParseJson, EveryTruncationIsAnErrorOfItsOwn) {
  const std::string text = R"({"model_type": "marian", "d": [1, 2.5e3, {"x": null}], "\u00e9": true})";
  parse_json(text, "x");
  for (size_t size = 0; size < text.size(); ++size) refusal(text.substr(0, size));
}

TEST(ParseJson, SurvivesRandomDamage) {
  const std::string text =
      R"({"model_type": "marian", "d": [1, 2.5e3, {"x": null}], "é": true, "s": "\ud83d\ude00"})";
  std::mt19937 random(1);
  int accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string damaged = text;
    for (unsigned n = random() % 4 + 1; n > 0; --n)
      damaged[random() % damaged.size()] = static_cast<char>(random());
    try {
      const Json json = parse_json(damaged, "x");
      EXPECT_EQ(parse_json(dump_json(json), "x"), json);  // what is accepted can be written and read again
      ++accepted;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kFormat);
    }
  }
  EXPECT_GT(accepted, 100);
}

TEST(ReadJson, NamesTheFile) {
  testing::TemporaryFolder folder;
  testing::put(folder / "c.json", "{\"a\": 1}");
  EXPECT_EQ(read_json(folder / "c.json")["a"], 1);
  testing::put(folder / "c.json", "{\"a\": ");
  EXPECT_ERROR(kFormat, (folder / "c.json") + ": line 1, column", read_json(folder / "c.json"));
  EXPECT_ERROR(kIo, folder / "no.json", read_json(folder / "no.json"));
}

TEST(DumpJson, IsSortedAndReplacesWhatIsNotUtf8) {
  EXPECT_EQ(dump_json({{"b", 1}, {"a", "x\xffy"}}), "{\"a\":\"x\xef\xbf\xbdy\",\"b\":1}");
  EXPECT_EQ(dump_json({{"a", 1}}, 2), "{\n  \"a\": 1\n}");
}

// --- fields
// -------------------------------------------------------------------------------------------------

TEST(GetInt, TakesIntegersInTheRangeAndFiveDotZero) {
  const Json json = parse_json(
      R"({"a": 5, "b": 5.0, "c": -3, "d": 9223372036854775807, "e": 9007199254740992.0, "z": -0.0})", "x");
  EXPECT_EQ(get_int(json, "a", 5, 5, "x"), 5);
  EXPECT_EQ(get_int(json, "b", 5, 5, "x"), 5);
  EXPECT_EQ(get_int(json, "c", -3, 10, "x"), -3);
  EXPECT_EQ(get_int(json, "d", 0, INT64_MAX, "x"), INT64_MAX);
  EXPECT_EQ(get_int(json, "e", 0, INT64_MAX, "x"), int64_t{1} << 53);
  EXPECT_EQ(get_int(json, "z", 0, 1, "x"), 0);
}

TEST(GetInt, RefusesEverythingElseAndSaysWhatItGot) {
  const Json json = parse_json(
      R"({"text": "5", "true": true, "null": null, "half": 5.5, "big": 18446744073709551615, "float": 1e300, "list": [5], "object": {}, "low": 0, "high": 11, "neg": -9223372036854775808})",
      "x");
  const auto got = [&](const char* key) {
    return testing::error_of(ErrorCode::kFormat, [&] { get_int(json, key, 1, 10, "c.json"); });
  };
  EXPECT_EQ(got("text"), "c.json: \"text\": needs an integer from 1 to 10, got the text \"5\"");
  EXPECT_EQ(got("true"), "c.json: \"true\": needs an integer from 1 to 10, got true");
  EXPECT_EQ(got("null"), "c.json: \"null\": needs an integer from 1 to 10, got null");
  EXPECT_EQ(got("half"), "c.json: \"half\": needs an integer from 1 to 10, got 5.5");
  EXPECT_EQ(got("big"), "c.json: \"big\": needs an integer from 1 to 10, got 18446744073709551615");
  EXPECT_EQ(got("float"), "c.json: \"float\": needs an integer from 1 to 10, got 1e+300");
  EXPECT_EQ(got("list"), "c.json: \"list\": needs an integer from 1 to 10, got an array of 1");
  EXPECT_EQ(got("object"), "c.json: \"object\": needs an integer from 1 to 10, got an object");
  EXPECT_EQ(got("low"), "c.json: \"low\": needs an integer from 1 to 10, got 0");
  EXPECT_EQ(got("high"), "c.json: \"high\": needs an integer from 1 to 10, got 11");
  EXPECT_EQ(got("neg"), "c.json: \"neg\": needs an integer from 1 to 10, got -9223372036854775808");
  EXPECT_EQ(got("gone"), "c.json: \"gone\": needs an integer from 1 to 10, got nothing: the key is missing");
  // A config built in memory can hold what no text can.
  const Json made = {{"nan", std::nan("")}, {"inf", INFINITY}};
  EXPECT_ERROR(kFormat, "needs an integer", get_int(made, "nan", 1, 10, "x"));
  EXPECT_ERROR(kFormat, "needs a number", get_number(made, "inf", 0, INFINITY, "x"));
  EXPECT_ERROR(kFormat, "needs an object with the key", get_int(Json(3), "a", 1, 10, "x"));
}

TEST(Fields, FallBackOnlyWhereTheKeyIsAbsent) {
  const Json json = parse_json(R"({"n": 3, "x": 0.5, "b": true, "s": "t", "null": null})", "x");
  EXPECT_EQ(get_int_or(json, "gone", 7, 1, 10, "x"), 7);
  EXPECT_EQ(get_int_or(json, "n", 7, 1, 10, "x"), 3);
  EXPECT_EQ(get_number_or(json, "gone", 0.25, 0, 1, "x"), 0.25);
  EXPECT_EQ(get_number_or(json, "x", 0.25, 0, 1, "x"), 0.5);
  EXPECT_EQ(get_number_or(json, "n", 0.25, 0, 5, "x"), 3.0);
  EXPECT_EQ(get_bool_or(json, "gone", false, "x"), false);
  EXPECT_EQ(get_bool_or(json, "b", false, "x"), true);
  EXPECT_EQ(get_string_or(json, "gone", "else", "x"), "else");
  EXPECT_EQ(get_string_or(json, "s", "else", "x"), "t");
  EXPECT_ERROR(kFormat, "got null", get_int_or(json, "null", 7, 1, 10, "x"));
  EXPECT_ERROR(kFormat, "needs a number from 0 to 1, got null", get_number_or(json, "null", 0.5, 0, 1, "x"));
  EXPECT_FALSE(has(json, "null", "x"));
  EXPECT_FALSE(has(json, "gone", "x"));
  EXPECT_TRUE(has(json, "n", "x"));
}

TEST(Fields, RefuseTheWrongType) {
  const Json json = parse_json(R"({"n": 3, "s": "t", "a": [1], "o": {"k": 2}, "b": 0})", "x");
  EXPECT_ERROR(kFormat, "\"b\": needs true or false, got 0", get_bool(json, "b", "x"));
  EXPECT_ERROR(kFormat, "\"n\": needs a text, got 3", get_string(json, "n", "x"));
  EXPECT_ERROR(kFormat, "\"s\": needs a number from 0 to 1, got the text", get_number(json, "s", 0, 1, "x"));
  EXPECT_ERROR(kFormat, "\"n\": needs a number from 0 to 1, got 3", get_number(json, "n", 0, 1, "x"));
  EXPECT_ERROR(kFormat, "\"o\": needs an array, got an object", get_array(json, "o", "x"));
  EXPECT_ERROR(kFormat, "\"a\": needs an object, got an array of 1", get_object(json, "a", "x"));
  EXPECT_EQ(get_array(json, "a", "x").size(), 1u);
  EXPECT_EQ(get_object(json, "o", "x")["k"], 2);
}

}  // namespace
}  // namespace qkv::io

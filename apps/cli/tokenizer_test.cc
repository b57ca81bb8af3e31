#include "apps/cli/tokenizer.h"

#include <gtest/gtest.h>

#include <cstdio>

#include "qkv/base/error.h"
#include "qkv/io/atomic_file.h"
#include "qkv/io/json.h"

namespace qkv::cli {
namespace {

std::string file(const std::string& name) { return testing::TempDir() + "qkv_cli_tokenizer_" + name; }

// What `qkv tokenizer <arguments>` prints.
std::string run(const std::string& arguments) {
  CLI::App app;
  add_tokenizer_command(app);
  testing::internal::CaptureStdout();
  try {
    app.parse("tokenizer " + arguments);
  } catch (...) {
    testing::internal::GetCapturedStdout();
    throw;
  }
  return testing::internal::GetCapturedStdout();
}

// Trained on the dictionary of Sennrich et al. (2016), section 3.2.
class TokenizerCommand : public testing::Test {
 protected:
  void SetUp() override {
    std::string text;
    for (const auto& [word, count] : {std::pair{"low", 5}, {"lower", 2}, {"newest", 6}, {"widest", 3}})
      for (int i = 0; i < count; ++i) text += std::string(word) + "\n";
    io::write_file_atomically(file("text"), text);
    trained = run("train --input " + file("text") + " --vocab-size 274 --json --out " + model);
  }
  void TearDown() override {
    for (const char* name : {"text", "tokenizer.json", "in"}) std::remove(file(name).c_str());
  }
  std::string codec(const std::string& command, const std::string& input) {
    io::write_file_atomically(file("in"), input);
    return run(command + " --tokenizer " + model + " --input " + file("in"));
  }
  std::string model = file("tokenizer.json"), trained;
};

TEST_F(TokenizerCommand, TrainsAndSaysSo) {
  const io::Json said = io::parse_json(trained, "stdout");
  EXPECT_EQ(said["vocab_size"], 274);
  EXPECT_EQ(said["lines"], 16);
}

TEST_F(TokenizerCommand, EncodesLinesToPiecesIdsOrJson) {
  EXPECT_EQ(codec("encode", "low lowest\n\nlow"), "\u0120low \u0120low est </s>\n</s>\n\u0120low </s>\n");
  EXPECT_EQ(codec("encode --ids --no-special", "low lowest\n"), "263 263 260\n");
  const io::Json json = io::parse_json(codec("encode --json", "low est"), "stdout");
  EXPECT_EQ(json["ids"].size(), json["pieces"].size());
  EXPECT_EQ(json["offsets"][0], io::Json::array({0, 3}));
  EXPECT_EQ(codec("encode --ids --no-special --parse-special", "low</s>"), "263 1\n");
}

TEST_F(TokenizerCommand, DecodesWhatItEncoded) {
  const std::string text = "low newest\n  two spaces \u00E9\n</s> typed\n";
  EXPECT_EQ(codec("decode", codec("encode --ids", text)), text);
  EXPECT_EQ(codec("decode --keep-special", "[263, 1]"), "low</s>\n");
}

TEST_F(TokenizerCommand, WrongInputNamesItsLine) {
  const auto message = [&](const std::string& command, const std::string& input) -> std::string {
    try {
      codec(command, input);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message("decode", "1 2\n3 x"), "line 2: needs ids from 0 to 273, got \"x\"");
  EXPECT_EQ(message("decode", "274"), "line 1: needs ids from 0 to 273, got \"274\"");
  EXPECT_EQ(message("decode", "99999999999999999999"),
            "line 1: needs ids from 0 to 273, got \"99999999999999999999\"");
  EXPECT_NE(message("encode", "a\n\xFF\n").find("line 2 is not UTF-8 at byte 1"), std::string::npos);
}

TEST_F(TokenizerCommand, AWrongCallIsAParseError) {
  EXPECT_THROW(run("train --input " + file("text")), CLI::ParseError) << "no --out";
  EXPECT_THROW(run("train --vocab-size -1 --out x --input " + file("text")), CLI::ParseError);
  EXPECT_THROW(run("train --normalize nfx --out x --input " + file("text")), CLI::ParseError);
  EXPECT_THROW(run("encode --ids --json --tokenizer " + model), CLI::ParseError);
  EXPECT_THROW(run(""), CLI::ParseError);
  EXPECT_THROW(run("train --vocab-size 99999 --out " + file("no") + " --input " + file("text")), Error);
}

}  // namespace
}  // namespace qkv::cli

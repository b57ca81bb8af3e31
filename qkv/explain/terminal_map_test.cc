#include "qkv/explain/terminal_map.h"

#include <gtest/gtest.h>

#include <sstream>
#include <vector>

#include "qkv/explain/words.h"

namespace qkv::explain {
namespace {

using Strings = std::vector<std::string>;

const Tensor kWeights = Tensor::from({3, 3}, {0.68, 0.30, 0.02,  //
                                              0.04, 0.91, 0.05,  //
                                              0.10, 0.20, 0.70});

Strings lines_of(const std::string& text) {
  Strings out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

TEST(TerminalMap, ShowsWordsAcrossAndDownAndShadesBetween) {
  EXPECT_EQ(terminal_map(kWeights, Strings{"a", "dog", "runs"}, Strings{"Ein", "Hund", "läuft"}),
            "        ╭ Ein\n"
            "        │  ╭ Hund\n"
            "        │  │  ╭ läuft\n"
            "     a  ▓▓ ▒▒ ·   Ein 68%\n"
            "   dog  ·  ██ ░░  Hund 91%\n"
            "  runs  ░░ ▒▒ ██  läuft 70%\n"
            "\n"
            "  · below 5%   ░░ from 5%   ▒▒ from 20%   ▓▓ from 45%   ██ from 70%\n");
}

TEST(TerminalMap, IsPlainAsciiWhereTheTerminalIs) {
  const std::string map = terminal_map(kWeights, Strings{"a", "dog", "runs"}, Strings{"Ein", "Hund", "läuft"},
                                       {.unicode = false});
  EXPECT_EQ(map,
            "        . Ein\n"
            "        |  . Hund\n"
            "        |  |  . l?uft\n"
            "     a  %% ++ .   Ein 68%\n"
            "   dog  .  ## --  Hund 91%\n"
            "  runs  -- ++ ##  l?uft 70%\n"
            "\n"
            "  . below 5%   -- from 5%   ++ from 20%   %% from 45%   ## from 70%\n");
}

TEST(TerminalMap, ColoursOnlyWhenAskedAndChangesNothingElse) {
  const Strings target = {"a", "dog", "runs"}, source = {"Ein", "Hund", "läuft"};
  const std::string plain = terminal_map(kWeights, target, source);
  std::string colored = terminal_map(kWeights, target, source, {.color = true});
  EXPECT_EQ(plain.find('\x1b'), std::string::npos);
  EXPECT_NE(colored.find("\x1b[1;36m██\x1b[0m"), std::string::npos);
  for (size_t at; (at = colored.find('\x1b')) != std::string::npos;)
    colored.erase(at, colored.find('m', at) + 1 - at);
  std::erase_if(colored, [](char c) { return c == ' '; });  // a coloured blank cell may end a line
  std::string bare = plain;
  std::erase_if(bare, [](char c) { return c == ' '; });
  EXPECT_EQ(colored, bare);
}

TEST(TerminalMap, AlignsWideAndCombiningCharacters) {
  const Strings lines = lines_of(
      terminal_map(Tensor::from({2, 1}, {1, 1}), Strings{"女の子", "e\u0301te\u0301"}, Strings{"x"}));
  EXPECT_EQ(lines[1], "  女の子  ██  x 100%");
  EXPECT_EQ(lines[2], "     e\u0301te\u0301  ██  x 100%");
}

TEST(TerminalMap, StaysWithinItsWidthHoweverLongTheSentence) {
  for (const int64_t n : {1, 5, 20, 33, 60, 150})
    for (const int64_t width : {40, 80, 100, 120}) {
      Strings target, source;
      for (int64_t i = 0; i < n; ++i) {
        target.push_back("Wort" + std::string(static_cast<size_t>(i % 40), 'x'));
        source.push_back("子供word" + std::string(static_cast<size_t>(i * 7 % 30), 'y'));
      }
      const std::string map = terminal_map(Tensor::full({n, n}, DType::kF32, 1.0 / static_cast<double>(n)),
                                           target, source, {.width = width});
      for (const std::string& line : lines_of(map)) {
        EXPECT_LE(display_width(line), width) << line;
        EXPECT_TRUE(line.empty() || line.back() != ' ');
      }
    }
}

TEST(TerminalMap, DrawsALongSentenceInPartsThatTogetherShowEveryColumnOnce) {
  const int64_t n = 50;
  Strings words;
  for (int64_t i = 0; i < n; ++i) words.push_back("w" + std::to_string(i));
  const std::string map =
      terminal_map(Tensor::full({1, n}, DType::kF32, 0.02), Strings{"x"}, words, {.width = 80});
  for (const std::string& word : words) {
    const std::string step = "╭ " + word + "\n";
    const size_t first = map.find(step);
    EXPECT_NE(first, std::string::npos) << word;
    EXPECT_EQ(map.find(step, first + 1), std::string::npos) << word;
  }
}

TEST(TerminalMap, HostileWordsCannotControlTheTerminal) {
  const std::string map =
      terminal_map(Tensor::from({1, 1}, {1}), Strings{"\x1b]0;owned\x07"}, Strings{"a\nb\x1b[2J"});
  EXPECT_EQ(map.find('\x1b'), std::string::npos);
  EXPECT_EQ(map.find('\x07'), std::string::npos);
  EXPECT_EQ(lines_of(map).size(), 4u);  // one step, one row, the legend
}

TEST(TerminalMap, RefusesWordsThatDoNotFitTheWeights) {
  EXPECT_THROW(terminal_map(kWeights, Strings{"a"}, Strings{"b"}), Error);
  EXPECT_THROW(terminal_map(kWeights, Strings{"a", "b", "c"}, Strings{"a", "b", "c"}, {.width = 20}), Error);
  EXPECT_EQ(terminal_map(Tensor::zeros({0, 0}, DType::kF32), {}, {}), "");
}

}  // namespace
}  // namespace qkv::explain

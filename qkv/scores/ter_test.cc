#include "qkv/scores/ter.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <tuple>
#include <vector>

#include "qkv/scores/ter_edits.h"

namespace qkv::scores {
namespace {

using Lines = std::vector<std::string>;

// sacrebleu test/test_ter.py: the first four, each with its meaning.
TEST(Ter, OfSmallCasesIsSacrebleus) {
  EXPECT_EQ(sentence_ter("aaaa bbbb cccc dddd", {"aaaa bbbb cccc dddd"}).score, 0.0);
  EXPECT_NEAR(sentence_ter("dddd eeee ffff", {"aaaa bbbb cccc"}).score, 100.0, 1e-9);
  EXPECT_NEAR(sentence_ter("", {"a"}).score, 100.0, 1e-9);
  EXPECT_NEAR(sentence_ter("d e f g h a b c", {"a b c d e f g h"}).score, 100.0 / 8, 1e-9);
}

// test_ter.py: "realistic example from WMT dev data (2019)", at its tolerance.
TEST(Ter, OfRealSentencesIsSacrebleus) {
  const Lines hyps = {
      "wählen Sie \" Bild neu berechnen , \" um beim Ändern der Bildgröße Pixel hinzuzufügen oder zu "
      "entfernen , damit "
      "das Bild ungefähr dieselbe Größe aufweist wie die andere Größe .",
      "wenn Sie alle Aufgaben im aktuellen Dokument aktualisieren möchten , wählen Sie im Menü des "
      "Aufgabenbedienfelds "
      "die Option \" Alle Aufgaben aktualisieren . \"",
      "klicken Sie auf der Registerkarte \" Optionen \" auf die Schaltfläche \" Benutzerdefiniert \" und "
      "geben Sie Werte "
      "für \" Fehlerkorrektur-Level \" und \" Y / X-Verhältnis \" ein .",
      "Sie können beispielsweise ein Dokument erstellen , das ein Auto über die Bühne enthält .",
      "wählen Sie im Dialogfeld \" Neu aus Vorlage \" eine Vorlage aus und klicken Sie auf \" Neu . \"",
  };
  const Lines refs = {
      "wählen Sie \" Bild neu berechnen , \" um beim Ändern der Bildgröße Pixel hinzuzufügen oder zu "
      "entfernen , damit "
      "die Darstellung des Bildes in einer anderen Größe beibehalten wird .",
      "wenn Sie alle Aufgaben im aktuellen Dokument aktualisieren möchten , wählen Sie im Menü des "
      "Aufgabenbedienfelds "
      "die Option \" Alle Aufgaben aktualisieren . \"",
      "klicken Sie auf der Registerkarte \" Optionen \" auf die Schaltfläche \" Benutzerdefiniert \" und "
      "geben Sie für \" "
      "Fehlerkorrektur-Level \" und \" Y / X-Verhältnis \" niedrigere Werte ein .",
      "Sie können beispielsweise ein Dokument erstellen , das ein Auto enthalt , das sich über die Bühne "
      "bewegt .",
      "wählen Sie im Dialogfeld \" Neu aus Vorlage \" eine Vorlage aus und klicken Sie auf \" Neu . \"",
  };
  EXPECT_NEAR(corpus_ter(hyps, {refs}).score, 13.6, 1e-3);
}

TEST(Ter, CountsTheNearestReferenceAgainstTheMeanLength) {
  // One word of "a b c" is wrong for the second reference, none for the first: 0 edits, mean length 3.5.
  const TerScore s = sentence_ter("a b c x", {"a b c", "a b c x"});
  EXPECT_EQ(s.edits, 0);
  EXPECT_EQ(s.ref_len, 3.5);
  EXPECT_EQ(sentence_ter("a b c", {"a b x", "a x y z"}).edits, 1);
}

TEST(Ter, OfAReferenceWithoutWordsIsAllOrNothing) {
  EXPECT_EQ(sentence_ter("word", {"..."}, {.no_punct = true}).score, 100.0);
  EXPECT_EQ(sentence_ter("!", {"..."}, {.no_punct = true}).score, 0.0);
  EXPECT_EQ(sentence_ter("", {" "}).score, 0.0);
}

TEST(Ter, IgnoresCaseUnlessTold) {
  EXPECT_EQ(sentence_ter("The Man", {"the man"}).score, 0.0);
  EXPECT_EQ(sentence_ter("The Man", {"the man"}, {.case_sensitive = true}).score, 100.0);
}

TEST(Ter, SignatureNamesEveryChoice) {
  EXPECT_EQ(sentence_ter("a", {"a"}).signature,
            "nrefs:1|case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:qkv-" QKV_VERSION);
  const TercomOptions all{
      .normalized = true, .no_punct = true, .asian_support = true, .case_sensitive = true};
  EXPECT_EQ(Ter(all).signature(3).short_text(),
            "#:3|c:mixed|t:tercom|nr:yes|pn:no|as:yes|v:qkv-" QKV_VERSION);
}

std::vector<uint32_t> numbers(const std::string& letters) { return {letters.begin(), letters.end()}; }

int64_t edits(const std::string& hyp, const std::string& ref) {
  return translation_edits(numbers(hyp), numbers(ref));
}

TEST(TranslationEdits, OfEmptySidesAreTheOtherSidesLength) {
  EXPECT_EQ(edits("", ""), 0);
  EXPECT_EQ(edits("abc", ""), 3);
  EXPECT_EQ(edits("", "abc"), 3);
}

TEST(TranslationEdits, AMoveCostsOneWhateverItsLength) {
  EXPECT_EQ(edits("defghabc", "abcdefgh"), 1);
  EXPECT_EQ(edits("bcda", "abcd"), 1);
  EXPECT_EQ(edits("abXcd", "abcd"), 1);
  EXPECT_EQ(edits("cdab", "abXcd"), 2);
}

// Letters as words, moved, replaced and dropped at random. The numbers are those of sacreBLEU's algorithm
// (sacrebleu/metrics/lib_ter.py, run in Python): in so small an alphabet most moves tie with others, so a
// wrong order among equals shows.
TEST(TranslationEdits, BreakTiesAsSacrebleu) {
  const std::vector<std::tuple<std::string, std::string, int64_t>> cases = {
      {"acbaaca", "bcbbccaa", 4},
      {"aadbcacad", "daccbcaaad", 3},
      {"bccddadaac", "ddabccaccada", 4},
      {"cabbbdeaebdc", "cabbdeeaabbdca", 4},
      {"aaaaecbbecdddd", "ebddeadaaaaecbdc", 8},
      {"fcafadfefeafebeca", "fffeebeaadcfcaaefa", 7},
      {"edddfeeadfcdfecead", "cdfcdffedddeaeeacead", 5},
      {"fhhdgddgafdfdgeabedcc", "fhhdfgedgddgdfdcchfabe", 7},
      {"adacabcccabcdbacdcbbbab", "acccabddbacbbaadacabbdcb", 5},
      {"dbggchdagffdhdebbbdefeafb", "dbggchhdagfhfdbbddgbefeafb", 4},
      {"hcciiciiieegdihhjeiciijdec", "chciihhjbdhiieiciiieegjdecii", 8},
      {"decabdeacbfacabbfcbedadfeafbca", "decabdeacbfaabbbafccfcbedadfea", 4},
      {"cadlgilkfcffdddbcdclbegbgcdgkib", "cdlkfcfjfdddbcdclbegbggilcdgkkab", 4},
      {"bdcfcbaaffagdfchbbfhgfdcgdghcbafbgd", "bdccebachbbfghgfgdfaadcghffgdcbafbgd", 8},
      {"fdgijbhgjchdbgjabjbdchgiadgabeefiibgiii", "fdgjcibgihdbgjabjbdehgiadgabeeefiiigijbh", 7},
      {"dcedeccbdfdecdfcecfcffacaabeafadaefcabddcba", "dcedeccecdfcecfffcaabeafbdfdacfdaefcabdfdcba", 4},
      {"ckjhjfekjkgfliclbhcdhbieijfeejkljjdkedddikdkak", "bfhckghjekjkgflicelcdhbieijfeejkljljdkedddikdkak",
       7},
      {"fhhfdffhcbbcdhgegcfcfecfhheabdbbhhfhffbbdfffgehfecdfhe",
       "fhhfdffhcbbhdhgegcfcfecgfbhfbbghheabedbehfecdfffbfhehehf", 13},
      {"edieakgdlhigejifbeaicjlebbfbakkcblkfhgfffkchhilbljaagkfagbhika",
       "eadiaicjeakgbjieibfbelbfbakkcblkgdldhifhgfffkchhilbljagkfagbhika", 11},
      {"cahajhafbdccgfijdjjidhcegciihehgfibhdgadcgiieahdahfhdgjcfcicjeiiacjcead",
       "cahajhafbdcfdjdjhjidhcegceiihehgfibhdgadcgiieadahfhdgjcgcfceicjeiiacjcad", 5},
  };
  for (const auto& [hyp, ref, expected] : cases) EXPECT_EQ(edits(hyp, ref), expected) << hyp << " " << ref;
}

TEST(TranslationEdits, SurviveVeryDifferentLengths) {
  EXPECT_EQ(edits("a", std::string(5000, 'b') + "a"), 5000);
  EXPECT_EQ(edits(std::string(5000, 'b') + "a", "a"), 5000);
  EXPECT_EQ(edits(std::string(3, 'a'), std::string(5000, 'a')), 4997);
}

// 20,000 words shuffled in blocks: the candidate limit ends the search, the beam bounds each distance.
TEST(TranslationEdits, OfAHugeLineEnd) {
  std::vector<uint32_t> ref(20000), hyp;
  for (uint32_t i = 0; i < ref.size(); ++i) ref[i] = i % 997;
  for (uint32_t i = 0; i < ref.size(); ++i) hyp.push_back(ref[(i ^ 7) % ref.size()]);
  const auto start = std::chrono::steady_clock::now();
  const int64_t n = translation_edits(hyp, ref);
  EXPECT_GT(n, 0);
  EXPECT_LE(n, 20000);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

}  // namespace
}  // namespace qkv::scores

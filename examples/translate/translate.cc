// Translates its arguments with a model directory: the library in twenty lines.
//   build/mine MODEL_DIRECTORY "Where is the station?"

#include <cstdio>
#include <string>
#include <vector>

#include "qkv/base/error.h"
#include "qkv/tasks/translator.h"

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  try {
    qkv::TranslateOptions options;
    options.search.beam_size = 4;
    const qkv::Translator translator(qkv::TranslationModel::load(argv[1]), options);
    for (const qkv::Translation& t : translator.translate({argv + 2, argv + argc}))
      std::printf("%s\n", t.text().c_str());
  } catch (const qkv::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}

// Random small attention problems, as many as asked for, as fast as they go: the fast paths against the
// reference, and every eighth a prompt against the same tokens one by one from a cache. For a sanitizer's
// build: docs/results.md has the command.
//
//   attention_fuzz [--cases 2000] [--from 0] [--seed 1]
//
// Case i is a function of seed + i alone. The first that fails is made smaller, printed, and ends the program
// with 1; a wrong call ends it with 2.

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <string_view>
#include <system_error>

#include "qkv/attention/random_case_checks.h"

namespace {

struct Flags {
  uint64_t cases = 2000, from = 0, seed = 1;
};

// False where a flag is unknown or has no number, or there would be nothing to do.
bool parse(int argc, char** argv, Flags& flags) {
  for (int i = 1; i < argc; i += 2) {
    const std::string_view flag = argv[i], text = i + 1 < argc ? argv[i + 1] : "";
    uint64_t* const value = flag == "--cases"  ? &flags.cases
                            : flag == "--from" ? &flags.from
                            : flag == "--seed" ? &flags.seed
                                               : nullptr;
    if (!value) return false;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
    if (error != std::errc() || end != text.data() + text.size()) return false;
  }
  return flags.cases > 0;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace qkv::test;
  Flags flags;
  if (!parse(argc, argv, flags)) {
    std::fprintf(
        stderr,
        "usage: attention_fuzz [--cases N] [--from N] [--seed N], whole numbers, at least one case\n");
    return 2;
  }
  const auto [cases, from, seed] = flags;

  for (uint64_t n = 0; n < cases; ++n) {
    const uint64_t i = from + n;
    const Case c = draw_case(seed + i, {});
    const auto check = i % 8 == 0 ? differs_token_by_token : blocked_differs_from_reference;
    if (check(c).empty()) {
      if ((i + 1) % 10000 == 0)
        std::printf("%llu cases\n", static_cast<unsigned long long>(i + 1)), std::fflush(stdout);
      continue;
    }
    const auto [small, why] = shrink(c, check);
    std::printf("case %llu: %s\nsmallest that fails: %s\n%s\n", static_cast<unsigned long long>(i),
                c.str().c_str(), small.str().c_str(), why.c_str());
    return 1;
  }
  std::printf("%llu cases agree, from %llu, seed %llu\n", static_cast<unsigned long long>(cases),
              static_cast<unsigned long long>(from), static_cast<unsigned long long>(seed));
  return 0;
}

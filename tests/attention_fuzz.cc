// Random small attention problems, as many as asked for, as fast as they go: the fast paths against the
// reference, and every eighth a prompt against the same tokens one by one from a cache. For a sanitizer's
// build: docs/results.md has the command.
//
//   attention_fuzz [--cases 2000] [--from 0] [--seed 1]
//
// Case i is a function of seed + i alone. The first that fails is made smaller, printed, and ends the program
// with 1.

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "qkv/attention/random_case_checks.h"

int main(int argc, char** argv) {
  using namespace qkv::test;
  uint64_t cases = 2000, from = 0, seed = 1;
  for (int i = 1; i + 1 < argc; i += 2)
    for (auto [flag, value] : {std::pair{"--cases", &cases}, {"--from", &from}, {"--seed", &seed}})
      if (std::string_view(argv[i]) == flag) *value = std::strtoull(argv[i + 1], nullptr, 10);

  for (uint64_t i = from; i < from + cases; ++i) {
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

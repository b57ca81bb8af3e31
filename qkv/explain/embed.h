#pragma once
// Files that become part of the program.

#include <string_view>

// The assembler copies a file into the read-only data, between <symbol>_begin and <symbol>_end. It finds it
// along the compiler's include path, so gcc and clang need no step before; cmake/folder.cmake rebuilds x.cc
// when x.html, x.css or x.js changes.
#define QKV_EMBED(symbol, path)                                                                       \
  asm(".pushsection .rodata, \"a\", @progbits\n"                                                      \
      ".global " #symbol "_begin, " #symbol "_end\n" #symbol "_begin: .incbin \"" path "\"\n" #symbol \
      "_end: .byte 0\n"                                                                               \
      ".popsection\n");                                                                               \
  extern "C" const char symbol##_begin[], symbol##_end[]

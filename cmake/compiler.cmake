# One place for compiler options. Instruction-set flags are not here: they belong to the files under
# qkv/kernels/<isa>/ alone (cmake/folder.cmake), so that the program runs on a plain x86-64 machine.
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g")

add_compile_options(-Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wno-ignored-attributes -Wno-psabi -Wno-missing-field-initializers)
# -ffp-contract=off: the compiler must not fuse a*b+c where we did not say so, or the same source would
# round differently in different inlinings and "same input, same bits" would not hold.
add_compile_options(-ffp-contract=off -fno-math-errno)
add_compile_options(-fstack-protector-strong)
add_compile_definitions(_GLIBCXX_ASSERTIONS QKV_VERSION="${PROJECT_VERSION}")
if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug" AND NOT QKV_SANITIZE)
  add_compile_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Debug")
  add_compile_definitions(QKV_DEBUG_CHECKS)
endif()
if(QKV_SANITIZE)
  add_compile_options(-fsanitize=${QKV_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${QKV_SANITIZE})
endif()

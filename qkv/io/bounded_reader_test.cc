#include "qkv/io/bounded_reader.h"

#include "qkv/io/testing.h"

namespace qkv::io {
namespace {

BoundedReader reader_of(std::string_view bytes) { return {std::as_bytes(std::span(bytes)), "x.bin"}; }

TEST(BoundedReader, ReadsLittleEndianNumbersAtAnyAddress) {
  BoundedReader reader =
      reader_of(std::string_view("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f", 15));
  EXPECT_EQ(reader.u8("a"), 1);
  EXPECT_EQ(reader.u16("b"), 0x0302);
  EXPECT_EQ(reader.u32("c"), 0x07060504u);
  EXPECT_EQ(reader.u64("d"), 0x0f0e0d0c0b0a0908u);
  EXPECT_TRUE(reader.at_end());
  reader.expect_end();
}

TEST(BoundedReader, ReadsSignedNumbersAndFloats) {
  BoundedReader reader =
      reader_of(std::string_view("\xff\xff\xff\xff\x00\x00\xc0\x3f"
                                 "\x00\x00\x00\x00\x00\x00\x00\xc0"
                                 "\xfe\xff\xff\xff\xff\xff\xff\xff",
                                 24));
  EXPECT_EQ(reader.i32("a"), -1);
  EXPECT_EQ(reader.f32("b"), 1.5f);
  EXPECT_EQ(reader.f64("c"), -2.0);
  EXPECT_EQ(reader.i64("d"), -2);
}

TEST(BoundedReader, NamesFilePlaceAndFieldWhereBytesAreMissing) {
  BoundedReader reader = reader_of("abcdef");
  reader.u8("tag");
  EXPECT_ERROR(kFormat, "x.bin: at byte 1: n_layers: needs 8 bytes, 5 are left", reader.u64("n_layers"));
  EXPECT_EQ(reader.u32("still readable"), 0x65646362u);
  EXPECT_ERROR(kFormat, "x.bin: at byte 5: 1 bytes follow the end", reader.expect_end());
}

TEST(BoundedReader, NoLengthFromOutsideWraps) {
  BoundedReader reader = reader_of("abc");
  reader.u8("tag");
  for (const uint64_t count : {uint64_t{3}, uint64_t{1} << 63, UINT64_MAX, UINT64_MAX - 1}) {
    EXPECT_ERROR(kFormat, "2 are left", reader.bytes(count, "data"));
    EXPECT_ERROR(kFormat, "2 are left", reader.text(count, "data"));
  }
  EXPECT_EQ(reader.text(0, "nothing"), "");
  EXPECT_EQ(reader.text(2, "data"), "bc");
}

TEST(BoundedReader, ACountMustFitTheBytesLeft) {
  const std::string_view two_items("\x02\0\0\0AAAABBBB", 12);
  EXPECT_EQ(reader_of(two_items).count_u32(4, "items"), 2);
  EXPECT_ERROR(kFormat, "items: 2 items of at least 5 bytes do not fit the 8 bytes left",
               reader_of(two_items).count_u32(5, "items"));
  const std::string_view huge("\xff\xff\xff\xff\xff\xff\xff\xff", 8);
  EXPECT_ERROR(kFormat, "do not fit the 0 bytes left", reader_of(huge).count_u64(1, "items"));
}

}  // namespace
}  // namespace qkv::io

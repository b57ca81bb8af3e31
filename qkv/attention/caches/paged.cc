#include <algorithm>
#include <cstring>

#include "qkv/attention/caches/children.h"
#include "qkv/attention/caches/row_store.h"
#include "qkv/base/checked.h"

namespace qkv {
namespace {

class PagedStore final : public RowStore {
 public:
  PagedStore(const RowFormat& format, int64_t n, std::shared_ptr<PagePool> pool)
      : format_(format), pool_(std::move(pool)), sequences_(static_cast<size_t>(n)) {
    const int64_t needed = std::max<int64_t>(1, kPageRows * format_.row_bytes);
    if (!pool_) pool_ = std::make_shared<PagePool>(needed);
    QKV_CHECK(pool_->page_bytes() == needed, kValue,
              "kv cache: the pool's pages have {} bytes, {} rows of this cache need {}", pool_->page_bytes(),
              kPageRows, needed);
  }

  int64_t size() const override { return static_cast<int64_t>(sequences_.size()); }
  int64_t length(int64_t s) const override { return sequences_[s].length; }

  void reserve(int64_t s, int64_t n) override {
    if (n <= 0) return;
    Sequence& sequence = sequences_[s];
    // The page that the next row goes into is copied if others read it too; those before it are never written
    // again.
    const int64_t last = sequence.length / kPageRows;
    if (last < static_cast<int64_t>(sequence.pages.size()) && sequence.pages[last].use_count() > 1) {
      const PagePool::Page copy = pool_->take();
      std::memcpy(copy.get(), sequence.pages[last].get(),
                  static_cast<size_t>(sequence.length % kPageRows * format_.row_bytes));
      sequence.set(last, copy, format_.v_at);
    }
    while (static_cast<int64_t>(sequence.pages.size()) < ceil_div(sequence.length + n, kPageRows))
      sequence.add(pool_->take(), format_.v_at);
  }
  void push(int64_t s, const void* k, const void* v) override {
    Sequence& sequence = sequences_[s];
    format_.write(k, v, at(sequence, sequence.length++));
  }
  void push_stored(int64_t s, const std::byte* row) override {
    Sequence& sequence = sequences_[s];
    std::memcpy(at(sequence, sequence.length++), row, static_cast<size_t>(format_.row_bytes));
  }
  const std::byte* row(int64_t s, int64_t i) const override { return at(sequences_[s], i); }
  void truncate(int64_t s, int64_t length) override {
    Sequence& sequence = sequences_[s];
    sequence.length = length;
    sequence.shorten(ceil_div(length, kPageRows));
  }
  void select(std::span<const int32_t> parents) override {
    become_children(sequences_, parents, [](const Sequence& s) { return s; });  // that share its pages
  }

  KeyValueSpan span(int64_t s) const override {
    KeyValueSpan span = format_.span();
    span.kv_len = sequences_[s].length;
    span.k_pages = sequences_[s].k.data();
    span.v_pages = sequences_[s].v.data();
    return span;
  }
  int64_t bytes() const override { return pool_->in_use() * pool_->page_bytes(); }
  std::unique_ptr<RowStore> successor(std::span<const int64_t> lengths) const override {
    std::vector<PagePool::Page> own;
    for (const Sequence& s : sequences_) own.insert(own.end(), s.pages.begin(), s.pages.end());
    std::sort(own.begin(), own.end());
    own.erase(std::unique(own.begin(), own.end()), own.end());  // forks share theirs
    auto next = std::make_unique<PagedStore>(format_, static_cast<int64_t>(lengths.size()), pool_);
    for (size_t s = 0; s < lengths.size(); ++s)
      for (int64_t left = lengths[s]; left > 0; left -= kPageRows) {
        next->sequences_[s].add(own.empty() ? pool_->take() : own.back(), format_.v_at);
        if (!own.empty()) own.pop_back();
      }
    return next;
  }

 private:
  struct Sequence {
    std::vector<PagePool::Page> pages;
    std::vector<const void*> k, v;  // where their keys and values begin: what a span names
    int64_t length = 0;

    void add(PagePool::Page page, int64_t v_at) {
      k.push_back(page.get()), v.push_back(page.get() + v_at);
      pages.push_back(std::move(page));
    }
    void set(int64_t i, PagePool::Page page, int64_t v_at) {
      k[i] = page.get(), v[i] = page.get() + v_at;
      pages[i] = std::move(page);
    }
    void shorten(int64_t n) {
      if (n < static_cast<int64_t>(pages.size())) pages.resize(n), k.resize(n), v.resize(n);
    }
  };

  std::byte* at(const Sequence& s, int64_t i) const {
    return s.pages[i / kPageRows].get() + i % kPageRows * format_.row_bytes;
  }

  RowFormat format_;
  std::shared_ptr<PagePool> pool_;
  std::vector<Sequence> sequences_;
};

}  // namespace

std::unique_ptr<RowStore> paged_store(const RowFormat& format, int64_t n_sequences,
                                      std::shared_ptr<PagePool> pool) {
  return std::make_unique<PagedStore>(format, n_sequences, std::move(pool));
}

}  // namespace qkv

#include "qkv/attention/caches/page_pool.h"

#include <mutex>
#include <vector>

#include "qkv/base/error.h"
#include "qkv/base/memory.h"

namespace qkv {

struct PagePool::State {
  int64_t page_bytes = 0, max_pages = 0, in_use = 0;
  std::mutex mutex;
  std::vector<std::shared_ptr<Buffer>> free;
};

PagePool::PagePool(int64_t page_bytes, int64_t max_pages) : state_(std::make_shared<State>()) {
  QKV_CHECK(page_bytes > 0 && max_pages >= 0, kValue,
            "page pool: pages of {} bytes, at most {} of them; needs a positive size and no negative number",
            page_bytes, max_pages);
  state_->page_bytes = page_bytes;
  state_->max_pages = max_pages;
}

PagePool::Page PagePool::take() {
  std::shared_ptr<Buffer> buffer;
  {
    const std::lock_guard lock(state_->mutex);
    QKV_CHECK(state_->max_pages == 0 || state_->in_use < state_->max_pages, kValue,
              "page pool: all {} pages are in use; let a sequence go or make the pool larger",
              state_->max_pages);
    // Room for all of them: giving a page back must not need memory.
    state_->free.reserve(state_->free.size() + static_cast<size_t>(state_->in_use) + 1);
    if (state_->free.empty()) state_->free.push_back(Buffer::allocate(state_->page_bytes));
    buffer = std::move(state_->free.back());
    state_->free.pop_back();
    ++state_->in_use;
  }
  return {buffer->data(), [state = state_, buffer](std::byte*) {
            const std::lock_guard lock(state->mutex);
            state->free.push_back(buffer);
            --state->in_use;
          }};
}

int64_t PagePool::page_bytes() const { return state_->page_bytes; }
int64_t PagePool::in_use() const {
  const std::lock_guard lock(state_->mutex);
  return state_->in_use;
}

}  // namespace qkv

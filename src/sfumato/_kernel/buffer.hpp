// Room for many numbers that are all written before they are read.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace sfumato {

template <typename T>
class Buffer {
  public:
    Buffer() = default;

    explicit Buffer(std::size_t n) : values_(static_cast<T*>(::operator new(n * sizeof(T), ALIGNED))) {
#ifdef __linux__
        // Large pages save most of the time in which the system makes room. Whether it does is its own
        // affair.
        if (n * sizeof(T) >= 2 * PAGE) madvise(values_.get(), n * sizeof(T), MADV_HUGEPAGE);
#endif
    }

    T* get() const { return values_.get(); }
    T& operator[](std::size_t i) const { return values_.get()[i]; }

  private:
    static constexpr std::size_t PAGE = std::size_t(1) << 21;
    static constexpr std::align_val_t ALIGNED{4096};

    struct Free {
        void operator()(T* values) const { ::operator delete(values, ALIGNED); }
    };

    std::unique_ptr<T, Free> values_;
};

}  // namespace sfumato

// Sets of up to 64 numbers as the bits of a word.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef _MSC_VER
#include <intrin.h>
#endif

namespace sfumato {

constexpr int WORD_BITS = 64;

// The lowest of a set that is not empty.
inline int lowest(std::uint64_t word) {
#ifdef _MSC_VER
    unsigned long index;
    _BitScanForward64(&index, word);
    return static_cast<int>(index);
#else
    return __builtin_ctzll(word);
#endif
}

// How many there are. Spelt out, because not all processors have an instruction for it.
inline int count(std::uint64_t word) {
    word -= word >> 1 & 0x5555555555555555;
    word = (word & 0x3333333333333333) + (word >> 2 & 0x3333333333333333);
    word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0f;
    return static_cast<int>(word * 0x0101010101010101 >> 56);
}

// Call work(number) for all of a set, from the lowest on.
template <typename Work>
inline void for_each(std::uint64_t word, const Work& work) {
    for (; word; word &= word - 1) work(lowest(word));
}

// Of 0 … n-1, at most 63, those at which two arrays have equal bytes.
inline std::uint64_t equal_bytes(const std::uint8_t* a, const std::uint8_t* b, std::int64_t n) {
    constexpr std::uint64_t LOW = 0x7f7f7f7f7f7f7f7f;
    std::uint64_t result = 0;
    std::int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        std::uint64_t x, y;
        std::memcpy(&x, a + i, 8);
        std::memcpy(&y, b + i, 8);
        x ^= y;
        // The top bit of every byte tells whether it is zero; a product brings them together.
        x = ~(((x & LOW) + LOW) | x) & ~LOW;
        result |= ((x >> 7) * 0x0102040810204080 >> 56) << i;
    }
    for (; i < n; ++i) result |= static_cast<std::uint64_t>(a[i] == b[i]) << i;
    return result;
}

}  // namespace sfumato

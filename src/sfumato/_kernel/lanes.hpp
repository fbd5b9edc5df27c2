// Numbers that are worked on at once: as many as fill one register of the instruction set that a file is
// compiled for. Compilers do take wider vectors, but pass their parts through memory.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "grid.hpp"

namespace sfumato {

#if defined(__AVX512VNNI__)
constexpr int N_LANES = 16;
#elif defined(__AVX2__)
constexpr int N_LANES = 8;
#else
constexpr int N_LANES = 4;
#endif
static_assert(MOST_LANES % N_LANES == 0, "what is filled up must be whole vectors");

#if defined(__GNUC__) || defined(__clang__)

typedef float Floats __attribute__((vector_size(4 * N_LANES)));
typedef std::int32_t Ints __attribute__((vector_size(4 * N_LANES)));
typedef std::int16_t Shorts __attribute__((vector_size(2 * N_LANES)));
typedef std::uint8_t Bytes __attribute__((vector_size(N_LANES)));

static inline Floats to_floats(Ints values) { return __builtin_convertvector(values, Floats); }
static inline Ints to_ints(Shorts values) { return __builtin_convertvector(values, Ints); }
static inline Ints to_ints(Floats values) { return __builtin_convertvector(values, Ints); }
static inline Ints to_ints(Bytes values) { return __builtin_convertvector(values, Ints); }
static inline Bytes to_bytes(Ints values) { return __builtin_convertvector(values, Bytes); }
static inline Floats all(float value) { return value - Floats{}; }
static inline Ints all(std::int32_t value) { return value + Ints{}; }
static inline Floats choose_from(Ints condition, Floats yes, Floats no) { return condition ? yes : no; }
static inline Ints choose_from(Ints condition, Ints yes, Ints no) { return condition ? yes : no; }
static inline Bytes all_bytes(std::uint8_t value) { return value + Bytes{}; }
static inline Bytes unless(std::uint8_t marked, Bytes value, Bytes instead) {
    return value == all_bytes(marked) ? value : instead;
}

#else  // the same, spelt out

template <typename T>
struct Pack {
    T lane[N_LANES];
    Pack() = default;
    T& operator[](int i) { return lane[i]; }
    T operator[](int i) const { return lane[i]; }
};
using Floats = Pack<float>;
using Ints = Pack<std::int32_t>;
using Shorts = Pack<std::int16_t>;
using Bytes = Pack<std::uint8_t>;

template <typename R, typename F>
static inline R each(F f) {
    R result;
    for (int i = 0; i < N_LANES; ++i) result[i] = f(i);
    return result;
}
static inline Floats operator+(Floats a, Floats b) { return each<Floats>([&](int i) { return a[i] + b[i]; }); }
static inline Floats operator-(Floats a, Floats b) { return each<Floats>([&](int i) { return a[i] - b[i]; }); }
static inline Floats operator/(Floats a, Floats b) { return each<Floats>([&](int i) { return a[i] / b[i]; }); }
static inline Floats operator*(Floats a, Floats b) { return each<Floats>([&](int i) { return a[i] * b[i]; }); }
static inline Ints operator<(Floats a, Floats b) { return each<Ints>([&](int i) { return a[i] < b[i] ? -1 : 0; }); }
static inline Ints operator<=(Floats a, Floats b) { return each<Ints>([&](int i) { return a[i] <= b[i] ? -1 : 0; }); }
static inline Ints operator<(Ints a, Ints b) { return each<Ints>([&](int i) { return a[i] < b[i] ? -1 : 0; }); }
static inline Ints operator==(Ints a, Ints b) { return each<Ints>([&](int i) { return a[i] == b[i] ? -1 : 0; }); }
static inline Ints operator^(Ints a, Ints b) { return each<Ints>([&](int i) { return a[i] ^ b[i]; }); }
static inline Ints operator&(Ints a, Ints b) { return each<Ints>([&](int i) { return a[i] & b[i]; }); }
static inline Ints operator+(Ints a, Ints b) { return each<Ints>([&](int i) { return a[i] + b[i]; }); }
static inline Ints operator*(Ints a, Ints b) { return each<Ints>([&](int i) { return a[i] * b[i]; }); }
static inline Ints operator-(Ints a, Ints b) { return each<Ints>([&](int i) { return a[i] - b[i]; }); }
static inline Floats to_floats(Ints a) { return each<Floats>([&](int i) { return float(a[i]); }); }
static inline Ints to_ints(Shorts a) { return each<Ints>([&](int i) { return std::int32_t(a[i]); }); }
static inline Ints to_ints(Floats a) { return each<Ints>([&](int i) { return std::int32_t(a[i]); }); }
static inline Ints to_ints(Bytes a) { return each<Ints>([&](int i) { return std::int32_t(a[i]); }); }
static inline Bytes to_bytes(Ints a) { return each<Bytes>([&](int i) { return std::uint8_t(a[i]); }); }
static inline Floats all(float value) { return each<Floats>([&](int) { return value; }); }
static inline Ints all(std::int32_t value) { return each<Ints>([&](int) { return value; }); }
static inline Floats choose_from(Ints c, Floats a, Floats b) { return each<Floats>([&](int i) { return c[i] ? a[i] : b[i]; }); }
static inline Ints choose_from(Ints c, Ints a, Ints b) { return each<Ints>([&](int i) { return c[i] ? a[i] : b[i]; }); }
static inline Bytes unless(std::uint8_t marked, Bytes value, Bytes instead) { return each<Bytes>([&](int i) { return value[i] == marked ? value[i] : instead[i]; }); }

#endif

template <typename Lanes, typename T>
static inline Lanes load(const T* from) {
    Lanes lanes;
    std::memcpy(&lanes, from, sizeof lanes);
    return lanes;
}

template <typename Lanes, typename T>
static inline void store(T* to, const Lanes& lanes) {
    std::memcpy(to, &lanes, sizeof lanes);
}

// The bits of numbers as whole numbers, and back.
static inline Ints bits_of(const Floats& values) { return load<Ints>(&values); }
static inline Floats with_bits(const Ints& bits) { return load<Floats>(&bits); }

// Two numbers of 16 bits each as one of 32 bits.
static inline std::int32_t packed(std::int32_t low, std::int32_t high) {
    return static_cast<std::int32_t>((static_cast<std::uint32_t>(low) & 0xffff) |
                                     static_cast<std::uint32_t>(high) << 16);
}
static inline std::int32_t low_of(std::int32_t pair) { return static_cast<std::int16_t>(pair); }
static inline std::int32_t high_of(std::int32_t pair) { return pair >> 16; }

// A vector of pairs. `add_products` adds to every lane of a sum the products of the low and of the high
// numbers of two pairs; x86 has instructions for that, others multiply twice.
#ifdef __SSE2__

using Pairs = Ints;
static inline Pairs load_pairs(const std::int32_t* from) { return load<Ints>(from); }
static inline Pairs all_pairs(std::int32_t pair) { return all(pair); }
static inline Pairs pairs(Ints low, Ints high) { return (low & all(0xffff)) | high << 16; }

#if defined(__AVX512VNNI__)
static inline Ints add_products(Ints sum, Pairs a, Pairs b) {
    return (Ints)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
}
static inline Ints lesser(Ints a, Ints b) { return (Ints)_mm512_min_epi32((__m512i)a, (__m512i)b); }
#elif defined(__AVX2__)
static inline Ints add_products(Ints sum, Pairs a, Pairs b) {
    return sum + (Ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
}
static inline Ints lesser(Ints a, Ints b) { return (Ints)_mm256_min_epi32((__m256i)a, (__m256i)b); }
#else
static inline Ints add_products(Ints sum, Pairs a, Pairs b) {
    return sum + (Ints)_mm_madd_epi16((__m128i)a, (__m128i)b);
}
static inline Ints lesser(Ints a, Ints b) {
    const Ints is_less = a < b;
    return (is_less & a) | (~is_less & b);
}
#endif

#else

struct Pairs {
    Ints low, high;
};
static inline Pairs pairs(Ints low, Ints high) { return {low, high}; }
static inline Pairs all_pairs(std::int32_t pair) { return {all(low_of(pair)), all(high_of(pair))}; }
static inline Pairs load_pairs(const std::int32_t* from) {
    Pairs result;
    for (int i = 0; i < N_LANES; ++i) {
        result.low[i] = low_of(from[i]);
        result.high[i] = high_of(from[i]);
    }
    return result;
}
static inline Ints add_products(Ints sum, Pairs a, Pairs b) { return sum + a.low * b.low + a.high * b.high; }
static inline Ints lesser(Ints a, Ints b) { return choose_from(a < b, a, b); }

#endif

}  // namespace sfumato

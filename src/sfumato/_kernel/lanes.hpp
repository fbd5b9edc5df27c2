// Sixteen numbers that are worked on at once. Compilers turn this into what the processor has:
// one AVX-512, two AVX or four SSE or NEON operations.
#pragma once

#include <cstdint>
#include <cstring>

#include "grid.hpp"

namespace sfumato {

#if defined(__GNUC__) || defined(__clang__)

typedef float Floats __attribute__((vector_size(4 * N_LANES)));
typedef std::int32_t Ints __attribute__((vector_size(4 * N_LANES)));
typedef std::int16_t Shorts __attribute__((vector_size(2 * N_LANES)));
typedef std::uint8_t Bytes __attribute__((vector_size(N_LANES)));

static inline Floats to_floats(Shorts values) { return __builtin_convertvector(values, Floats); }
static inline Floats to_floats(Ints values) { return __builtin_convertvector(values, Floats); }
static inline Ints to_ints(Shorts values) { return __builtin_convertvector(values, Ints); }
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
static inline Floats operator*(Floats a, Floats b) { return each<Floats>([&](int i) { return a[i] * b[i]; }); }
static inline Ints operator<(Floats a, Floats b) { return each<Ints>([&](int i) { return a[i] < b[i] ? -1 : 0; }); }
static inline Ints operator<=(Floats a, Floats b) { return each<Ints>([&](int i) { return a[i] <= b[i] ? -1 : 0; }); }
static inline Ints operator<(Ints a, Ints b) { return each<Ints>([&](int i) { return a[i] < b[i] ? -1 : 0; }); }
static inline Ints operator==(Ints a, Ints b) { return each<Ints>([&](int i) { return a[i] == b[i] ? -1 : 0; }); }
static inline Ints operator&(Ints a, Ints b) { return each<Ints>([&](int i) { return a[i] & b[i]; }); }
static inline Ints operator+(Ints a, Ints b) { return each<Ints>([&](int i) { return a[i] + b[i]; }); }
static inline Ints operator*(Ints a, Ints b) { return each<Ints>([&](int i) { return a[i] * b[i]; }); }
static inline Ints operator-(Ints a, Ints b) { return each<Ints>([&](int i) { return a[i] - b[i]; }); }
static inline Floats to_floats(Ints a) { return each<Floats>([&](int i) { return float(a[i]); }); }
static inline Ints to_ints(Shorts a) { return each<Ints>([&](int i) { return std::int32_t(a[i]); }); }
static inline Ints to_ints(Bytes a) { return each<Ints>([&](int i) { return std::int32_t(a[i]); }); }
static inline Floats to_floats(Shorts a) { return each<Floats>([&](int i) { return float(a[i]); }); }
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

}  // namespace sfumato

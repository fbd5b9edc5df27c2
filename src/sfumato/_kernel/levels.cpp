// Compiled once for each instruction set, each time in a namespace of its own (SFUMATO_ISA). The
// compiler makes vectors of the plain loop over levels.

#include "levels.hpp"

#include <cstring>

#include "lanes.hpp"

namespace sfumato {
namespace SFUMATO_ISA {
namespace {

// The same operations in the same order as NumPy would do them on float32.
template <typename T>
bool row_to_levels(const T* __restrict values, std::int64_t n, const Scale& scale,
                   std::int16_t* __restrict levels) {
    const float low = scale.low, gain = scale.gain;
    const int n_bits_dropped = scale.n_bits_dropped;
    std::int32_t n_bad = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        const float value = static_cast<float>(values[i]);
        const float level = (value - low) * gain + 0.5f;
        n_bad |= !(value - value == 0.0f);
        const float above = level > 0.0f ? level : 0.0f;  // NaN too
        const float inside = above < N_LEVELS - 0.5f ? above : N_LEVELS - 0.5f;
        levels[i] = static_cast<std::int16_t>(static_cast<std::int32_t>(inside) >> n_bits_dropped);
    }
    return n_bad == 0;
}

constexpr float WHITE_X = 0.95047f, WHITE_Z = 1.08883f;  // of D65, for a Y of 1

// Pixels whose light is looked up one by one and then worked on in vectors.
constexpr std::int64_t N_AT_ONCE = 256;
static_assert(N_AT_ONCE % N_LANES == 0, "pixels must be whole vectors");

float light_of(const LightTable& lights, std::uint8_t value) { return lights[value]; }

float light_of(const LightTable& lights, float value) {
    const float above = value > 0.0f ? value : 0.0f;
    const float inside = above < 255.0f ? above : 255.0f;
    const std::int32_t i = static_cast<std::int32_t>(inside);
    return lights[i] + (lights[i + 1] - lights[i]) * (inside - static_cast<float>(i));
}

// For values of more than 0.008, to about 1e-7. A third of a number's bits, read as an integer, are about
// the bits of its cube root; Halley's rule does the rest, each time with three times as many digits.
Floats cube_root(Floats value) {
    const Ints third = to_ints(to_floats(bits_of(value)) * all(1.0f / 3.0f));
    Floats root = with_bits(third + all(709921077));
    for (int i = 0; i < 2; ++i) {
        const Floats cube = root * root * root;
        root = root * ((cube + (value + value)) / (cube + cube + value));
    }
    return root;
}

Floats lightness(Floats value) {
    const Floats straight = value * all(841.0f / 108.0f) + all(4.0f / 29.0f);
    return choose_from(all(216.0f / 24389.0f) < value, cube_root(value), straight);
}

template <typename T>
void row_to_lab(const LightTable& lights, const Photo<const T*>& photo, std::int64_t n,
                const Photo<float*>& lab) {
    float values[N_PHOTO_CHANNELS][N_AT_ONCE] = {};
    for (std::int64_t first = 0; first < n; first += N_AT_ONCE) {
        const std::int64_t n_here = n - first < N_AT_ONCE ? n - first : N_AT_ONCE;
        for (int c = 0; c < N_PHOTO_CHANNELS; ++c)
            for (std::int64_t i = 0; i < n_here; ++i) values[c][i] = light_of(lights, photo[c][first + i]);
        for (std::int64_t i = 0; i < n_here; i += N_LANES) {
            const auto red = load<Floats>(values[0] + i), green = load<Floats>(values[1] + i),
                       blue = load<Floats>(values[2] + i);
            const auto mixed = [&](float r, float g, float b) {
                return lightness(all(r) * red + all(g) * green + all(b) * blue);
            };
            const Floats x = mixed(0.412453f / WHITE_X, 0.357580f / WHITE_X, 0.180423f / WHITE_X);
            const Floats y = mixed(0.212671f, 0.715160f, 0.072169f);
            const Floats z = mixed(0.019334f / WHITE_Z, 0.119193f / WHITE_Z, 0.950227f / WHITE_Z);
            store(values[0] + i, all(1.16f) * y - all(0.16f));
            store(values[1] + i, all(5.0f) * (x - y));
            store(values[2] + i, all(2.0f) * (y - z));
        }
        for (int c = 0; c < N_PHOTO_CHANNELS; ++c)
            std::memcpy(lab[c] + first, values[c], n_here * sizeof(float));
    }
}

}  // namespace

bool to_levels(Type type, const void* values, std::int64_t n, const Scale& scale, std::int16_t* levels) {
    switch (type) {
        case Type::int16:
            return row_to_levels(static_cast<const std::int16_t*>(values), n, scale, levels);
        case Type::uint16:
            return row_to_levels(static_cast<const std::uint16_t*>(values), n, scale, levels);
        case Type::uint8:
            return row_to_levels(static_cast<const std::uint8_t*>(values), n, scale, levels);
        default:
            return row_to_levels(static_cast<const float*>(values), n, scale, levels);
    }
}

void to_lab(const LightTable& lights, Type type, const Photo<const void*>& photo, std::int64_t n,
            const Photo<float*>& lab) {
    const auto convert = [&](auto zero) {
        using T = decltype(zero);
        row_to_lab<T>(lights,
                      {static_cast<const T*>(photo[0]), static_cast<const T*>(photo[1]),
                       static_cast<const T*>(photo[2])},
                      n, lab);
    };
    if (type == Type::uint8)
        convert(std::uint8_t{});
    else
        convert(float{});
}

}  // namespace SFUMATO_ISA
}  // namespace sfumato

// From intensities to levels, in which superpixels compare them; and from red, green and blue to CIELAB,
// in which distances are about what the eye sees.
#pragma once

#include <array>
#include <cstdint>

namespace sfumato {

constexpr int N_LEVELS = 4096;  // intensities are 0 … 4095, or fewer and coarser levels
constexpr int N_PHOTO_CHANNELS = 3;

enum class Type { float32, int16, uint16, uint8 };

inline std::int64_t bytes_of(Type type) {
    return type == Type::float32 ? 4 : type == Type::uint8 ? 1 : 2;
}

// How the intensities of a channel become levels.
struct Scale {
    float low = 0.0f;        // becomes level 0
    float gain = 0.0f;       // levels for one unit of intensity
    int n_bits_dropped = 0;  // of levels, where fewer than 4096 are told apart
};

// One of something for red, green and blue, or for L*, a* and b*.
template <typename T>
using Photo = std::array<T, N_PHOTO_CHANNELS>;

// The light, 0 to 1, of the sRGB values 0 to 255; the last one twice.
using LightTable = std::array<float, 257>;

const LightTable& light_table();

// Write the levels of n intensities. Returns false if one of them is NaN or infinite.
using ToLevels = bool(Type type, const void* values, std::int64_t n, const Scale& scale,
                      std::int16_t* levels);

// For n pixels, from sRGB (0 to 255; float32 or uint8) to L*, a* and b* divided by 100, for daylight (D65)
// and an observer of 2°. IEC 61966-2-1 and CIE 15 give the formulas.
using ToLab = void(const LightTable& lights, Type type, const Photo<const void*>& photo, std::int64_t n,
                   const Photo<float*>& lab);

// The fastest ones that this processor can run. All give the same bits.
ToLevels* choose_to_levels();
ToLab* choose_to_lab();

}  // namespace sfumato

// From red, green and blue to CIELAB, in which distances are about what the eye sees.
#pragma once

#include <array>
#include <cstdint>

namespace sfumato {

constexpr int N_PHOTO_CHANNELS = 3;

template <typename T>
using Planes = std::array<T*, N_PHOTO_CHANNELS>;

// For n pixels, from sRGB (0 to 255) to L*, a* and b* divided by 100, for daylight (D65) and an
// observer of 2°. IEC 61966-2-1 and CIE 15 give the formulas; cube roots come from a table and are
// right to about 1e-6.
template <typename T>
void photo_to_lab(const Planes<const T>& photo, std::int64_t n, const Planes<float>& lab);

}  // namespace sfumato

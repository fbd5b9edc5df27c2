// The distance from every element of an image to the nearest element of a class.
#pragma once

#include <array>
#include <cstdint>

#include "grid.hpp"
#include "team.hpp"

namespace sfumato {

using Spacing3 = std::array<float, N_AXES>;

// Write the distance in mm from every element's centre to that of the nearest element with
// label[i] == wanted, exactly; infinite where there is none.
//
// Felzenszwalb and Huttenlocher, Distance transforms of sampled functions, Theory of Computing 2012.
void distance_to_class(const std::uint8_t* label, std::uint8_t wanted, const Index3& shape,
                       const Spacing3& spacing, float* distance, Team& team);

}  // namespace sfumato

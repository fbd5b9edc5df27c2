// Which part of an image lies around an annotated boundary.
#pragma once

#include <cstdint>
#include <vector>

#include "grid.hpp"
#include "team.hpp"

namespace sfumato {

constexpr int BAND = 3;  // superpixels are sought this many cells around the boundary

// The cells within BAND cells of one with an element that shares a face with one of another class.
std::vector<std::int64_t> cells_near_boundary(const Grid& grid, const std::uint8_t* label, Team& team);

}  // namespace sfumato

// From colours to superpixels: every superpixel is connected through faces.
#pragma once

#include <cstdint>

#include "grid.hpp"
#include "team.hpp"

namespace sfumato {

// Write the superpixel of every element of a box, 0 … n-1 in the order of their first elements. Where the
// colour is NOWHERE, -1 must stand already wherever that matters. Returns n. Arrays have the box's shape.
//
// Connected elements of one colour are a piece. Pieces of less than a quarter of a cell join the large
// piece with which they share most faces (of equals, the one that starts first), as soon as they touch
// one; they count as part of it from the next round on.
std::int64_t number_superpixels(const Grid& grid, const Box& box, const std::uint8_t* colours,
                                std::int32_t* superpixels, Team& team);

}  // namespace sfumato

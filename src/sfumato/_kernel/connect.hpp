// From choices to superpixels: every superpixel is connected through faces.
#pragma once

#include <cstdint>

#include "team.hpp"
#include "tiles.hpp"

namespace sfumato {

// Write the superpixel of every element of the tiles, 0 … n-1 in the order of their first elements,
// to an array of the image's shape; elements that take no part keep what stands there. Returns n.
//
// Elements of one centre that are connected are a piece. Pieces of less than a quarter of a cell join
// the large piece with which they share most faces (of equals, the one that starts first), as soon as
// they touch one; they count as part of it from the next round on.
std::int64_t number_superpixels(const Tiles& tiles, std::int32_t* superpixels, Team& team);

}  // namespace sfumato

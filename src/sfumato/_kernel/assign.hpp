// The inner loop of SLIC: give every element of a tile to the nearest of the near centres.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "grid.hpp"
#include "tiles.hpp"

namespace sfumato {

constexpr int N_SLOTS = 32;      // the 27 near centres, filled up to whole lanes
constexpr int N_PLACE_SUMS = 4;  // what elements add up to: their number, z, y and x; then levels

// One tile, and the centres that its elements may choose.
struct Assignment {
    const Box& box;
    const std::int16_t* levels;
    const Range* ranges;
    std::uint8_t* choice;
    int n_channels;
    std::array<float, N_AXES> weights;           // levels for one element along each axis
    std::array<const float*, N_NEAR> centres;    // place and levels; null where there is none
    std::int64_t* changes;                       // centre, sum: by how much the sums change; added to
};

// Room that a thread uses again for every tile. It is made here and not where the inner loop is
// compiled: code of the standard library must not be compiled for one instruction set and be linked
// for all.
struct Scratch {
    std::int64_t n_y = 0, n_x = 0;           // the plane that y and x were made for
    std::vector<std::int32_t> y, x;          // the place of every element of a plane in the tile
    std::vector<float> y_place, x_place;     // the same in the image
    std::vector<float> in_plane;             // squared distance in y and x: block, slot, element
    std::vector<std::uint32_t> is_in_plane;  // for each block: the slots for which it is known
    std::vector<float> levels;               // of the centres: channel, slot
    std::vector<std::int64_t> changes;       // see Assignment

    // A plane that is the tile's only one need not be remembered: one block at a time is enough.
    Scratch(std::int64_t n_in_plane, bool is_flat, int n_channels)
        : y(Tiles::padded(n_in_plane)), x(y.size()), y_place(y.size()), x_place(y.size()),
          in_plane((is_flat ? 1 : Tiles::n_blocks(y.size())) * N_NEAR * BLOCK),
          is_in_plane(Tiles::n_blocks(y.size())), levels(n_channels * N_SLOTS),
          changes(N_NEAR * (N_PLACE_SUMS + n_channels)) {}
};

// Returns a bit for each centre whose sums change.
using AssignTile = std::uint32_t(const Assignment&, Scratch&);

// The fastest one that this processor can run. All give the same bits.
AssignTile* choose_assign_tile();

}  // namespace sfumato

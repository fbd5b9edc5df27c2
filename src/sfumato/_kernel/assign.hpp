// The inner loop of SLIC: give every element of a tile to the nearest of the near centres.
//
// Places and levels are whole numbers, so small that every squared distance is less than 2²⁴ (see slic.cpp):
// a distance and which centre it belongs to fit in 32 bits, and neither the order of operations nor the
// processor changes a bit.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "grid.hpp"
#include "tiles.hpp"

namespace sfumato {

constexpr int N_SLOTS = 32;      // the 27 near centres, filled up to whole lanes
constexpr int BLOCK = 64;        // elements of a plane that are looked at together
constexpr int N_PLACE_SUMS = 4;  // what elements add up to: their number, z, y and x; then levels

// One tile, and the centres that its elements may choose.
struct Assignment {
    const Box& box;
    std::array<const std::int32_t*, N_AXES> places;  // along each axis, of the tile's elements
    const std::int16_t* levels;
    const Range* ranges;
    std::uint8_t* colours;
    int n_channels;
    std::array<const std::int32_t*, N_NEAR> centres;  // place and levels; null where there is none
    std::uint8_t own_colour;   // of the tile's cell
    bool is_last;              // nobody asks for the sums any more
    std::uint32_t moved;       // a bit for each centre that is not where it was
    std::uint32_t candidates;  // for each that some element might have been nearest to the last time

    std::int32_t middle(int axis) const {
        return (places[axis][0] + places[axis][box.n[axis] - 1]) / 2;
    }
};

// Room that a thread uses again for every tile. It is made here and not where the inner loop is
// compiled: code of the standard library must not be compiled for one instruction set and be linked
// for all.
struct Scratch {
    std::vector<std::int32_t> yx;        // the place of every element of a plane, y and x from the middle, a pair
    std::vector<std::int32_t> factors;   // of the centres: pair of features, slot
    std::vector<std::int64_t> changes;   // of sums, for each colour, places from the tile's middle; added to
    std::vector<std::int32_t> deltas;    // for pruning: feature, slot

    Scratch(std::int64_t n_in_plane, int n_channels)
        : yx(Tiles::padded(n_in_plane)), factors((n_channels + 3) / 2 * N_SLOTS),
          changes(N_COLOURS * (N_PLACE_SUMS + n_channels)),
          deltas((N_AXES + n_channels) * N_SLOTS) {}
};

struct Assigned {
    std::uint32_t candidates;
    std::uint64_t changed;  // a bit for each colour whose sums change
};

using AssignTile = Assigned(const Assignment&, Scratch&);

// The fastest one that this processor can run. All give the same bits.
AssignTile* choose_assign_tile();

}  // namespace sfumato

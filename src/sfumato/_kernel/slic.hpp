// SLIC superpixels on a grid of seeds (Achanta et al. 2012), in some or all cells of the grid.
#pragma once

#include <array>
#include <cstdint>

#include "grid.hpp"
#include "team.hpp"
#include "tiles.hpp"

namespace sfumato {

struct SlicSettings {
    std::array<float, N_AXES> weights;  // of 4096 levels, how many one element is along each axis
    int n_iterations;
    const float* shifts;                // for each cell and axis: elements; or null
};

// How many bits of the 4096 levels are dropped, so that all squared distances are whole numbers of less
// than 2²⁴. Places are counted in the levels that are left. Channels without contrast do not count.
int n_bits_to_drop(const Grid& grid, const ImageView& image, const SlicSettings& settings);

// Write to `tiles.colours` the colour of the near cell whose centre every element is nearest to.
void run_slic(Tiles& tiles, const SlicSettings& settings, int n_bits_dropped, Team& team);

}  // namespace sfumato

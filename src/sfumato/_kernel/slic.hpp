// SLIC superpixels on a grid of seeds (Achanta et al. 2012), in some or all cells of the grid.
#pragma once

#include <array>
#include <cstdint>

#include "grid.hpp"
#include "team.hpp"
#include "tiles.hpp"

namespace sfumato {

struct SlicSettings {
    std::array<float, N_AXES> weights;  // levels for one element along each axis
    int n_iterations;
    const float* shifts;                // for each cell and axis: elements; or null
};

// Write to `tiles.choice` which of the near cells' centres every element is nearest to.
void run_slic(Tiles& tiles, const SlicSettings& settings, Team& team);

}  // namespace sfumato

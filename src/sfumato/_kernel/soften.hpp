// From a hard label and superpixels to probabilities (Li et al. 2020, equation 1).
#pragma once

#include <cstdint>
#include <vector>

#include "distance.hpp"
#include "grid.hpp"
#include "team.hpp"

namespace sfumato {

struct LabelView {
    const std::uint8_t* values;
    int n_classes;
    Spacing3 spacing;
    float scale_mm;
};

// Give every element's own class the probability 1; `probability` holds zeros.
void write_one_hot(const Grid& grid, const std::uint8_t* label, float* probability, Team& team);

// Overwrite the one-hot `probability` in superpixels that hold several classes. Only the elements of
// the given cells with a superpixel of 0 or more are looked at.
void soften(const Grid& grid, const LabelView& label, const std::vector<Box>& boxes,
            const std::int32_t* superpixels, std::int64_t n_superpixels, float* probability,
            Team& team);

}  // namespace sfumato

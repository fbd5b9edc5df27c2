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

// The superpixels of a box: 0 … n-1, or -1 where there is none.
struct SuperpixelView {
    Box box;
    const std::int32_t* values;
    std::int64_t n;
};

// Give every element's own class the probability 1; `probability` holds zeros.
void write_one_hot(const Grid& grid, const std::uint8_t* label, float* probability, Team& team);

// Overwrite the one-hot `probability` in superpixels that hold several classes. Only the elements of
// the given boxes with a superpixel of 0 or more are looked at.
void soften(const Grid& grid, const LabelView& label, const std::vector<Box>& boxes,
            const SuperpixelView& superpixels, float* probability, Team& team);

}  // namespace sfumato

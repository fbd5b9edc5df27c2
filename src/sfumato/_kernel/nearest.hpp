// The distance from the elements of a box to the nearest element of a class, within a window.
#pragma once

#include <cstdint>
#include <vector>

#include "distance.hpp"
#include "grid.hpp"

namespace sfumato {

constexpr std::int64_t MOST_ROWS = 250;  // of a window: steps along y are counted in a byte
constexpr std::int64_t ROW_BYTES = 32;   // rows of a window are filled up to whole multiples

// A box in a label and its surroundings, copied so that all rows have the same, round length.
struct Window {
    Spacing3 spacing;
    Index3 inner_first, inner_n;        // the box, in elements of the window
    Index3 n;                           // elements of the window
    std::int64_t stride = 0;            // from row to row
    std::vector<std::uint8_t> labels;   // z, y, x

    // What the loops work in. It is made here and not where they are compiled, see Scratch.
    std::vector<std::uint8_t> counter;  // steps since the last element of the class: x
    std::vector<std::uint8_t> steps;    // of one plane, to the nearest along y: inner y, x
    std::vector<float> along_y;         // squared distance in y: z, inner y, x
    std::vector<float> along_zy;        // squared distance in z and y, of one row: x, with room around
    std::vector<float> nearest;         // squared distance of one row: inner x

    void make_room() {
        stride = (n[2] + ROW_BYTES - 1) / ROW_BYTES * ROW_BYTES;
        labels.resize(n[0] * n[1] * stride);
        counter.resize(stride);
        steps.resize(inner_n[1] * stride);
        along_y.resize(n[0] * steps.size());
        along_zy.resize(3 * stride);
        nearest.resize(stride);
    }
};

// For some elements of the inner box, given by their places in it row by row, write the squared distance
// in mm, ((y² + z²) + x²) in float32, from the nearest element of class k. Where that is more than
// reach_mm away, something larger than its square is written.
using FindNearest = void(Window&, std::uint8_t k, float reach_mm, const Index3* elements,
                         std::int64_t n_elements, float* nearest);

// The fastest one that this processor can run. All give the same bits.
FindNearest* choose_find_nearest();

}  // namespace sfumato

// The grid of cells in which superpixels are seeded.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace sfumato {

constexpr int N_AXES = 3;  // a flat image has one element along the first axis
constexpr int N_NEAR = 27; // a cell and its neighbours, in order of their indices

constexpr int MOST_LANES = 16;  // elements that are worked on at once at most, see lanes.hpp

using Index3 = std::array<std::int64_t, N_AXES>;

// Elements 0 … n-1 of an axis, cut into cells that differ by one element at most.
struct Axis {
    std::int64_t n = 1;
    std::int64_t n_cells = 1;

    std::int64_t edge(std::int64_t cell) const { return cell * n / n_cells; }
    std::int64_t cell_of(std::int64_t element) const { return ((element + 1) * n_cells - 1) / n; }
    std::int64_t largest_cell() const { return (n + n_cells - 1) / n_cells; }
};

struct Grid {
    std::array<Axis, N_AXES> axes;

    std::int64_t n_elements() const { return axes[0].n * axes[1].n * axes[2].n; }
    std::int64_t n_cells() const { return axes[0].n_cells * axes[1].n_cells * axes[2].n_cells; }

    std::int64_t element(const Index3& at) const {
        return (at[0] * axes[1].n + at[1]) * axes[2].n + at[2];
    }

    std::int64_t cell(const Index3& at) const {
        return (at[0] * axes[1].n_cells + at[1]) * axes[2].n_cells + at[2];
    }

    Index3 place(std::int64_t cell) const {
        const std::int64_t row = cell / axes[2].n_cells;
        return {row / axes[1].n_cells, row % axes[1].n_cells, cell % axes[2].n_cells};
    }

    // The neighbour of a cell in one of the 27 directions (13 is the cell itself), or -1 outside.
    std::int64_t near(const Index3& place, int direction) const {
        const Index3 at = {place[0] + direction / 9 - 1, place[1] + direction / 3 % 3 - 1,
                           place[2] + direction % 3 - 1};
        for (int axis = 0; axis < N_AXES; ++axis)
            if (at[axis] < 0 || at[axis] >= axes[axis].n_cells) return -1;
        return cell(at);
    }
};

// A number that the cells an element may be nearest to do not share: those of its own and of the cell
// next to its own on one side. So elements side by side have chosen the same centre if and only if
// they have its colour.
inline std::uint8_t colour_of(const Index3& place) {
    return static_cast<std::uint8_t>(place[0] % 4 * 16 + place[1] % 4 * 4 + place[2] % 4);
}

constexpr int N_COLOURS = 64;

// A part of an image whose elements lie between two along every axis.
struct Box {
    Index3 first;
    Index3 n;

    Box(const Index3& first, const Index3& n) : first(first), n(n) {}

    // Some cells of the grid, side by side.
    Box(const Grid& grid, const Index3& first_cell, std::int64_t n_cells) {
        for (int axis = 0; axis < N_AXES; ++axis) {
            const Axis& along = grid.axes[axis];
            first[axis] = along.edge(first_cell[axis]);
            n[axis] = along.edge(std::min(first_cell[axis] + n_cells, along.n_cells)) - first[axis];
        }
    }

    Box(const Grid& grid, std::int64_t cell) : Box(grid, grid.place(cell), 1) {}

    std::int64_t size() const { return n[0] * n[1] * n[2]; }

    // Where an element of the image is in an array of the box's shape.
    std::int64_t element(const Index3& at) const {
        return ((at[0] - first[0]) * n[1] + at[1] - first[1]) * n[2] + at[2] - first[2];
    }
};

inline Box whole(const Grid& grid) {
    return {{0, 0, 0}, {grid.axes[0].n, grid.axes[1].n, grid.axes[2].n}};
}

// The least box that holds some others, at least one.
inline Box around(const std::vector<Box>& boxes) {
    Box result = boxes.front();
    for (const Box& box : boxes)
        for (int axis = 0; axis < N_AXES; ++axis) {
            const std::int64_t end =
                std::max(result.first[axis] + result.n[axis], box.first[axis] + box.n[axis]);
            result.first[axis] = std::min(result.first[axis], box.first[axis]);
            result.n[axis] = end - result.first[axis];
        }
    return result;
}

}  // namespace sfumato

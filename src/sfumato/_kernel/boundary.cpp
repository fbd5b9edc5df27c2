#include "boundary.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace sfumato {
namespace {

// For each cell, whether one of its elements has a neighbour of another class.
std::vector<std::uint8_t> find_boundary(const Grid& grid, const std::uint8_t* label, Team& team) {
    const std::int64_t n_y = grid.axes[1].n, n_x = grid.axes[2].n;
    std::vector<std::atomic<std::uint8_t>> found(grid.n_cells());
    for (auto& mark : found) mark.store(0, std::memory_order_relaxed);
    const auto mark = [&](std::int64_t z, std::int64_t y, std::int64_t x) {
        const Index3 at = {grid.axes[0].cell_of(z), grid.axes[1].cell_of(y), grid.axes[2].cell_of(x)};
        found[grid.cell(at)].store(1, std::memory_order_relaxed);
    };
    // Most rows equal their neighbours, which memcmp tells at the speed of memory.
    const auto compare = [](const std::uint8_t* row, const std::uint8_t* other, std::int64_t n,
                            const auto& work) {
        if (std::memcmp(row, other, n) == 0) return;
        for (std::int64_t x = 0; x < n; ++x)
            if (row[x] != other[x]) work(x);
    };
    team.share(grid.axes[0].n * n_y, [&](std::int64_t first, std::int64_t end, int) {
        for (std::int64_t i = first; i < end; ++i) {
            const std::int64_t z = i / n_y, y = i % n_y;
            const std::uint8_t* row = label + i * n_x;
            compare(row, row + 1, n_x - 1, [&](std::int64_t x) { mark(z, y, x), mark(z, y, x + 1); });
            if (y > 0)
                compare(row, row - n_x, n_x, [&](std::int64_t x) { mark(z, y, x), mark(z, y - 1, x); });
            if (z > 0)
                compare(row, row - n_y * n_x, n_x,
                        [&](std::int64_t x) { mark(z, y, x), mark(z - 1, y, x); });
        }
    });
    return std::vector<std::uint8_t>(found.begin(), found.end());
}

}  // namespace

std::vector<std::int64_t> cells_near_boundary(const Grid& grid, const std::uint8_t* label, Team& team) {
    std::vector<std::uint8_t> band = find_boundary(grid, label, team), wider(band.size());
    // A box of cells around each, one axis after the other.
    for (int axis = 0; axis < N_AXES; ++axis) {
        std::fill(wider.begin(), wider.end(), 0);
        for (std::int64_t cell = 0; cell < grid.n_cells(); ++cell) {
            if (!band[cell]) continue;
            Index3 at = grid.place(cell);
            const std::int64_t middle = at[axis], last = grid.axes[axis].n_cells - 1;
            for (at[axis] = std::max<std::int64_t>(0, middle - BAND);
                 at[axis] <= std::min(last, middle + BAND); ++at[axis])
                wider[grid.cell(at)] = 1;
        }
        band.swap(wider);
    }
    std::vector<std::int64_t> cells;
    for (std::int64_t cell = 0; cell < grid.n_cells(); ++cell)
        if (band[cell]) cells.push_back(cell);
    return cells;
}

}  // namespace sfumato

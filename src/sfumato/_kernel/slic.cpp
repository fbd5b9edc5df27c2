#include "slic.hpp"

#include <algorithm>
#include <vector>

#include "assign.hpp"

namespace sfumato {
namespace {

// Centres move to the mean of the elements that chose them. All sums are integers, so that the order
// in which threads add them up changes nothing.
class Slic {
  public:
    Slic(Tiles& tiles, const SlicSettings& settings, Team& team)
        : tiles_(tiles), settings_(settings), team_(team), n_channels_(tiles.n_channels),
          n_values_(N_AXES + n_channels_), near_(tiles.n()), centres_(tiles.n() * n_values_),
          has_moved_(tiles.n(), 1), sums_(tiles.n() * N_NEAR),
          level_sums_(tiles.n() * N_NEAR * n_channels_),
          scratch_(team.n_threads(),
                   Scratch(tiles.grid.axes[1].largest_cell() * tiles.grid.axes[2].largest_cell(),
                           tiles.grid.axes[0].largest_cell() == 1, tiles.n_channels)) {}

    void run() {
        find_neighbours();
        place_seeds();
        for (int i = 0; i < settings_.n_iterations; ++i) {
            if (i > 0) move_centres();
            assign();
        }
    }

  private:
    void find_neighbours() {
        team_.share(tiles_.n(), [&](std::int64_t first, std::int64_t end, int) {
            for (std::int64_t tile = first; tile < end; ++tile) {
                const Index3 place = tiles_.grid.place(tiles_.cells[tile]);
                for (int i = 0; i < N_NEAR; ++i) {
                    const std::int64_t cell = tiles_.grid.near(place, i);
                    near_[tile][i] = cell < 0 ? -1 : tiles_.tile_of_cell[cell];
                }
            }
        });
    }

    // A seed lies in the middle of its cell, shifted where that was asked for, and has the cell's
    // mean intensity.
    void place_seeds() {
        team_.share(tiles_.n(), [&](std::int64_t first, std::int64_t end, int) {
            for (std::int64_t tile = first; tile < end; ++tile) {
                const std::int64_t cell = tiles_.cells[tile];
                const Box box(tiles_.grid, cell);
                float* centre = centres_.data() + tile * n_values_;
                for (int axis = 0; axis < N_AXES; ++axis) {
                    centre[axis] = static_cast<float>(box.first[axis]) +
                                   static_cast<float>(box.n[axis] - 1) * 0.5f;
                    if (settings_.shifts) centre[axis] += settings_.shifts[cell * N_AXES + axis];
                }
                const std::int64_t n_in_plane = box.n[1] * box.n[2];
                const std::int64_t stride = Tiles::padded(n_in_plane);
                const std::int16_t* levels =
                    tiles_.levels.data() + tiles_.offsets[tile] * n_channels_;
                for (int c = 0; c < n_channels_; ++c) {
                    std::int64_t sum = 0;
                    for (std::int64_t z = 0; z < box.n[0]; ++z) {
                        const std::int16_t* plane = levels + (z * n_channels_ + c) * stride;
                        std::int64_t plane_sum = 0;
                        for (std::int64_t i = 0; i < n_in_plane; ++i) plane_sum += plane[i];
                        sum += plane_sum;
                    }
                    centre[N_AXES + c] = mean(sum, box.size());
                }
            }
        });
    }

    void assign() {
        AssignTile* const assign_tile = choose_assign_tile();
        team_.share(tiles_.n(), [&](std::int64_t first, std::int64_t end, int thread) {
            for (std::int64_t tile = first; tile < end; ++tile) {
                // With the same centres as before, every element would choose as before.
                bool is_new = false;
                Assignment task{Box(tiles_.grid, tiles_.cells[tile]),
                                tiles_.levels.data() + tiles_.offsets[tile] * n_channels_,
                                tiles_.ranges.data() + tiles_.first_range[tile],
                                tiles_.choice.data() + tiles_.offsets[tile],
                                n_channels_,
                                settings_.weights,
                                {},
                                sums_.data() + tile * N_NEAR,
                                level_sums_.data() + tile * N_NEAR * n_channels_};
                for (int i = 0; i < N_NEAR; ++i) {
                    const std::int64_t near = near_[tile][i];
                    if (near < 0) continue;
                    task.centres[i] = centres_.data() + near * n_values_;
                    is_new |= has_moved_[near] != 0;
                }
                if (!is_new) continue;
                std::fill_n(task.sums, N_NEAR, Sums());
                std::fill_n(task.level_sums, N_NEAR * n_channels_, 0);
                assign_tile(task, scratch_[thread]);
            }
        });
    }

    void move_centres() {
        team_.share(tiles_.n(), [&](std::int64_t first, std::int64_t end, int) {
            std::vector<std::int64_t> total(n_channels_);
            for (std::int64_t tile = first; tile < end; ++tile)
                has_moved_[tile] = move_centre(tile, total);
        });
    }

    bool move_centre(std::int64_t tile, std::vector<std::int64_t>& level_total) {
        Sums total;
        std::fill(level_total.begin(), level_total.end(), 0);
        for (int i = 0; i < N_NEAR; ++i) {
            const std::int64_t near = near_[tile][i];
            if (near < 0) continue;
            // Seen from the neighbour, this tile lies in the opposite direction.
            const std::int64_t entry = near * N_NEAR + (N_NEAR - 1 - i);
            const Sums& part = sums_[entry];
            if (part.n == 0) continue;
            const Box box(tiles_.grid, tiles_.cells[near]);
            total.n += part.n;
            for (int axis = 0; axis < N_AXES; ++axis)
                total.place[axis] += part.place[axis] + part.n * box.first[axis];
            for (int c = 0; c < n_channels_; ++c)
                level_total[c] += level_sums_[entry * n_channels_ + c];
        }
        if (total.n == 0) return false;
        float* centre = centres_.data() + tile * n_values_;
        bool has_moved = false;
        const auto set = [&](int i, float value) {
            has_moved |= centre[i] != value;
            centre[i] = value;
        };
        for (int axis = 0; axis < N_AXES; ++axis) set(axis, mean(total.place[axis], total.n));
        for (int c = 0; c < n_channels_; ++c) set(N_AXES + c, mean(level_total[c], total.n));
        return has_moved;
    }

    static float mean(std::int64_t sum, std::int64_t n) {
        return static_cast<float>(static_cast<double>(sum) / static_cast<double>(n));
    }

    Tiles& tiles_;
    const SlicSettings& settings_;
    Team& team_;
    const int n_channels_, n_values_;
    std::vector<std::array<std::int64_t, N_NEAR>> near_;  // the tile in every direction, or -1
    std::vector<float> centres_;                          // for each tile: place, levels
    std::vector<std::uint8_t> has_moved_;
    std::vector<Sums> sums_;                              // tile, direction
    std::vector<std::int64_t> level_sums_;                // tile, direction, channel
    std::vector<Scratch> scratch_;
};

}  // namespace

void run_slic(Tiles& tiles, const SlicSettings& settings, Team& team) {
    Slic(tiles, settings, team).run();
}

}  // namespace sfumato

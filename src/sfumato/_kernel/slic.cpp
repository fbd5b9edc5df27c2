#include "slic.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
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
          n_values_(N_AXES + n_channels_), n_sums_(N_PLACE_SUMS + n_channels_), near_(tiles.n()),
          centres_(tiles.n() * n_values_), has_moved_(tiles.n(), 1),
          sums_(new std::atomic<std::int64_t>[tiles.n() * n_sums_]),
          scratch_(team.n_threads(),
                   Scratch(tiles.grid.axes[1].largest_cell() * tiles.grid.axes[2].largest_cell(),
                           tiles.grid.axes[0].largest_cell() == 1, tiles.n_channels)) {}

    void run() {
        for_each_tile([&](std::int64_t tile, int) {
            find_neighbours(tile);
            place_seed(tile);
        });
        AssignTile* const assign_tile = choose_assign_tile();
        for (int i = 0; i < settings_.n_iterations; ++i) {
            if (i > 0) for_each_tile([&](std::int64_t tile, int) { move_centre(tile); });
            for_each_tile([&](std::int64_t tile, int thread) {
                assign(tile, assign_tile, scratch_[thread]);
            });
        }
    }

  private:
    template <typename Work>
    void for_each_tile(const Work& work) {
        team_.share(tiles_.n(), [&](std::int64_t first, std::int64_t end, int thread) {
            for (std::int64_t tile = first; tile < end; ++tile) work(tile, thread);
        });
    }

    void find_neighbours(std::int64_t tile) {
        const Index3 place = tiles_.grid.place(tiles_.cells[tile]);
        for (int i = 0; i < N_NEAR; ++i) {
            const std::int64_t cell = tiles_.grid.near(place, i);
            near_[tile][i] = cell < 0 ? -1 : tiles_.tile_of_cell[cell];
        }
    }

    // A seed lies in the middle of its cell, shifted where that was asked for, and has the cell's
    // mean intensity. At first, every element has chosen its own cell's.
    void place_seed(std::int64_t tile) {
        const Box& box = tiles_.boxes[tile];
        float* const centre = centres_.data() + tile * n_values_;
        for (int axis = 0; axis < N_AXES; ++axis) {
            centre[axis] = static_cast<float>(box.first[axis]) +
                           static_cast<float>(box.n[axis] - 1) * 0.5f;
            if (settings_.shifts)
                centre[axis] += settings_.shifts[tiles_.cells[tile] * N_AXES + axis];
        }
        const std::int64_t stride = Tiles::padded(box.n[1] * box.n[2]);
        const std::int16_t* levels = tiles_.levels.get() + tiles_.offsets[tile] * n_channels_;
        const std::uint8_t* choice = tiles_.choice.get() + tiles_.offsets[tile];
        std::atomic<std::int64_t>* const sums = sums_.get() + tile * n_sums_;
        std::array<std::int64_t, N_PLACE_SUMS> place = {};
        for (std::int64_t z = 0; z < box.n[0]; ++z)
            for (std::int64_t y = 0; y < box.n[1]; ++y) {
                const std::uint8_t* const row = choice + z * stride + y * box.n[2];
                std::int64_t n = 0, x_sum = 0;
                for (std::int64_t x = 0; x < box.n[2]; ++x) {
                    n += row[x] != NOWHERE;
                    x_sum += row[x] != NOWHERE ? x : 0;
                }
                place[0] += n;
                place[1] += n * (box.first[0] + z);
                place[2] += n * (box.first[1] + y);
                place[3] += n * box.first[2] + x_sum;
            }
        for (int i = 0; i < N_PLACE_SUMS; ++i) sums[i].store(place[i], std::memory_order_relaxed);
        for (int c = 0; c < n_channels_; ++c) {
            std::int64_t sum = 0, chosen_sum = 0;
            for (std::int64_t z = 0; z < box.n[0]; ++z) {
                const std::int16_t* const plane = levels + (z * n_channels_ + c) * stride;
                const std::uint8_t* const slots = choice + z * stride;
                std::int64_t plane_sum = 0, plane_chosen = 0;
                for (std::int64_t i = 0; i < box.n[1] * box.n[2]; ++i) {
                    plane_sum += plane[i];
                    plane_chosen += slots[i] != NOWHERE ? plane[i] : 0;
                }
                sum += plane_sum;
                chosen_sum += plane_chosen;
            }
            centre[N_AXES + c] = mean(sum, box.size());
            sums[N_PLACE_SUMS + c].store(chosen_sum, std::memory_order_relaxed);
        }
    }

    void assign(std::int64_t tile, AssignTile* assign_tile, Scratch& scratch) {
        Assignment task{tiles_.boxes[tile],
                        tiles_.levels.get() + tiles_.offsets[tile] * n_channels_,
                        tiles_.ranges.data() + tiles_.first_range[tile],
                        tiles_.choice.get() + tiles_.offsets[tile],
                        n_channels_,
                        settings_.weights,
                        {},
                        scratch.changes.data()};
        // With the same centres as before, every element would choose as before.
        bool is_new = false;
        for (int i = 0; i < N_NEAR; ++i) {
            const std::int64_t near = near_[tile][i];
            if (near < 0) continue;
            task.centres[i] = centres_.data() + near * n_values_;
            is_new |= has_moved_[near] != 0;
        }
        if (!is_new) return;
        const std::uint32_t changed = assign_tile(task, scratch);
        for (int i = 0; i < N_NEAR; ++i) {
            if (!(changed >> i & 1)) continue;
            std::atomic<std::int64_t>* const sums = sums_.get() + near_[tile][i] * n_sums_;
            std::int64_t* const changes = scratch.changes.data() + i * n_sums_;
            for (int j = 0; j < n_sums_; ++j)
                sums[j].fetch_add(changes[j], std::memory_order_relaxed);
            std::fill_n(changes, n_sums_, 0);
        }
    }

    void move_centre(std::int64_t tile) {
        const std::atomic<std::int64_t>* const sums = sums_.get() + tile * n_sums_;
        float* const centre = centres_.data() + tile * n_values_;
        const std::int64_t n = sums[0];
        has_moved_[tile] = 0;
        for (int i = 0; n > 0 && i < n_values_; ++i) {
            const float value = mean(sums[i + 1], n);
            has_moved_[tile] |= centre[i] != value;
            centre[i] = value;
        }
    }

    static float mean(std::int64_t sum, std::int64_t n) {
        return static_cast<float>(static_cast<double>(sum) / static_cast<double>(n));
    }

    Tiles& tiles_;
    const SlicSettings& settings_;
    Team& team_;
    const int n_channels_, n_values_, n_sums_;
    std::vector<std::array<std::int64_t, N_NEAR>> near_;  // the tile in every direction, or -1
    std::vector<float> centres_;                          // for each tile: place, levels
    std::vector<std::uint8_t> has_moved_;
    std::unique_ptr<std::atomic<std::int64_t>[]> sums_;   // of the elements that chose each centre
    std::vector<Scratch> scratch_;
};

}  // namespace

void run_slic(Tiles& tiles, const SlicSettings& settings, Team& team) {
    Slic(tiles, settings, team).run();
}

}  // namespace sfumato

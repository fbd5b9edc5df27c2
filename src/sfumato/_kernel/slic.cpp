#include "slic.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <vector>

#include "assign.hpp"

namespace sfumato {
namespace {

// In a round, the elements of every third cell choose anew, the diagonals of cells taking turns; in the last
// round all do. The sums are always those of all elements. It takes less than half of the time, and
// superpixels are as good (docs/results.md).
constexpr int N_TURNS = 3;
constexpr std::uint8_t ALL_MOVES = (1 << N_TURNS) - 1;

double weight(const SlicSettings& settings, int axis, int n_bits_dropped) {
    return std::ldexp(static_cast<double>(settings.weights[axis]), -n_bits_dropped);
}

// The nearest whole number; halves are rounded up.
std::int32_t rounded(double value) { return static_cast<std::int32_t>(std::floor(value + 0.5)); }

// The nearest whole number to sum / n, for a sum of at least 0; halves are rounded up.
std::int32_t mean(std::int64_t sum, std::int64_t n) {
    return static_cast<std::int32_t>((2 * sum + n) / (2 * n));
}

// Centres move to the mean of the elements that chose them. All numbers are whole, so that the order in
// which threads add them up changes nothing.
class Slic {
  public:
    Slic(Tiles& tiles, const SlicSettings& settings, int n_bits_dropped, Team& team)
        : tiles_(tiles), settings_(settings), n_bits_dropped_(n_bits_dropped), team_(team),
          n_channels_(tiles.n_channels), n_values_(N_AXES + n_channels_),
          n_sums_(N_PLACE_SUMS + n_channels_), near_(tiles.n()), own_colours_(tiles.n()),
          turns_(tiles.n()), centres_(tiles.n() * n_values_),
          moves_(tiles.n(), ALL_MOVES), candidates_(tiles.n()),
          sums_(new std::atomic<std::int64_t>[tiles.n() * n_sums_]),
          scratch_(team.n_threads(),
                   Scratch(tiles.grid.axes[1].largest_cell() * tiles.grid.axes[2].largest_cell(),
                           tiles.n_channels)) {
        for (int axis = 0; axis < N_AXES; ++axis)
            for (std::int64_t i = 0; i < tiles.grid.axes[axis].n; ++i)
                places_[axis].push_back(
                    rounded(static_cast<double>(i) * weight(settings, axis, n_bits_dropped)));
        for (int i = 0; i < N_NEAR; ++i)
            for (int own = 0; own < N_COLOURS; ++own)
                colours_from_own_[i][own] = colour_of(
                    {own / 16 + i / 9 + 3, own / 4 % 4 + i / 3 % 3 + 3, own % 4 + i % 3 + 3});
    }

    void run() {
        for_each_tile([&](std::int64_t tile, int thread) {
            find_near(tile);
            place_seed(tile, thread);
        });
        AssignTile* const assign_tile = choose_assign_tile();
        for (int i = 0; i < settings_.n_iterations; ++i) {
            if (i > 0) for_each_tile([&](std::int64_t tile, int) { move_centre(tile); });
            const bool is_last = i == settings_.n_iterations - 1;
            for_each_tile([&](std::int64_t tile, int thread) {
                if (is_last || turns_[tile] == i % N_TURNS)
                    assign(tile, assign_tile, is_last, scratch_[thread]);
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

    void find_near(std::int64_t tile) {
        const Index3 place = tiles_.grid.place(tiles_.cells[tile]);
        for (int i = 0; i < N_NEAR; ++i) {
            const std::int64_t cell = tiles_.grid.near(place, i);
            near_[tile][i] = cell < 0 ? -1 : tiles_.tile_of_cell[cell];
        }
        own_colours_[tile] = colour_of(place);
        turns_[tile] = static_cast<std::uint8_t>((place[0] + place[1] + place[2]) % N_TURNS);
    }

    // A seed lies in the middle of its cell, shifted where that was asked for, and has the cell's
    // mean levels. At first, every element has chosen its own cell's.
    void place_seed(std::int64_t tile, int thread) {
        const Box& box = tiles_.boxes[tile];
        std::int32_t* const centre = centres_.data() + tile * n_values_;
        for (int axis = 0; axis < N_AXES; ++axis) {
            double place = static_cast<double>(2 * box.first[axis] + box.n[axis] - 1) / 2.0;
            if (settings_.shifts) place += settings_.shifts[tiles_.cells[tile] * N_AXES + axis];
            centre[axis] = rounded(place * weight(settings_, axis, n_bits_dropped_));
        }
        std::int64_t* const sums = scratch_[thread].changes.data();
        const std::int64_t n_in_plane = box.n[1] * box.n[2], stride = Tiles::padded(n_in_plane);
        const std::int16_t* levels = tiles_.levels.get() + tiles_.offsets[tile] * n_channels_;
        const std::uint8_t* const colours = tiles_.colours.get() + tiles_.offsets[tile];
        std::vector<std::int64_t> level_sums(n_channels_);
        for (std::int64_t z = 0; z < box.n[0]; ++z) {
            const std::uint8_t* const plane = colours + z * stride;
            for (std::int64_t y = 0; y < box.n[1]; ++y)
                add_row(box, z, y, tiles_.has_holes[tile] ? plane + y * box.n[2] : nullptr, sums);
            for (int c = 0; c < n_channels_; ++c, levels += stride) {
                const std::int64_t sum = sum_of(levels, nullptr, n_in_plane);
                level_sums[c] += sum;
                sums[N_PLACE_SUMS + c] +=
                    tiles_.has_holes[tile] ? sum_of(levels, plane, n_in_plane) : sum;
            }
        }
        for (int c = 0; c < n_channels_; ++c) centre[N_AXES + c] = mean(level_sums[c], box.size());
        for (int i = 0; i < n_sums_; ++i)
            sums_[tile * n_sums_ + i].store(sums[i], std::memory_order_relaxed);
        std::fill_n(sums, n_sums_, 0);
    }

    // The sum of the levels of those elements that take part, or of all.
    static std::int64_t sum_of(const std::int16_t* levels, const std::uint8_t* colours,
                               std::int64_t n) {
        constexpr std::int64_t N_AT_ONCE = 1 << 16;  // whose sum is a short number
        std::int64_t sum = 0;
        for (std::int64_t first = 0; first < n; first += N_AT_ONCE) {
            std::int32_t part = 0;
            for (std::int64_t i = first; i < std::min(n, first + N_AT_ONCE); ++i)
                part += colours && colours[i] == NOWHERE ? 0 : levels[i];
            sum += part;
        }
        return sum;
    }

    // Add the places of those elements of a row that take part, or of all.
    void add_row(const Box& box, std::int64_t z, std::int64_t y, const std::uint8_t* colours,
                 std::int64_t* sums) const {
        std::int64_t n = 0, x_sum = 0;
        for (std::int64_t x = 0; x < box.n[2]; ++x) {
            const bool takes_part = !colours || colours[x] != NOWHERE;
            n += takes_part;
            x_sum += takes_part ? places_[2][box.first[2] + x] : 0;
        }
        sums[0] += n;
        sums[1] += n * places_[0][box.first[0] + z];
        sums[2] += n * places_[1][box.first[1] + y];
        sums[3] += x_sum;
    }

    void assign(std::int64_t tile, AssignTile* assign_tile, bool is_last, Scratch& scratch) {
        Assignment task{tiles_.boxes[tile],
                        {},
                        tiles_.levels.get() + tiles_.offsets[tile] * n_channels_,
                        tiles_.ranges.data() + tile * n_channels_,
                        tiles_.colours.get() + tiles_.offsets[tile],
                        n_channels_,
                        {},
                        own_colours_[tile],
                        is_last,
                        0,
                        candidates_[tile]};
        for (int i = 0; i < N_NEAR; ++i) {
            const std::int32_t near = near_[tile][i];
            if (near < 0) continue;
            task.centres[i] = centres_.data() + near * n_values_;
            task.moved |= std::uint32_t(moves_[near] != 0) << i;
        }
        if (task.moved == 0) return;
        for (int axis = 0; axis < N_AXES; ++axis)
            task.places[axis] = places_[axis].data() + task.box.first[axis];
        const Assigned assigned = assign_tile(task, scratch);
        candidates_[tile] = assigned.candidates;
        for (int i = 0; i < N_NEAR; ++i) {
            const std::uint8_t colour = colours_from_own_[i][task.own_colour];
            if (!task.centres[i] || !(assigned.changed >> colour & 1)) continue;
            std::atomic<std::int64_t>* const sums = sums_.get() + near_[tile][i] * n_sums_;
            std::int64_t* const changes = scratch.changes.data() + colour * n_sums_;
            for (int axis = 0; axis < N_AXES; ++axis)
                changes[1 + axis] += changes[0] * task.middle(axis);
            for (int j = 0; j < n_sums_; ++j) add(sums[j], changes[j]);
            std::fill_n(changes, n_sums_, 0);
        }
    }

    // Alone, a thread need not pay for others keeping off.
    void add(std::atomic<std::int64_t>& sum, std::int64_t value) const {
        if (team_.n_threads() > 1)
            sum.fetch_add(value, std::memory_order_relaxed);
        else
            sum.store(sum.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
    }

    void move_centre(std::int64_t tile) {
        const std::atomic<std::int64_t>* const sums = sums_.get() + tile * n_sums_;
        std::int32_t* const centre = centres_.data() + tile * n_values_;
        const std::int64_t n = sums[0];
        bool has_moved = false;
        for (int i = 0; n > 0 && i < n_values_; ++i) {
            const std::int32_t value = mean(sums[i + 1], n);
            has_moved |= centre[i] != value;
            centre[i] = value;
        }
        moves_[tile] = (moves_[tile] << 1 | has_moved) & ALL_MOVES;
    }

    Tiles& tiles_;
    const SlicSettings& settings_;
    const int n_bits_dropped_;
    Team& team_;
    const int n_channels_, n_values_, n_sums_;
    std::array<std::vector<std::int32_t>, N_AXES> places_;  // of every element along an axis
    std::vector<std::array<std::int32_t, N_NEAR>> near_;    // the tile in every direction, or -1
    std::vector<std::uint8_t> own_colours_;                 // for each tile
    std::vector<std::uint8_t> turns_;                       // for each tile: in which of three rounds it chooses
    std::array<std::array<std::uint8_t, N_COLOURS>, N_NEAR> colours_from_own_;  // of the cell in a direction
    std::vector<std::int32_t> centres_;                     // for each tile: place, levels
    std::vector<std::uint8_t> moves_;                       // for each tile: bits, the last rounds in which it moved
    std::vector<std::uint32_t> candidates_;                 // see Assignment
    std::unique_ptr<std::atomic<std::int64_t>[]> sums_;     // of the elements that chose each centre
    std::vector<Scratch> scratch_;
};

}  // namespace

int n_bits_to_drop(const Grid& grid, const ImageView& image, const SlicSettings& settings) {
    const auto n_channels = std::count_if(image.gain, image.gain + image.n_channels,
                                          [](float gain) { return gain != 0.0f; });
    // Along an axis elements lie within half a cell of a tile's middle and centres within two and a half,
    // or one and a half at first and one more by a shift; the terms c² and 2 e·c of the distances
    // are then less than 9 cells² together, and less than 3 ranges² in a channel. Places and levels are
    // rounded, for which 12 and the 2 make up.
    int n_bits = 0;
    const auto is_exact = [&] {
        const double n_levels = std::ldexp(N_LEVELS, -n_bits);
        double largest = 3.0 * static_cast<double>(n_channels) * n_levels * n_levels;
        for (int axis = 0; axis < N_AXES; ++axis) {
            const double cell = static_cast<double>(grid.axes[axis].largest_cell()) *
                                    weight(settings, axis, n_bits) + 2.0;
            largest += 12.0 * cell * cell;
        }
        return largest < std::ldexp(1.0, 24);
    };
    while (!is_exact()) ++n_bits;
    return n_bits;
}

void run_slic(Tiles& tiles, const SlicSettings& settings, int n_bits_dropped, Team& team) {
    Slic(tiles, settings, n_bits_dropped, team).run();
}

}  // namespace sfumato

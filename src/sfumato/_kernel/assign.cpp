// Compiled once for each instruction set, each time in a namespace of its own (SFUMATO_ISA).
//
// With places and levels counted from the middle of the tile, an element e is nearest to the centre c
// for which  c² − 2 e·c  is least (e² is the same for all). That is a sum of one term for each axis
// and channel, linear in the element; and so is the difference between two centres, which is why one can
// tell from the ends of a tile's ranges that a centre is nowhere the nearest.

#include "assign.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "lanes.hpp"

namespace sfumato {
namespace SFUMATO_ISA {
namespace {

// How many vectors of elements are worked on side by side: as many as there are registers for.
#ifdef __AVX512F__
constexpr int N_VECTORS = 4;
#else
constexpr int N_VECTORS = 1;
#endif
static_assert(BLOCK % (N_VECTORS * N_LANES) == 0, "a block must be whole groups of vectors");

template <int C>
class Tile {
  public:
    Tile(const Assignment& task, Scratch& scratch)
        : task_(task), scratch_(scratch), n_channels_(C ? C : task.n_channels),
          n_in_plane_(task.box.n[1] * task.box.n[2]), stride_(Tiles::padded(n_in_plane_)) {}

    Assigned assign() {
        lay_out_centres();
        leave_out_far_centres();
        // With the same candidates as before, all of them where they were, elements choose as before.
        if (((candidates_ | task_.candidates) & task_.moved) == 0) return {candidates_, 0};
        lay_out_plane();
        for (std::int64_t first = 0; first < stride_; first += BLOCK) {
            if (is_flat()) {
                choose<true>(first, 0);
                continue;
            }
            measure_in_plane(first);
            for (std::int64_t z = 0; z < task_.box.n[0]; ++z) choose<false>(first, z);
        }
        return {candidates_, changed_};
    }

  private:
    // What distances in the plane are is worth remembering where there are several planes.
    bool is_flat() const { return task_.box.n[0] == 1; }

    std::int32_t middle(int axis) const { return task_.middle(axis); }

    std::int32_t middle_level(int c) const {
        return (task_.ranges[c].low + task_.ranges[c].high) / 2;
    }

    // Features of the centres, counted from the tile's middle: place_, then level_.
    void lay_out_centres() {
        const std::int32_t middles[N_AXES] = {middle(0), middle(1), middle(2)};
        for (int i = 0; i < N_NEAR; ++i) {
            const std::int32_t* const centre = task_.centres[i];
            if (!centre) continue;
            for (int axis = 0; axis < N_AXES; ++axis)
                feature(axis)[n_slots_] = centre[axis] - middles[axis];
            for (int c = 0; c < n_channels_; ++c)
                feature(N_AXES + c)[n_slots_] = centre[N_AXES + c] - middle_level(c);
            direction_[n_slots_++] = i;
        }
        for (int i = 0; i < n_slots_; i += N_LANES) {
            Ints sum = all(0);
            for (int f = 0; f < N_AXES + n_channels_; ++f) {
                const Ints value = load<Ints>(feature(f) + i);
                sum = sum + value * value;
            }
            store(square_ + i, sum);
        }
    }

    std::int32_t* feature(int f) const { return scratch_.deltas.data() + f * N_SLOTS; }

    // Keep the centres that some element of the tile may be nearest to: those that the centre nearest to
    // the tile's middle does not exclude for all of it.
    void leave_out_far_centres() {
        const int other = static_cast<int>(std::min_element(square_, square_ + n_slots_) - square_);
        alignas(64) std::int32_t excess[N_SLOTS];
        for (int i = 0; i < n_slots_; i += N_LANES) {
            Ints least = load<Ints>(square_ + i) - all(square_[other]);
            const auto add = [&](int f, std::int32_t low, std::int32_t high) {
                const Ints between = load<Ints>(feature(f) + i) - all(feature(f)[other]);
                const Ints at_low = between * all(2 * low), at_high = between * all(2 * high);
                least = least - choose_from(at_low < at_high, at_high, at_low);
            };
            for (int axis = 0; axis < N_AXES; ++axis)
                add(axis, task_.places[axis][0] - middle(axis),
                    task_.places[axis][task_.box.n[axis] - 1] - middle(axis));
            for (int c = 0; c < n_channels_; ++c)
                add(N_AXES + c, task_.ranges[c].low - middle_level(c),
                    task_.ranges[c].high - middle_level(c));
            store(excess + i, least);
        }
        int n = 0;
        for (int i = 0; i < n_slots_; ++i) {
            if (excess[i] > 0) continue;
            candidates_ |= std::uint32_t(1) << direction_[i];
            for (int axis = 0; axis < N_AXES; ++axis)
                place_[axis][n] = -2.0f * static_cast<float>(feature(axis)[i]);
            for (int c = 0; c < n_channels_; ++c)
                scratch_.levels[c * N_SLOTS + n] = -2.0f * static_cast<float>(feature(N_AXES + c)[i]);
            square_[n] = square_[i];
            colour_[n++] = task_.centre_colours[direction_[i]];
        }
        n_slots_ = n;
    }

    void lay_out_plane() {
        const std::int64_t n_x = task_.box.n[2];
        float *const y = scratch_.y.data(), *const x = scratch_.x.data();
        for (std::int64_t i = 0; i < n_x; ++i)
            x[i] = static_cast<float>(task_.places[2][i] - middle(2));
        for (std::int64_t row = 0; row < task_.box.n[1]; ++row) {
            std::fill_n(y + row * n_x, n_x, static_cast<float>(task_.places[1][row] - middle(1)));
            if (row > 0) std::copy(x, x + n_x, x + row * n_x);
        }
        std::fill(y + n_in_plane_, y + stride_, y[n_in_plane_ - 1]);
        std::fill(x + n_in_plane_, x + stride_, x[n_in_plane_ - 1]);
    }

    // What of the distances does not depend on z or levels.
    void measure_in_plane(std::int64_t first) {
        const std::int64_t n = std::min<std::int64_t>(BLOCK, stride_ - first);
        for (std::int64_t i = 0; i < n; i += N_LANES) {
            const Floats y = load<Floats>(scratch_.y.data() + first + i);
            const Floats x = load<Floats>(scratch_.x.data() + first + i);
            for (int j = 0; j < n_slots_; ++j)
                store(in_plane_[j] + i, y * all(place_[1][j]) + x * all(place_[2][j]) +
                                            all(static_cast<float>(square_[j])));
        }
    }

    template <bool IsFlat>
    void choose(std::int64_t first, std::int64_t z) {
        const std::int16_t* const levels = task_.levels + z * stride_ * n_channels_ + first;
        std::uint8_t* const colours = task_.colours + z * stride_ + first;
        const int n = static_cast<int>(std::min<std::int64_t>(BLOCK, stride_ - first));
        const float z_place = static_cast<float>(task_.places[0][z] - middle(0));
        for (int j = 0; j < n_slots_; ++j) z_term_[j] = z_place * place_[0][j];
        alignas(64) std::uint8_t before[BLOCK];
        std::memcpy(before, colours, n);
        int i = 0;
        for (; i + N_VECTORS * N_LANES <= n; i += N_VECTORS * N_LANES)
            choose_nearest<IsFlat, N_VECTORS>(first, i, levels + i, colours + i);
        for (; i < n; i += N_LANES) choose_nearest<IsFlat, 1>(first, i, levels + i, colours + i);
        move_changed(before, colours, n, z, first, levels);
    }

    template <bool IsFlat, int V>
    void choose_nearest(std::int64_t block, int first, const std::int16_t* levels,
                        std::uint8_t* colours) const {
        const float *const y = scratch_.y.data() + block + first, *const x = scratch_.x.data() + block + first;
        Floats level[C ? C : 1][V], least[V];
        Ints nearest[V];
        for (int v = 0; v < V; ++v) {
            for (int c = 0; c < C; ++c) level[c][v] = level_at(levels, c, v);
            least[v] = all(std::numeric_limits<float>::infinity());
            nearest[v] = all(0);
        }
        for (int j = 0; j < n_slots_; ++j) {
            const float* const in_plane = in_plane_[j] + first;
            const Floats z_term = all(z_term_[j] + (IsFlat ? static_cast<float>(square_[j]) : 0.0f));
            const Floats y_centre = all(place_[1][j]), x_centre = all(place_[2][j]);
            const Ints colour = all(colour_[j]);
            for (int v = 0; v < V; ++v) {
                Floats distance = z_term;
                if (IsFlat)
                    distance = distance + load<Floats>(y + v * N_LANES) * y_centre +
                               load<Floats>(x + v * N_LANES) * x_centre;
                else
                    distance = distance + load<Floats>(in_plane + v * N_LANES);
                for (int c = 0; c < (C ? C : n_channels_); ++c) {
                    const Floats value = C ? level[C ? c : 0][v] : level_at(levels, c, v);
                    distance = distance + value * all(scratch_.levels[c * N_SLOTS + j]);
                }
                const Ints is_nearer = distance < least[v];
                least[v] = choose_from(is_nearer, distance, least[v]);
                nearest[v] = choose_from(is_nearer, colour, nearest[v]);
            }
        }
        for (int v = 0; v < V; ++v) {
            const Bytes before = load<Bytes>(colours + v * N_LANES);
            store(colours + v * N_LANES, unless(NOWHERE, before, to_bytes(nearest[v])));
        }
    }

    Floats level_at(const std::int16_t* levels, int c, int v) const {
        return to_floats(to_ints(load<Shorts>(levels + c * stride_ + v * N_LANES)) -
                         all(middle_level(c)));
    }

    // Take the elements that have another colour than before from one centre's sums to another's.
    void move_changed(const std::uint8_t* before, const std::uint8_t* now, int n, std::int64_t z,
                      std::int64_t first, const std::int16_t* levels) {
        int changed[BLOCK + 1];
        int n_changed = 0;
        constexpr int WORD = 8;
        for (int i = 0; i < n; i += WORD) {
            if (std::memcmp(before + i, now + i, WORD) == 0) continue;
            // Written at every element, so that there is nothing to guess; kept where it changed.
            for (int j = i; j < i + WORD; ++j) {
                changed[n_changed] = j;
                n_changed += before[j] != now[j];
            }
        }
        const std::int32_t z_place = task_.places[0][z] - middle(0);
        for (int i = 0; i < n_changed; ++i) {
            const int j = changed[i];
            change(before[j], now[j], z_place, first + j, levels + j);
        }
    }

    void change(int from, int to, std::int32_t z_place, std::int64_t i, const std::int16_t* levels) {
        const int n_sums = N_PLACE_SUMS + n_channels_;
        std::int64_t* const less = scratch_.changes.data() + from * n_sums;
        std::int64_t* const more = scratch_.changes.data() + to * n_sums;
        const auto move = [&](int sum, std::int64_t value) {
            less[sum] -= value;
            more[sum] += value;
        };
        move(0, 1);
        move(1, z_place);
        move(2, static_cast<std::int64_t>(scratch_.y[i]));
        move(3, static_cast<std::int64_t>(scratch_.x[i]));
        for (int c = 0; c < n_channels_; ++c) move(N_PLACE_SUMS + c, levels[c * stride_]);
        changed_ |= std::uint64_t(1) << from | std::uint64_t(1) << to;
    }

    const Assignment& task_;
    Scratch& scratch_;
    const int n_channels_;
    const std::int64_t n_in_plane_, stride_;
    std::uint32_t candidates_ = 0;
    std::uint64_t changed_ = 0;
    int n_slots_ = 0;  // centres that some element of the tile may be nearest to
    std::int32_t direction_[N_SLOTS];
    std::int32_t colour_[N_SLOTS];
    alignas(64) std::int32_t square_[N_SLOTS] = {};  // c²
    float place_[N_AXES][N_SLOTS];                   // −2 c
    float z_term_[N_SLOTS];
    alignas(64) float in_plane_[N_NEAR][BLOCK];      // c² − 2 (y, x)·c
};

}  // namespace

Assigned assign_tile(const Assignment& task, Scratch& scratch) {
    switch (task.n_channels) {
        case 1: return Tile<1>(task, scratch).assign();
        case 2: return Tile<2>(task, scratch).assign();
        case 3: return Tile<3>(task, scratch).assign();
        case 4: return Tile<4>(task, scratch).assign();
        default: return Tile<0>(task, scratch).assign();
    }
}

}  // namespace SFUMATO_ISA
}  // namespace sfumato

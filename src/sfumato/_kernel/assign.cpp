// Compiled once for each instruction set, each time in a namespace of its own (SFUMATO_ISA).
//
// With places and levels counted from the middle of the tile, an element e is nearest to the centre c
// for which  c² − 2 e·c  is least (e² is the same for all). That is a sum of one term for each axis
// and channel, linear in the element; and so is the difference between two centres, which is why one can
// tell from the ends of a tile's ranges that a centre is nowhere the nearest.
//
// Such a distance times 64, plus the direction in which the centre's cell lies, is a key: the least of
// an element's keys tells the nearest centre, and of equals the first. Keys are sums of products of
// 16-bit numbers: 16 times what is said of the element, -8 times what is said of the centre.

#include "assign.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "lanes.hpp"

namespace sfumato {
namespace SFUMATO_ISA {
namespace {

// How many vectors of elements are worked on side by side, so that what is said of a centre is loaded once
// for all of them and sums do not wait for one another.
constexpr int N_VECTORS = 4;
static_assert(BLOCK % (N_VECTORS * N_LANES) == 0, "a block must be whole groups of vectors");

constexpr std::int32_t KEYS = 64;  // for one unit of distance
constexpr std::int32_t ELEMENT_FACTOR = 16, CENTRE_FACTOR = -8;
static_assert(ELEMENT_FACTOR * CENTRE_FACTOR == -2 * KEYS, "products must be −2 e·c in units of keys");

// The direction of a neighbouring cell (0 to 26) as two bits for each axis, in the same order.
std::int32_t code_of(int direction) { return direction / 9 << 4 | direction / 3 % 3 << 2 | direction % 3; }

// The colours of the cells in some directions from one of a given colour: two bits for each axis, added
// without carrying from one axis to the next.
Ints colours_from(std::int32_t own, Ints codes) {
    constexpr std::int32_t LOW = 0b010101, HIGH = 0b101010;
    const std::int32_t first = ((own & LOW) + LOW) ^ ((own ^ 0b111111) & HIGH);  // one cell back
    return ((codes & all(LOW)) + all(first & LOW)) ^ ((codes ^ all(first)) & all(HIGH));
}

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
            start_[n] = KEYS * square_[i] + code_of(direction_[i]);
            in_plane_factor_[n] = packed(CENTRE_FACTOR * feature(1)[i], CENTRE_FACTOR * feature(2)[i]);
            for (int pair = 0; pair < n_pairs(); ++pair)
                scratch_.factors[pair * N_SLOTS + n] = packed(factor(2 * pair, i), factor(2 * pair + 1, i));
            ++n;
        }
        n_slots_ = n;
    }

    // What is said of elements beside their place in the plane, in pairs: the levels, then z.
    int n_pairs() const { return (n_channels_ + 2) / 2; }

    std::int32_t factor(int i, int slot) const {
        if (i > n_channels_) return 0;
        return CENTRE_FACTOR * feature(i < n_channels_ ? N_AXES + i : 0)[slot];
    }

    void lay_out_plane() {
        const std::int64_t n_x = task_.box.n[2];
        std::int32_t* to = scratch_.yx.data();
        for (std::int64_t row = 0; row < task_.box.n[1]; ++row, to += n_x) {
            const std::int32_t y = ELEMENT_FACTOR * (task_.places[1][row] - middle(1));
            for (std::int64_t i = 0; i < n_x; ++i)
                to[i] = packed(y, ELEMENT_FACTOR * (task_.places[2][i] - middle(2)));
        }
        std::fill(to, scratch_.yx.data() + stride_, to[-1]);
    }

    // What of the keys does not depend on z or levels.
    void measure_in_plane(std::int64_t first) {
        const std::int64_t n = std::min<std::int64_t>(BLOCK, stride_ - first);
        for (std::int64_t i = 0; i < n; i += N_LANES) {
            const Pairs place = load_pairs(scratch_.yx.data() + first + i);
            for (int j = 0; j < n_slots_; ++j)
                store(in_plane_[j] + i, add_products(all(start_[j]), place, all_pairs(in_plane_factor_[j])));
        }
    }

    template <bool IsFlat>
    void choose(std::int64_t first, std::int64_t z) {
        const std::int16_t* const levels = task_.levels + z * stride_ * n_channels_ + first;
        std::uint8_t* const colours = task_.colours + z * stride_ + first;
        const int n = static_cast<int>(std::min<std::int64_t>(BLOCK, stride_ - first));
        const Ints z_place = all(ELEMENT_FACTOR * (task_.places[0][z] - middle(0)));
        alignas(64) std::uint8_t before[BLOCK];
        std::memcpy(before, colours, n);
        int i = 0;
        for (; i + N_VECTORS * N_LANES <= n; i += N_VECTORS * N_LANES)
            choose_nearest<IsFlat, N_VECTORS>(first, i, z_place, levels + i, colours + i);
        for (; i < n; i += N_LANES)
            choose_nearest<IsFlat, 1>(first, i, z_place, levels + i, colours + i);
        if (!task_.is_last) move_changed(before, colours, n, z, first, levels);
    }

    template <bool IsFlat, int V>
    void choose_nearest(std::int64_t block, int first, Ints z_place, const std::int16_t* levels,
                        std::uint8_t* colours) const {
        constexpr int N_PAIRS = C ? (C + 2) / 2 : 1;
        Pairs place[V], pair[N_PAIRS][V];
        Ints least[V];
        for (int v = 0; v < V; ++v) {
            if (IsFlat) place[v] = load_pairs(scratch_.yx.data() + block + first + v * N_LANES);
            for (int p = 0; C && p < N_PAIRS; ++p) pair[p][v] = pair_at(levels, z_place, p, v);
            least[v] = all(std::numeric_limits<std::int32_t>::max());
        }
        for (int j = 0; j < n_slots_; ++j) {
            const std::int32_t* const in_plane = in_plane_[j] + first;
            const Ints start = all(start_[j]);
            const Pairs in_plane_factor = all_pairs(in_plane_factor_[j]);
            for (int v = 0; v < V; ++v) {
                Ints key = IsFlat ? add_products(start, place[v], in_plane_factor)
                                  : load<Ints>(in_plane + v * N_LANES);
                for (int p = 0; p < (C ? N_PAIRS : n_pairs()); ++p)
                    key = add_products(key, C ? pair[C ? p : 0][v] : pair_at(levels, z_place, p, v),
                                       all_pairs(scratch_.factors[p * N_SLOTS + j]));
                least[v] = lesser(key, least[v]);
            }
        }
        for (int v = 0; v < V; ++v) {
            const Bytes before = load<Bytes>(colours + v * N_LANES);
            const Ints now = colours_from(task_.own_colour, least[v]);
            store(colours + v * N_LANES, unless(NOWHERE, before, to_bytes(now)));
        }
    }

    Pairs pair_at(const std::int16_t* levels, Ints z_place, int pair, int v) const {
        const auto at = [&](int i) {
            return i < n_channels_ ? level_at(levels, i, v) : i == n_channels_ ? z_place : all(0);
        };
        return pairs(at(2 * pair), at(2 * pair + 1));
    }

    Ints level_at(const std::int16_t* levels, int c, int v) const {
        return (to_ints(load<Shorts>(levels + c * stride_ + v * N_LANES)) - all(middle_level(c))) *
               all(ELEMENT_FACTOR);
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
        move(2, low_of(scratch_.yx[i]) / ELEMENT_FACTOR);
        move(3, high_of(scratch_.yx[i]) / ELEMENT_FACTOR);
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
    alignas(64) std::int32_t square_[N_SLOTS] = {};        // c²
    std::int32_t start_[N_SLOTS];                          // the key of an element in the tile's middle
    std::int32_t in_plane_factor_[N_SLOTS];                // a pair, y and x
    alignas(64) std::int32_t in_plane_[N_NEAR][BLOCK];     // keys, but for z and levels
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

// Compiled once for each instruction set, each time in a namespace of its own (SFUMATO_ISA).
//
// D = ((y² + x²) + z²) + c₁² + c₂² …, every term a weighted difference, in float32 and in this order.

#include "assign.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "lanes.hpp"

namespace sfumato {
namespace SFUMATO_ISA {
namespace {

constexpr float INFINITE = std::numeric_limits<float>::infinity();

// Elements along one axis or in one channel, and the centres seen from there.
struct Extent {
    const float* centres;
    float first, last, weight;

    // The squared distances from the middle.
    Floats from_middle(int i) const {
        const Floats away = (load<Floats>(centres + i) - all((first + last) * 0.5f)) * all(weight);
        return away * away;
    }

    // By how much the squared distances exceed that from another centre, at the least:
    // (e - c)² - (e - o)² = (o - c) (2e - c - o) is lowest at an end.
    Floats excess(int i, int other) const {
        const Floats c = load<Floats>(centres + i) - all(first), o = all(centres[other] - first);
        const Floats both = c + o, between = o - c;
        const Floats at_first = between * (all(0.0f) - both);
        const Floats at_last = between * (all(2.0f * (last - first)) - both);
        return choose_from(at_first < at_last, at_first, at_last) * all(weight * weight);
    }

    // How large the squared distances are, at the most.
    Floats largest(int i) const {
        const Floats c = load<Floats>(centres + i) - all(first), to_last = all(last - first) - c;
        const Floats far = choose_from(to_last < c, c, to_last);
        return far * far * all(weight * weight);
    }
};

template <int C>
class Tile {
  public:
    Tile(const Assignment& task, Scratch& scratch)
        : task_(task), scratch_(scratch), n_channels_(C ? C : task.n_channels),
          n_in_plane_(task.box.n[1] * task.box.n[2]), stride_(Tiles::padded(n_in_plane_)),
          n_blocks_(Tiles::n_blocks(stride_)) {
        lay_out_centres();
        leave_out_far_centres();
        lay_out_plane();
    }

    std::uint32_t assign() {
        for (std::int64_t z = 0; z < task_.box.n[0]; ++z) {
            const std::int16_t* levels = task_.levels + z * stride_ * n_channels_;
            const Range* ranges = task_.ranges + z * n_blocks_ * n_channels_;
            std::uint8_t* choice = task_.choice + z * stride_;
            const Floats z_place = all(static_cast<float>(task_.box.first[0] + z));
            for (int i = 0; i < n_slots_; i += N_LANES) {
                const Floats term = (z_place - load<Floats>(place_[0] + i)) * all(task_.weights[0]);
                store(z_term_ + i, term * term);
            }
            for (std::int64_t block = 0; block < n_blocks_; ++block) {
                find_candidates(block, z, ranges + block * n_channels_);
                measure_in_plane(block);
                choose(block, z, levels, choice);
            }
        }
        return changed_;
    }

  private:
    void lay_out_centres() {
        float* const levels = scratch_.levels.data();
        for (int i = 0; i < N_NEAR; ++i) {
            const float* const centre = task_.centres[i];
            if (!centre) continue;
            for (int axis = 0; axis < N_AXES; ++axis) place_[axis][n_slots_] = centre[axis];
            for (int c = 0; c < n_channels_; ++c)
                levels[c * N_SLOTS + n_slots_] = centre[N_AXES + c];
            direction_[n_slots_++] = i;
        }
    }

    Extent along(int axis, std::int64_t first, std::int64_t last) const {
        const std::int64_t start = task_.box.first[axis];
        return {place_[axis], static_cast<float>(start + first), static_cast<float>(start + last),
                task_.weights[axis]};
    }

    Extent channel(int c, Range range) const {
        return {scratch_.levels.data() + c * N_SLOTS, float(range.low), float(range.high), 1.0f};
    }

    // Keep the centres that are nearest to some element of the tile, whatever the rounding: no bit of
    // the result depends on the others. With u = 2⁻²⁴, half of what is rounded at most, the excess is
    // wrong by less than (16 + 2 (3 + channels)) u of the largest distances, and the distances that
    // are compared in the end by less than (8 + channels) u.
    void leave_out_far_centres() {
        const Index3& n = task_.box.n;
        const Extent axes[N_AXES] = {along(0, 0, n[0] - 1), along(1, 0, n[1] - 1),
                                     along(2, 0, n[2] - 1)};
        const auto range = [&](int c) {
            Range whole = task_.ranges[c];
            for (std::int64_t i = 1; i < n[0] * n_blocks_; ++i) {
                const Range& part = task_.ranges[i * n_channels_ + c];
                whole.low = std::min(whole.low, part.low);
                whole.high = std::max(whole.high, part.high);
            }
            return whole;
        };
        const int n_channels = C ? C : n_channels_;
        alignas(64) float largest[N_SLOTS];
        for (int i = 0; i < n_slots_; i += N_LANES) {
            Floats sum = axes[0].largest(i) + axes[1].largest(i) + axes[2].largest(i);
            for (int c = 0; c < n_channels; ++c) sum = sum + channel(c, range(c)).largest(i);
            store(largest + i, sum);
        }
        const float most = *std::max_element(largest, largest + n_slots_);
        rounding_ = 2.0f * most * static_cast<float>(32 + 4 * n_channels_) / (1 << 24);
        keep_near(axes, range);
        float* const levels = scratch_.levels.data();
        for (int j = 0; j < n_candidates_; ++j) {
            const int i = candidates_[j];
            for (auto& place : place_) place[j] = place[i];
            for (int c = 0; c < n_channels_; ++c) levels[c * N_SLOTS + j] = levels[c * N_SLOTS + i];
            direction_[j] = direction_[i];
        }
        n_slots_ = n_candidates_;
    }

    // Make those centres candidates that no other one excludes for all elements of an extent.
    template <typename RangeOf>
    void keep_near(const Extent (&axes)[N_AXES], const RangeOf& range) {
        const int n_channels = C ? C : n_channels_;
        Ints nearest = all(std::numeric_limits<std::int32_t>::max());
        for (int i = 0; i < n_slots_; i += N_LANES) {
            Floats sum = axes[0].from_middle(i) + axes[1].from_middle(i) + axes[2].from_middle(i);
            for (int c = 0; c < n_channels; ++c) sum = sum + channel(c, range(c)).from_middle(i);
            // As integers, numbers from 0 on have the same order; their last bits tell the slot.
            const Ints slots = load<Ints>(SLOT) + all(i);
            const Ints tagged = (to_bits(sum) & all(~(N_SLOTS - 1))) + slots;
            const Ints is_less = (tagged < nearest) & (slots < all(n_slots_));
            nearest = choose_from(is_less, tagged, nearest);
        }
        const int other = lowest(nearest) & (N_SLOTS - 1);
        alignas(64) std::int32_t is_possible[N_SLOTS];
        for (int i = 0; i < n_slots_; i += N_LANES) {
            Floats excess =
                axes[0].excess(i, other) + axes[1].excess(i, other) + axes[2].excess(i, other);
            for (int c = 0; c < n_channels; ++c)
                excess = excess + channel(c, range(c)).excess(i, other);
            // Not "excess <= rounding": where numbers overflow, NaN must not leave out a centre.
            store(is_possible + i, choose_from(all(rounding_) < excess, all(0), all(1)));
        }
        n_candidates_ = 0;
        for (std::int32_t i = 0; i < n_slots_; ++i) {
            candidates_[n_candidates_] = i;
            n_candidates_ += is_possible[i];
        }
    }

    void lay_out_plane() {
        const Box& box = task_.box;
        std::fill_n(scratch_.is_in_plane.data(), n_blocks_, 0u);
        if (scratch_.n_y != box.n[1] || scratch_.n_x != box.n[2]) {  // else as for the last tile
            scratch_.n_y = box.n[1];
            scratch_.n_x = box.n[2];
            std::int64_t i = 0;
            for (std::int64_t y = 0; y < box.n[1]; ++y)
                for (std::int64_t x = 0; x < box.n[2]; ++x, ++i) {
                    scratch_.y[i] = static_cast<std::int32_t>(y);
                    scratch_.x[i] = static_cast<std::int32_t>(x);
                }
            for (; i < stride_; ++i) {
                scratch_.y[i] = scratch_.y[i - 1];
                scratch_.x[i] = scratch_.x[i - 1];
            }
        }
        const Floats y_first = all(static_cast<float>(box.first[1]));
        const Floats x_first = all(static_cast<float>(box.first[2]));
        for (std::int64_t i = 0; i < stride_; i += N_LANES) {
            store(scratch_.y_place.data() + i, to_floats(load<Ints>(scratch_.y.data() + i)) + y_first);
            store(scratch_.x_place.data() + i, to_floats(load<Ints>(scratch_.x.data() + i)) + x_first);
        }
    }

    // Leave out, of the tile's centres, those that no element of the block is nearest to.
    void find_candidates(std::int64_t block, std::int64_t z, const Range* ranges) {
        const std::int64_t first = block * BLOCK, last = std::min(first + BLOCK, n_in_plane_) - 1;
        const std::int32_t *const y = scratch_.y.data(), *const x = scratch_.x.data();
        const bool is_one_row = y[first] == y[last];
        const Extent axes[N_AXES] = {along(0, z, z), along(1, y[first], y[last]),
                                     along(2, is_one_row ? x[first] : 0,
                                           is_one_row ? x[last] : task_.box.n[2] - 1)};
        keep_near(axes, [ranges](int c) { return ranges[c]; });
    }

    // Squared distance within the plane, for the candidates for which it is not known yet.
    void measure_in_plane(std::int64_t block) {
        std::uint32_t& known = scratch_.is_in_plane[block];
        if (task_.box.n[0] == 1) known = 0;
        const std::int64_t first = block * BLOCK, n = std::min<std::int64_t>(BLOCK, stride_ - first);
        const float *const y_place = scratch_.y_place.data() + first;
        const float *const x_place = scratch_.x_place.data() + first;
        for (int j = 0; j < n_candidates_; ++j) {
            const int slot = candidates_[j];
            if (known >> slot & 1) continue;
            known |= 1u << slot;
            float* const to = in_plane(block) + slot * BLOCK;
            const Floats y_centre = all(place_[1][slot]), x_centre = all(place_[2][slot]);
            const Floats y_weight = all(task_.weights[1]), x_weight = all(task_.weights[2]);
            for (std::int64_t i = 0; i < n; i += N_LANES) {
                const Floats y = (load<Floats>(y_place + i) - y_centre) * y_weight;
                const Floats x = (load<Floats>(x_place + i) - x_centre) * x_weight;
                store(to + i, y * y + x * x);
            }
        }
    }

    float* in_plane(std::int64_t block) const {
        const bool is_remembered = scratch_.in_plane.size() > N_NEAR * BLOCK;
        return scratch_.in_plane.data() + (is_remembered ? block * N_NEAR * BLOCK : 0);
    }

    void choose(std::int64_t block, std::int64_t z, const std::int16_t* levels,
                std::uint8_t* choice) {
        const std::int64_t first = block * BLOCK;
        const int n = static_cast<int>(std::min<std::int64_t>(BLOCK, stride_ - first));
        std::uint8_t before[BLOCK];
        std::memcpy(before, choice + first, n);
        for (int i = 0; i < n; i += N_LANES) choose_nearest(block, i, levels + first, choice + first);
        constexpr int WORD = 8;
        for (int i = 0; i < n; i += WORD) {
            if (std::memcmp(before + i, choice + first + i, WORD) == 0) continue;
            for (int j = i; j < i + WORD; ++j)
                if (before[j] != choice[first + j])
                    change(before[j], choice[first + j], z, first + j, levels);
        }
    }

    void choose_nearest(std::int64_t block, std::int64_t i, const std::int16_t* levels,
                        std::uint8_t* choice) const {
        const int n_channels = C ? C : n_channels_;
        const float* const centre_levels = scratch_.levels.data();
        const float* const squared = in_plane(block) + i;
        Floats level[C ? C : 1];
        for (int c = 0; c < C; ++c) level[c] = level_at(levels, c, i);
        Floats least = all(INFINITE);
        Ints nearest = all(N_NEAR / 2);
        for (int j = 0; j < n_candidates_; ++j) {
            const std::int32_t slot = candidates_[j];
            Floats distance = load<Floats>(squared + slot * BLOCK) + all(z_term_[slot]);
            for (int c = 0; c < n_channels; ++c) {
                const Floats value = C ? level[C ? c : 0] : level_at(levels, c, i);
                const Floats term = value - all(centre_levels[c * N_SLOTS + slot]);
                distance = distance + term * term;
            }
            const Ints is_nearer = distance < least;
            least = choose_from(is_nearer, distance, least);
            nearest = choose_from(is_nearer, all(direction_[slot]), nearest);
        }
        const Ints before = to_ints(load<Bytes>(choice + i));
        store(choice + i, to_bytes(choose_from(before == all(NOWHERE), before, nearest)));
    }

    Floats level_at(const std::int16_t* levels, int c, std::int64_t i) const {
        return to_floats(load<Shorts>(levels + c * stride_ + i));
    }

    // Take an element from one centre's sums to another's.
    void change(int from, int to, std::int64_t z, std::int64_t i, const std::int16_t* levels) {
        const int n_sums = N_PLACE_SUMS + n_channels_;
        std::int64_t* const less = task_.changes + from * n_sums;
        std::int64_t* const more = task_.changes + to * n_sums;
        const auto move = [&](int sum, std::int64_t value) {
            less[sum] -= value;
            more[sum] += value;
        };
        move(0, 1);
        move(1, task_.box.first[0] + z);
        move(2, task_.box.first[1] + scratch_.y[i]);
        move(3, task_.box.first[2] + scratch_.x[i]);
        for (int c = 0; c < n_channels_; ++c) move(N_PLACE_SUMS + c, levels[c * stride_ + i]);
        changed_ |= 1u << from | 1u << to;
    }

    static constexpr std::int32_t SLOT[N_LANES] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                   8, 9, 10, 11, 12, 13, 14, 15};

    const Assignment& task_;
    Scratch& scratch_;
    const int n_channels_;
    const std::int64_t n_in_plane_, stride_, n_blocks_;
    float rounding_ = 0.0f;      // more than rounding changes of a difference between distances
    std::uint32_t changed_ = 0;  // the centres whose sums change
    int n_slots_ = 0;            // centres that some element of the tile may be nearest to
    std::int32_t direction_[N_SLOTS];  // of each
    alignas(64) float place_[N_AXES][N_SLOTS] = {};
    alignas(64) float z_term_[N_SLOTS];
    int n_candidates_ = 0;
    std::int32_t candidates_[N_SLOTS];  // the slots among them that matter now
};

}  // namespace

std::uint32_t assign_tile(const Assignment& task, Scratch& scratch) {
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

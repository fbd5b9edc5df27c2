// Compiled once for each instruction set, each time in a namespace of its own (SFUMATO_ISA).
//
// D = ((y² + x²) + z²) + c₁² + c₂² …, every term a weighted difference, in float32 and in this order.

#include "assign.hpp"

#include <algorithm>
#include <limits>

#include "lanes.hpp"

namespace sfumato {
namespace SFUMATO_ISA {
namespace {

constexpr int OWN = N_NEAR / 2;
constexpr float INFINITE = std::numeric_limits<float>::infinity();


// Elements of a block, along one axis or in one channel, and the centres seen from there.
struct Extent {
    const float* centres;
    float first, last, weight;

    // Add the squared distances from the middle of the block.
    void add_from_middle(float* distance) const {
        const Floats middle = all((first + last) * 0.5f);
        for (int i = 0; i < N_SLOTS; i += N_LANES) {
            const Floats away = (load<Floats>(centres + i) - middle) * all(weight);
            store(distance + i, load<Floats>(distance + i) + away * away);
        }
    }

    // Add by how much the squared distances exceed that from another centre, at the least, and how
    // large they are, at the most. (e - c)² - (e - o)² = (o - c) (2e - c - o) is lowest at an end.
    void add_excess(int other, float* excess, float* largest) const {
        const Floats o = all(centres[other] - first), twice = all(2.0f * (last - first));
        const Floats square = all(weight * weight);
        for (int i = 0; i < N_SLOTS; i += N_LANES) {
            const Floats c = load<Floats>(centres + i) - all(first);
            const Floats at_first = (o - c) * (all(0.0f) - (c + o)), at_last = (o - c) * (twice - (c + o));
            const Floats least = choose_from(at_first < at_last, at_first, at_last);
            const Floats to_last = all(last - first) - c;
            const Floats far = choose_from(to_last < c, c, to_last);
            store(excess + i, load<Floats>(excess + i) + least * square);
            store(largest + i, load<Floats>(largest + i) + far * far * square);
        }
    }
};

template <int C>
class Tile {
  public:
    Tile(const Assignment& task, Scratch& scratch)
        : task_(task), scratch_(scratch), n_channels_(C ? C : task.n_channels),
          n_sums_(N_PLACE_SUMS + n_channels_),
          n_in_plane_(task.box.n[1] * task.box.n[2]), stride_(Tiles::padded(n_in_plane_)),
          n_blocks_(Tiles::n_blocks(stride_)),
          rounding_(static_cast<float>(32 + 4 * n_channels_) / (1 << 24)),
          most_lanes_(MOST_IN_LANE / std::max({std::int64_t(N_LEVELS), task.box.n[0], task.box.n[1],
                                               task.box.n[2]})) {
        lay_out_centres();
        lay_out_plane();
    }

    void assign() {
        for (std::int64_t z = 0; z < task_.box.n[0]; ++z) {
            const std::int16_t* levels = task_.levels + z * stride_ * n_channels_;
            const Range* ranges = task_.ranges + z * n_blocks_ * n_channels_;
            std::uint8_t* choice = task_.choice + z * stride_;
            for (int i = 0; i < N_SLOTS; ++i) {
                const float term =
                    (static_cast<float>(task_.box.first[0] + z) - place_[0][i]) * task_.weights[0];
                z_term_[i] = term * term;
            }
            for (std::int64_t block = 0; block < n_blocks_; ++block) {
                if (n_lanes_ + BLOCK / N_LANES > most_lanes_) flush(z);
                find_candidates(block, z, ranges + block * n_channels_);
                measure_in_plane(block);
                choose(block, levels, choice);
            }
            end_plane();
        }
        flush(task_.box.n[0]);
    }

  private:
    void lay_out_centres() {
        for (int i = 0; i < N_SLOTS; ++i) {
            const float* centre = i < N_NEAR ? task_.centres[i] : nullptr;
            is_there_[i] = centre ? -1 : 0;
            for (int axis = 0; axis < N_AXES; ++axis) place_[axis][i] = centre ? centre[axis] : 0.0f;
            for (int c = 0; c < n_channels_; ++c)
                scratch_.levels[c * N_SLOTS + i] = centre ? centre[N_AXES + c] : 0.0f;
        }
    }

    void lay_out_plane() {
        const Box& box = task_.box;
        std::fill_n(scratch_.is_in_plane.data(), n_blocks_, 0u);
        if (scratch_.n_y == box.n[1] && scratch_.n_x == box.n[2]) return;  // as for the last tile
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

    // Leave out the centres that are farther than another from every element of the block, whatever
    // the rounding: no bit of the result depends on them. With u = 2⁻²⁴, half of what is rounded at
    // most, the excess is wrong by less than (16 + 2 (3 + channels)) u of the largest distances, and
    // the distances that are compared in the end by less than (8 + channels) u.
    void find_candidates(std::int64_t block, std::int64_t z, const Range* ranges) {
        const Box& box = task_.box;
        const std::int64_t first = block * BLOCK, last = std::min(first + BLOCK, n_in_plane_) - 1;
        const std::int64_t y_first = first / box.n[2], y_last = last / box.n[2];
        const bool is_one_row = y_first == y_last;
        const std::int64_t x_first = is_one_row ? first % box.n[2] : 0;
        const std::int64_t x_last = is_one_row ? last % box.n[2] : box.n[2] - 1;
        const auto along = [&](int axis, std::int64_t from, std::int64_t to) {
            return Extent{place_[axis], static_cast<float>(box.first[axis] + from),
                          static_cast<float>(box.first[axis] + to), task_.weights[axis]};
        };
        const auto channel = [&](int c) {
            return Extent{scratch_.levels.data() + c * N_SLOTS, float(ranges[c].low),
                          float(ranges[c].high), 1.0f};
        };
        const Extent axes[N_AXES] = {along(0, z, z), along(1, y_first, y_last),
                                     along(2, x_first, x_last)};
        alignas(64) float from_middle[N_SLOTS], excess[N_SLOTS] = {}, largest[N_SLOTS] = {};
        for (int i = 0; i < N_SLOTS; ++i) from_middle[i] = is_there_[i] ? 0.0f : INFINITE;
        for (const Extent& extent : axes) extent.add_from_middle(from_middle);
        for (int c = 0; c < n_channels_; ++c) channel(c).add_from_middle(from_middle);
        int nearest = OWN;
        for (int i = 0; i < N_NEAR; ++i) nearest = from_middle[i] < from_middle[nearest] ? i : nearest;
        for (const Extent& extent : axes) extent.add_excess(nearest, excess, largest);
        for (int c = 0; c < n_channels_; ++c) channel(c).add_excess(nearest, excess, largest);
        alignas(64) std::int32_t is_possible[N_SLOTS];
        for (int i = 0; i < N_SLOTS; i += N_LANES) {
            const Floats rounding =
                (load<Floats>(largest + i) + all(largest[nearest])) * all(rounding_);
            // Not "excess <= rounding": where numbers overflow, NaN must not leave out a centre.
            const Ints is_farther = rounding < load<Floats>(excess + i);
            store(is_possible + i, choose_from(is_farther, all(0), load<Ints>(is_there_ + i)));
        }
        int n = 0;
        for (std::int32_t i = 0; i < N_NEAR; ++i) {
            candidates_[n] = i;
            n -= is_possible[i];
        }
        n_candidates_ = n;
    }

    // Squared distance within the plane, for the candidates for which it is not known yet.
    void measure_in_plane(std::int64_t block) {
        std::uint32_t& known = scratch_.is_in_plane[block];
        if (task_.box.n[0] == 1) known = 0;
        const std::int64_t first = block * BLOCK, last = std::min(first + BLOCK, stride_);
        const Floats y_first = all(static_cast<float>(task_.box.first[1]));
        const Floats x_first = all(static_cast<float>(task_.box.first[2]));
        for (int j = 0; j < n_candidates_; ++j) {
            const int centre = candidates_[j];
            if (known >> centre & 1) continue;
            known |= 1u << centre;
            float* to = in_plane(block) + centre * BLOCK;
            for (std::int64_t i = first; i < last; i += N_LANES) {
                const Floats y_place = to_floats(load<Ints>(scratch_.y.data() + i)) + y_first;
                const Floats x_place = to_floats(load<Ints>(scratch_.x.data() + i)) + x_first;
                const Floats y = (y_place - all(place_[1][centre])) * all(task_.weights[1]);
                const Floats x = (x_place - all(place_[2][centre])) * all(task_.weights[2]);
                store(to + i - first, y * y + x * x);
            }
        }
    }

    float* in_plane(std::int64_t block) const {
        const bool is_remembered = scratch_.in_plane.size() > N_NEAR * BLOCK;
        return scratch_.in_plane.data() + (is_remembered ? block * N_NEAR * BLOCK : 0);
    }

    void choose(std::int64_t block, const std::int16_t* plane, std::uint8_t* choice) {
        const std::int64_t first = block * BLOCK;
        const int n = static_cast<int>(std::min<std::int64_t>(BLOCK, stride_ - first)) / N_LANES;
        const std::int16_t* levels = plane + first;
        Ints chosen[BLOCK / N_LANES];
        for (int i = 0; i < n; ++i) {
            const Ints nearest =
                n_candidates_ == 1 ? all(candidates_[0]) : find_nearest(block, i * N_LANES, levels);
            std::uint8_t* const to = choice + first + i * N_LANES;
            const Ints before = to_ints(load<Bytes>(to));
            chosen[i] = choose_from(before == all(NOWHERE), before, nearest);
            store(to, to_bytes(chosen[i]));
        }
        for (int j = 0; j < n_candidates_; ++j) add_up(candidates_[j], chosen, n, first, levels);
        n_lanes_ += n;
    }

    Ints find_nearest(std::int64_t block, int i, const std::int16_t* levels) const {
        const std::int64_t stride = stride_;
        const float* const squared = in_plane(block) + i;
        const float* const centre_levels = scratch_.levels.data();
        const int n_candidates = n_candidates_;
        Floats level[C ? C : 1];
        for (int c = 0; c < C; ++c) level[c] = to_floats(load<Shorts>(levels + c * stride + i));
        Floats least = all(INFINITE);
        Ints nearest = all(OWN);
        for (int j = 0; j < n_candidates; ++j) {
            const std::int32_t centre = candidates_[j];
            Floats distance = load<Floats>(squared + centre * BLOCK) + all(z_term_[centre]);
            for (int c = 0; c < n_channels_; ++c) {
                const Floats value =
                    C ? level[C ? c : 0] : to_floats(load<Shorts>(levels + c * stride + i));
                const Floats term = value - all(centre_levels[c * N_SLOTS + centre]);
                distance = distance + term * term;
            }
            const Ints is_nearer = distance < least;
            least = choose_from(is_nearer, distance, least);
            nearest = choose_from(is_nearer, all(centre), nearest);
        }
        return nearest;
    }

    // Add the elements that chose a centre to its sums, each lane by itself.
    void add_up(std::int32_t centre, const Ints* chosen, int n, std::int64_t first,
                const std::int16_t* levels) {
        std::int32_t* const sums = lane_sums(centre);
        if (!(has_sums_ >> centre & 1)) {
            has_sums_ |= 1u << centre;
            std::fill_n(sums, n_sums_ * N_LANES, 0);
        }
        const std::int32_t* const y_of = scratch_.y.data() + first;
        const std::int32_t* const x_of = scratch_.x.data() + first;
        Ints count = load<Ints>(sums), y = load<Ints>(sums + N_LANES);
        Ints x = load<Ints>(sums + 2 * N_LANES);
        for (int i = 0; i < n; ++i) {
            const Ints is = chosen[i] == all(centre);
            count = count - is;
            y = y + (is & load<Ints>(y_of + i * N_LANES));
            x = x + (is & load<Ints>(x_of + i * N_LANES));
        }
        store(sums, count);
        store(sums + N_LANES, y);
        store(sums + 2 * N_LANES, x);
        for (int c = 0; c < n_channels_; ++c) {
            std::int32_t* const to = sums + (N_PLACE_SUMS + c) * N_LANES;
            Ints level = load<Ints>(to);
            for (int i = 0; i < n; ++i)
                level = level + ((chosen[i] == all(centre)) &
                                 to_ints(load<Shorts>(levels + c * stride_ + i * N_LANES)));
            store(to, level);
        }
    }

    // Count every element once for each plane from its own on: that gives the sum of z.
    void end_plane() {
        for (int centre = 0; centre < N_NEAR; ++centre) {
            if (!(has_sums_ >> centre & 1)) continue;
            std::int32_t* const sums = lane_sums(centre);
            store(sums + 3 * N_LANES, load<Ints>(sums + 3 * N_LANES) + load<Ints>(sums));
        }
    }

    // Take the sums out of the lanes, when z planes are done.
    void flush(std::int64_t z) {
        for (int centre = 0; centre < N_NEAR; ++centre) {
            if (!(has_sums_ >> centre & 1)) continue;
            const std::int32_t* const lanes = lane_sums(centre);
            const std::int64_t n = total(lanes);
            if (n == 0) continue;
            Sums& sums = task_.sums[centre];
            sums.n += n;
            sums.place[0] += z * n - total(lanes + 3 * N_LANES);
            sums.place[1] += total(lanes + N_LANES);
            sums.place[2] += total(lanes + 2 * N_LANES);
            for (int c = 0; c < n_channels_; ++c)
                task_.level_sums[centre * n_channels_ + c] +=
                    total(lanes + (N_PLACE_SUMS + c) * N_LANES);
        }
        has_sums_ = 0;
        n_lanes_ = 0;
    }

    std::int32_t* lane_sums(int centre) const {
        return scratch_.sums.data() + centre * n_sums_ * N_LANES;
    }

    static std::int64_t total(const std::int32_t* lanes) {
        std::int32_t sum = 0;
        for (int i = 0; i < N_LANES; ++i) sum += lanes[i];
        return sum;
    }

    static constexpr std::int64_t MOST_IN_LANE = std::int64_t(1) << 26;  // all lanes: below 2³¹

    const Assignment& task_;
    Scratch& scratch_;
    const int n_channels_, n_sums_;
    const std::int64_t n_in_plane_, stride_, n_blocks_;
    const float rounding_;           // more than rounding changes of a distance: a share of it
    const std::int64_t most_lanes_;  // that are added up before sums could overflow
    std::int64_t n_lanes_ = 0;       // added up since the sums were last taken
    std::uint32_t has_sums_ = 0;     // the centres whose sums were begun since then
    alignas(64) std::int32_t is_there_[N_SLOTS];  // -1 or 0
    alignas(64) float place_[N_AXES][N_SLOTS];
    alignas(64) float z_term_[N_SLOTS];
    int n_candidates_ = 0;
    std::int32_t candidates_[N_NEAR];
};

}  // namespace

void assign_tile(const Assignment& task, Scratch& scratch) {
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

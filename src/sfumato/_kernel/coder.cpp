#include "coder.hpp"

#include <algorithm>
#include <array>
#include <utility>

// Every element costs a few yes-or-no questions. How probable a yes is, several small models say, each
// of which has counted what followed the same surroundings before; a mixer weighs what they say by how
// well they did (Mahoney, Adaptive weighing of context models for lossless data compression, 2005).
// The better the guess, the fewer bits an arithmetic coder needs. Packing and unpacking ask the same
// questions in the same code, and all numbers are whole, so that every processor guesses the same.

namespace sfumato {
namespace {

constexpr int MARGIN = 2;              // how far a model looks
constexpr std::int64_t CELL = 8;       // edge of the cells that are first said to be of one class
constexpr std::uint16_t UNKNOWN = 0xFFFF;
constexpr int FAR = 255;               // a distance beyond which nothing is told apart
constexpr int MOST_MODELS = 8;
constexpr int N_SLOT_BITS = 16;
constexpr int LIMIT = 255;             // observations after which a model forgets the oldest
constexpr int STRETCH_END = 12 * 256;  // log odds are in steps of 1/256

// 65536 / (1 + exp(-x)) for x = -12, -11.5, … 12.
constexpr int LOGISTIC[] = {
    1, 1, 1, 2, 3, 5, 8, 13, 22, 36, 60, 98,
    162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743,
    32768, 40793, 47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269,
    65374, 65438, 65476, 65500, 65514, 65523, 65528, 65531, 65533, 65534, 65535, 65535,
    65535};

struct Tables {
    std::array<std::int16_t, 1 << 14> stretch;  // log odds of a probability in 1/2^14
    std::array<std::int32_t, LIMIT + 1> share;  // 2^16 / (n + 1.5): how much the next of n + 1 counts
    std::array<std::int32_t, LIMIT + 1> trust;  // in 1/256: what n observations are worth

    Tables() {
        int x = -STRETCH_END;
        for (int p = 0; p < 1 << 14; ++p) {
            while (x < STRETCH_END && squash(x) < 4 * p + 2) ++x;
            stretch[p] = static_cast<std::int16_t>(x);
        }
        for (int n = 0; n <= LIMIT; ++n) {
            share[n] = (1 << 17) / (2 * n + 3);
            trust[n] = 256 * 2 * n / (2 * n + 1);
        }
    }

    // The probability, in 1/2^16, of log odds.
    static int squash(int x) {
        x = std::clamp(x, -STRETCH_END, STRETCH_END - 1) + STRETCH_END;
        const int i = x / 128, rest = x % 128;
        return (LOGISTIC[i] * (128 - rest) + LOGISTIC[i + 1] * rest) / 128;
    }
};

const Tables& tables() {
    static const Tables result;
    return result;
}

std::uint32_t mixed(std::uint32_t a, std::uint32_t b) {
    a = (a ^ (b + 0x9E3779B9u + (a << 6) + (a >> 2))) * 0x85EBCA6Bu;
    return a ^ (a >> 15);
}

// An arithmetic coder: the interval from low_ to high_ is cut in two for each bit.
class Packer {
  public:
    static constexpr bool IS_PACKING = true;

    int code(int bit, int probability) {
        const std::uint32_t middle = cut(low_, high_, probability);
        (bit ? high_ : low_) = bit ? middle : middle + 1;
        for (; (low_ ^ high_) >> 24 == 0; low_ <<= 8, high_ = high_ << 8 | 255) put(high_);
        return bit;
    }

    std::vector<std::uint8_t> finish() {
        // One byte within the interval is enough, since the reader goes on with zeros.
        put(high_);
        while (!bytes_.empty() && bytes_.back() == 0) bytes_.pop_back();
        return std::move(bytes_);
    }

    static std::uint32_t cut(std::uint32_t low, std::uint32_t high, int probability) {
        return low + static_cast<std::uint32_t>((std::uint64_t(high - low) * probability) >> 16);
    }

  private:
    void put(std::uint32_t word) { bytes_.push_back(static_cast<std::uint8_t>(word >> 24)); }

    std::uint32_t low_ = 0, high_ = 0xFFFFFFFF;
    std::vector<std::uint8_t> bytes_;
};

class Unpacker {
  public:
    static constexpr bool IS_PACKING = false;

    Unpacker(const std::uint8_t* bytes, std::size_t n) : bytes_(bytes), end_(bytes + n) {
        for (int i = 0; i < 4; ++i) word_ = word_ << 8 | next();
    }

    int code(int, int probability) {
        const std::uint32_t middle = Packer::cut(low_, high_, probability);
        const int bit = word_ <= middle;
        (bit ? high_ : low_) = bit ? middle : middle + 1;
        for (; (low_ ^ high_) >> 24 == 0; low_ <<= 8, high_ = high_ << 8 | 255)
            word_ = word_ << 8 | next();
        return bit;
    }

  private:
    std::uint32_t next() { return bytes_ < end_ ? *bytes_++ : 0; }

    const std::uint8_t* bytes_;
    const std::uint8_t* const end_;
    std::uint32_t low_ = 0, high_ = 0xFFFFFFFF, word_ = 0;
};

// Models that answer one kind of question together.
class Guesser {
  public:
    Guesser(int n_models, int n_selections)
        : n_(n_models), slots_(std::size_t(n_models) << N_SLOT_BITS, 1u << 31),
          weights_(std::size_t(n_selections) * n_models, (1 << 16) * 10 / (7 * n_models) + 6000) {}

    // Ask a question in the given surroundings, one for each model; `selection` picks the weights.
    template <typename Coder>
    int ask(Coder& coder, int bit, const std::uint32_t* surroundings, int selection) {
        std::array<std::uint32_t*, MOST_MODELS> slots;
        std::array<int, MOST_MODELS> inputs;
        std::int32_t* const weights = weights_.data() + std::size_t(selection) * n_;
        std::int64_t sum = 0;
        for (int i = 0; i < n_; ++i) {
            const std::uint32_t slot = (surroundings[i] * 0x9E3779B1u) >> (32 - N_SLOT_BITS);
            slots[i] = &slots_[(std::size_t(i) << N_SLOT_BITS) + slot];
            // The upper 24 bits are a probability, the others how often it was seen.
            const std::uint32_t state = *slots[i];
            inputs[i] = table_.stretch[state >> 18] * table_.trust[state & 255] / 256;
            sum += std::int64_t(weights[i]) * inputs[i];
        }
        const int log_odds = static_cast<int>(
            std::clamp<std::int64_t>(sum / 65536, -STRETCH_END + 1, STRETCH_END - 1));
        const int probability = std::clamp(Tables::squash(log_odds), 16, 65536 - 16);
        bit = coder.code(bit, probability);
        const std::int64_t error = (bit << 16) - probability;
        for (int i = 0; i < n_; ++i) {
            weights[i] += static_cast<std::int32_t>(inputs[i] * error / RATE);
            weights[i] = std::clamp(weights[i], -(1 << 22), 1 << 22);
            const std::uint32_t state = *slots[i], n = state & 255;
            const std::int64_t p = state >> 8, goal = bit ? (1 << 24) - 1 : 0;
            const std::int64_t moved = p + (goal - p) * table_.share[n] / 65536;
            *slots[i] = static_cast<std::uint32_t>(moved) << 8 | std::min<std::uint32_t>(n + 1, LIMIT);
        }
        return bit;
    }

  private:
    static constexpr std::int64_t RATE = 1 << 15;

    const Tables& table_ = tables();
    const int n_;
    std::vector<std::uint32_t> slots_;
    std::vector<std::int32_t> weights_;
};

template <typename Coder>
class Block {
  public:
    Block(const BlockView& view, Coder& coder)
        : view_(view), coder_(coder), row_(view.shape[2] + 2 * MARGIN),
          plane_(row_ * (view.shape[1] + 2 * MARGIN)),
          labels_(plane_ * (view.shape[0] + 2 * MARGIN), UNKNOWN), zones_(labels_.size()) {}

    void run() {
        code_cells();
        for_each([&](std::int64_t at, std::int64_t element) {
            if (labels_[at] == UNKNOWN) code_label(at, view_.labels[element]);
            if (!Coder::IS_PACKING) view_.labels[element] = static_cast<std::uint8_t>(labels_[at]);
        });
        measure_distances();
        if (view_.n_zones > 1) measure_thirds();
        code_reach();
        for_each([&](std::int64_t at, std::int64_t element) {
            if (distances_[at] <= reach_) code_zone(at, view_.zones[element]);
            if (!Coder::IS_PACKING) view_.zones[element] = zones_[at];
        });
    }

  private:
    template <typename Work>
    void for_each(const Work& work) const {
        std::int64_t element = 0;
        for (std::int64_t z = 0; z < view_.shape[0]; ++z)
            for (std::int64_t y = 0; y < view_.shape[1]; ++y)
                for (std::int64_t x = 0; x < view_.shape[2]; ++x, ++element)
                    work(place(z, y, x), element);
    }

    std::int64_t place(std::int64_t z, std::int64_t y, std::int64_t x) const {
        return (z + MARGIN) * plane_ + (y + MARGIN) * row_ + x + MARGIN;
    }

    // Cells that are of one class, which most are, need no question an element.
    void code_cells() {
        Guesser kinds(3, 1), classes(2, 1);
        Index3 n;
        for (int axis = 0; axis < N_AXES; ++axis) n[axis] = (view_.shape[axis] + CELL - 1) / CELL;
        std::vector<std::uint16_t> cells(n[0] * n[1] * n[2], UNKNOWN);
        const auto cell = [&](std::int64_t z, std::int64_t y, std::int64_t x) -> std::uint16_t {
            return z < 0 || y < 0 || x < 0 ? UNKNOWN - 1 : cells[(z * n[1] + y) * n[2] + x];
        };
        for (std::int64_t z = 0; z < n[0]; ++z)
            for (std::int64_t y = 0; y < n[1]; ++y)
                for (std::int64_t x = 0; x < n[2]; ++x) {
                    const Index3 first = {z * CELL, y * CELL, x * CELL};
                    const std::uint32_t left = cell(z, y, x - 1), above = cell(z, y - 1, x),
                                        before = cell(z - 1, y, x);
                    const std::uint32_t near[] = {mixed(mixed(left, above), before),
                                                  mixed(left, above), before};
                    int value = Coder::IS_PACKING ? only_class(first) : 0;
                    if (!kinds.ask(coder_, value >= 0, near, 0)) continue;
                    value = code_number(classes, value, 8, near[0], near[2]);
                    value = std::min(value, view_.n_classes - 1);
                    cells[(z * n[1] + y) * n[2] + x] = static_cast<std::uint16_t>(value);
                    for_cell(first, [&](std::int64_t at, std::int64_t) {
                        labels_[at] = static_cast<std::uint16_t>(value);
                    });
                }
    }

    template <typename Work>
    void for_cell(const Index3& first, const Work& work) const {
        Index3 end;
        for (int axis = 0; axis < N_AXES; ++axis)
            end[axis] = std::min(first[axis] + CELL, view_.shape[axis]);
        for (std::int64_t z = first[0]; z < end[0]; ++z)
            for (std::int64_t y = first[1]; y < end[1]; ++y)
                for (std::int64_t x = first[2]; x < end[2]; ++x)
                    work(place(z, y, x), (z * view_.shape[1] + y) * view_.shape[2] + x);
    }

    // The class of a cell, or -1 if it holds several.
    int only_class(const Index3& first) const {
        int result = -2;
        for_cell(first, [&](std::int64_t, std::int64_t element) {
            const int k = view_.labels[element];
            if (result != k) result = result == -2 ? k : -1;
        });
        return result;
    }

    // Code a number, its highest bit first.
    int code_number(Guesser& guesser, int number, int n_bits, std::uint32_t near, std::uint32_t nearer) {
        std::uint32_t prefix = 1;
        for (int i = n_bits - 1; i >= 0; --i) {
            const std::uint32_t surroundings[] = {mixed(near, prefix), mixed(nearer, prefix)};
            prefix = prefix << 1 | guesser.ask(coder_, number >> i & 1, surroundings, 0);
        }
        return static_cast<int>(prefix) - (1 << n_bits);
    }

    // Ask whether the label is that of a neighbour, then of the next one, then of all other classes.
    void code_label(std::int64_t at, int label) {
        const std::int64_t around[] = {-1, -row_, -plane_, -row_ + 1, -plane_ + 1, -plane_ + row_};
        std::array<std::uint16_t, 6> tried;
        int n_tried = 0;
        const auto is_tried = [&](std::uint16_t k) {
            return std::find(tried.begin(), tried.begin() + n_tried, k) != tried.begin() + n_tried;
        };
        for (const std::int64_t step : around) {
            const std::uint16_t k = labels_[at + step];
            if (k == UNKNOWN || is_tried(k)) continue;
            if (n_tried + 1 == view_.n_classes || is_class(at, k, label == k, n_tried)) {
                labels_[at] = k;
                return;
            }
            tried[n_tried++] = k;
        }
        int candidate = -1;
        for (int k = 0; k < view_.n_classes; ++k) {
            if (is_tried(static_cast<std::uint16_t>(k))) continue;
            if (candidate >= 0 && is_class(at, candidate, label == candidate, 3)) break;
            candidate = k;
        }
        labels_[at] = static_cast<std::uint16_t>(candidate);
    }

    bool is_class(std::int64_t at, int k, bool is_it, int n_tried) {
        const auto is = [&](std::int64_t z, std::int64_t y, std::int64_t x) -> std::uint32_t {
            return labels_[at + z * plane_ + y * row_ + x] == k;
        };
        std::uint32_t row = 0, plane = 0, ring = 0, n_before = 0, n_above = 0;
        for (int x = -1; x <= 1; ++x) row = row << 1 | is(0, -1, x);
        row = row << 1 | is(0, 0, -1);
        for (int y = -1; y <= 1; ++y)
            for (int x = -1; x <= 1; ++x) plane = plane << 1 | is(-1, y, x);
        for (int x = -2; x <= 2; ++x) {
            ring = ring << 1 | is(0, -2, x);
            n_above += is(0, -1, x) + is(0, -2, x);
            for (int y = -2; y <= 2; ++y) n_before += is(-1, y, x);
        }
        for (const int x : {-2, 2}) ring = ring << 2 | is(0, -1, x) << 1 | is(-1, 0, x);
        ring = ring << 4 | is(0, 0, -2) << 3 | is(-2, 0, 0) << 2 | is(-1, -2, 0) << 1 | is(-1, 2, 0);
        // Cells that were said to be of one class are known beyond the present place too.
        const std::uint32_t beyond = is(0, 0, 1) << 5 | is(0, 1, 0) << 4 | is(1, 0, 0) << 3 |
                                     is(-2, 0, 0) << 2 | is(-2, 1, 0) << 1 | is(-2, 0, 1);
        const std::uint32_t left = labels_[at - 1], above = labels_[at - row_],
                            before = labels_[at - plane_];
        const auto tried = static_cast<std::uint32_t>(std::min(n_tried, 3));
        const std::uint32_t surroundings[] = {
            mixed(plane << 4 | row, tried),
            mixed(ring, row << 2 | tried),
            mixed(mixed(mixed(left, above), before), static_cast<std::uint32_t>(k)),
            mixed(plane << 6 | beyond, (row & 1) << 2 | tried),
            mixed(n_before << 8 | n_above << 4 | row, plane >> 4 & 1),
            mixed((plane & 0xBA) << 8 | row << 4 | beyond >> 3, static_cast<std::uint32_t>(k)),
        };
        const std::uint32_t agreeing = (row & 1) + (row >> 2 & 1) + (plane >> 4 & 1);
        return label_guesser_.ask(coder_, is_it, surroundings, static_cast<int>(tried * 4 + agreeing));
    }

    // How many steps from element to element lead to another class, and where one then stands.
    void measure_distances() {
        distances_.assign(labels_.size(), FAR);
        opposites_.assign(labels_.size(), 0);
        const std::int64_t steps[] = {-plane_, -row_, -1, 1, row_, plane_};
        std::vector<std::int64_t> front, next;
        for_each([&](std::int64_t at, std::int64_t) {
            for (const std::int64_t step : steps)
                if (labels_[at + step] != labels_[at] && labels_[at + step] != UNKNOWN) {
                    distances_[at] = 1;
                    opposites_[at] = at + step;
                    front.push_back(at);
                    return;
                }
        });
        for (int distance = 2; distance <= LARGEST_DISTANCE && !front.empty(); ++distance) {
            next.clear();
            for (const std::int64_t at : front)
                for (const std::int64_t step : steps)
                    if (labels_[at + step] != UNKNOWN && distances_[at + step] == FAR) {
                        distances_[at + step] = static_cast<std::uint8_t>(distance);
                        opposites_[at + step] = opposites_[at];
                        next.push_back(at + step);
                    }
            std::swap(front, next);
        }
    }

    // How near each element is to the classes other than its own and the one across the boundary.
    void measure_thirds() {
        thirds_.assign(labels_.size(), NO_THIRD);
        std::vector<std::uint8_t> is_there(view_.n_classes);
        for_each([&](std::int64_t at, std::int64_t) { is_there[labels_[at]] = 1; });
        const std::int64_t steps[] = {-plane_, -row_, -1, 1, row_, plane_};
        std::vector<std::uint8_t> steps_to(labels_.size());
        std::vector<std::int64_t> front, next;
        for (int k = 0; k < view_.n_classes; ++k) {
            if (!is_there[k]) continue;
            std::fill(steps_to.begin(), steps_to.end(), NO_THIRD);
            front.clear();
            for_each([&](std::int64_t at, std::int64_t) {
                if (labels_[at] != k) return;
                steps_to[at] = 0;
                front.push_back(at);
            });
            for (std::uint8_t n = 1; n < NO_THIRD && !front.empty(); ++n) {
                next.clear();
                for (const std::int64_t at : front)
                    for (const std::int64_t step : steps)
                        if (labels_[at + step] != UNKNOWN && steps_to[at + step] == NO_THIRD) {
                            steps_to[at + step] = n;
                            next.push_back(at + step);
                        }
                std::swap(front, next);
            }
            for_each([&](std::int64_t at, std::int64_t) {
                if (labels_[at] != k && labels_[opposites_[at]] != k)
                    thirds_[at] = std::min(thirds_[at], steps_to[at]);
            });
        }
    }

    // The largest distance of an uncertain element: farther ones need no question.
    void code_reach() {
        if (Coder::IS_PACKING)
            for_each([&](std::int64_t at, std::int64_t element) {
                if (view_.zones[element]) reach_ = std::max<int>(reach_, distances_[at]);
            });
        Guesser guesser(2, 1);
        reach_ = code_number(guesser, reach_, 8, 0, 0);
    }

    void code_zone(std::int64_t at, int zone) {
        if (view_.n_zones == 0 || !is_uncertain(at, zone != 0)) return;
        if (view_.n_zones == 1) {
            zones_[at] = 1;
            return;
        }
        const std::uint32_t own = labels_[at], other = labels_[opposites_[at]];
        const std::uint32_t distance = distances_[at], third = thirds_[at];
        std::uint32_t tried = 0, n_tried = 0;
        for (const std::int64_t step : {-std::int64_t(1), -row_, -plane_}) {
            const std::uint16_t near = zones_[at + step];
            if (near == 0 || near == tried) continue;
            const std::uint32_t is_same = labels_[at + step] == own;
            const std::uint32_t surroundings[] = {
                mixed(mixed(own, other), mixed(near, third << 2 | n_tried << 1 | is_same)),
                mixed(mixed(near, own), mixed(zones_[opposites_[at]], is_same << 8 | distance)),
                mixed(mixed(zones_[at - row_], zones_[at - plane_]), mixed(zones_[at - 1], third)),
                mixed(near, third),
            };
            if (same_guesser_.ask(coder_, zone == near, surroundings, 0)) {
                zones_[at] = near;
                return;
            }
            tried = near;
            ++n_tried;
        }
        int n_bits = 1;
        while (view_.n_zones >> n_bits) ++n_bits;
        zone = code_number(zone_guesser_, zone, n_bits, mixed(mixed(own, other), third),
                           mixed(own, other));
        zones_[at] = static_cast<std::uint16_t>(std::clamp(zone, 1, view_.n_zones));
    }

    bool is_uncertain(std::int64_t at, bool is_it) {
        const std::uint16_t own = labels_[at];
        const auto zone = [&](std::int64_t z, std::int64_t y, std::int64_t x) -> std::uint32_t {
            return zones_[at + z * plane_ + y * row_ + x] != 0;
        };
        const auto same = [&](std::int64_t z, std::int64_t y, std::int64_t x) -> std::uint32_t {
            return labels_[at + z * plane_ + y * row_ + x] == own;
        };
        const auto slope = [&](std::int64_t step) -> std::uint32_t {
            if (labels_[at + step] != own) return 3;
            return 1u + distances_[at + step] - distances_[at];
        };
        std::uint32_t row = 0, plane = 0, alike = 0, n_before = 0, n_above = 0;
        for (int x = -1; x <= 1; ++x) row = row << 1 | zone(0, -1, x);
        row = row << 1 | zone(0, 0, -1);
        for (int z = -1; z <= 1; ++z)
            for (int y = -1; y <= 1; ++y)
                for (int x = -1; x <= 1; ++x) {
                    alike = alike << 1 | same(z, y, x);
                    if (z < 0) plane = plane << 1 | zone(z, y, x);
                }
        for (int x = -2; x <= 2; ++x) {
            n_above += zone(0, -1, x) + zone(0, -2, x);
            for (int y = -2; y <= 2; ++y) n_before += zone(-1, y, x);
        }
        const std::uint32_t before = plane >> 4 & 1, left = row & 1, above = row >> 2 & 1;
        const std::uint32_t near = left << 2 | above << 1 | before;
        const std::uint32_t near_alike = same(0, 0, -1) << 2 | same(0, -1, 0) << 1 | same(-1, 0, 0);
        const std::uint32_t far = zone(0, 0, -2) << 4 | zone(0, -2, 0) << 3 | zone(-2, 0, 0) << 2 |
                                  zone(-1, 1, 0) << 1 | zone(-1, 0, 1);
        const std::int64_t opposite = opposites_[at];
        const std::uint32_t across = opposite >= at || opposite == 0 ? 0 : zones_[opposite] ? 2 : 1;
        const std::uint32_t distance = std::min<std::uint32_t>(distances_[at], 15);
        const std::uint32_t side = own != 0;
        const std::uint32_t here = distance << 2 | across;
        const std::uint32_t surroundings[] = {
            mixed(plane << 4 | row, std::min<std::uint32_t>(distance, 7)),
            mixed(near << 3 | near_alike, here << 1 | side),
            mixed(far << 3 | near, mixed(row, here)),
            mixed(alike, near << 2 | across),
            mixed(slope(1) << 4 | slope(row_) << 2 | slope(plane_), mixed(near, here)),
            mixed(slope(-1) << 4 | slope(-row_) << 2 | slope(-plane_), mixed(near, here)),
            mixed(n_before << 4 | n_above, mixed(near, here)),
            mixed(mixed(own, labels_[opposite]), near << 6 | here),
        };
        return region_guesser_.ask(coder_, is_it, surroundings, static_cast<int>(across));
    }

    static constexpr int LARGEST_DISTANCE = 64;
    static constexpr std::uint8_t NO_THIRD = 10;

    const BlockView& view_;
    Coder& coder_;
    const std::int64_t row_, plane_;
    std::vector<std::uint16_t> labels_, zones_;  // with a margin around them
    std::vector<std::uint8_t> distances_, thirds_;
    std::vector<std::int64_t> opposites_;
    int reach_ = 0;
    Guesser label_guesser_{6, 16}, region_guesser_{8, 64}, same_guesser_{4, 1}, zone_guesser_{2, 1};
};

}  // namespace

std::vector<std::uint8_t> pack_block(const BlockView& block) {
    Packer packer;
    Block<Packer>(block, packer).run();
    return packer.finish();
}

void unpack_block(const BlockView& block, const std::uint8_t* bytes, std::size_t n_bytes) {
    Unpacker unpacker(bytes, n_bytes);
    Block<Unpacker>(block, unpacker).run();
}

}  // namespace sfumato

#include "soften.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#include "nearest.hpp"

namespace sfumato {
namespace {

constexpr float INFINITE = std::numeric_limits<float>::infinity();
constexpr float FIRST_REACH = 0.625f; // of a box: how far around it distances are sought at first
constexpr int N_DOUBLINGS = 2;        // of that, before the whole image is looked at

// Which of up to 256 classes.
using ClassSet = std::array<std::uint64_t, 4>;

bool has(const ClassSet& set, int k) { return set[k / 64] >> (k % 64) & 1; }

bool is_several(const ClassSet& set) {
    int n_words = 0;
    for (const std::uint64_t word : set) {
        if (word & (word - 1)) return true;
        n_words += word != 0;
    }
    return n_words > 1;
}

void add(ClassSet& set, int k) { set[k / 64] |= std::uint64_t(1) << (k % 64); }

bool is_constant(const std::uint8_t* row, std::int64_t n) {
    return std::memcmp(row, row + 1, n - 1) == 0;
}

class Softening {
  public:
    Softening(const Grid& grid, const LabelView& label, const std::vector<Box>& boxes,
              const SuperpixelView& superpixels, float* probability, Team& team)
        : grid_(grid), label_(label), boxes_(boxes), superpixels_(superpixels),
          probability_(probability), team_(team), find_nearest_(choose_find_nearest()),
          classes_(superpixels.n) {}

    void run() {
        find_classes();
        std::vector<std::uint8_t> is_open(boxes_.size());
        // Where superpixels are far larger than boxes, distances are too.
        const bool is_local = boxes_.size() < 8 * classes_.size();
        std::vector<Room> rooms(team_.n_threads());
        team_.share(boxes_.size(), [&](std::int64_t first, std::int64_t end, int thread) {
            for (std::int64_t i = first; i < end; ++i)
                is_open[i] = !is_local || !soften_in(boxes_[i], rooms[thread]);
        });
        std::vector<Box> open;
        for (std::size_t i = 0; i < boxes_.size(); ++i)
            if (is_open[i]) open.push_back(boxes_[i]);
        if (!open.empty()) soften_far(open);
    }

  private:
    // What a thread uses again for every box.
    struct Room {
        Window window;
        std::vector<int> classes;            // that the window holds
        ClassSet held;                       // the same
        std::vector<std::int64_t> elements;  // of the box, those that are uncertain
        std::vector<std::int32_t> superpixels;  // that they are in
        std::vector<Index3> places;          // where they are in the box
        std::vector<float> nearest;          // distances: class, element
        std::vector<float> to_other;         // distances to the nearest element of another class
        std::vector<float> values;           // probabilities of one element: class
    };

    // Which classes every superpixel holds.
    void find_classes() {
        std::vector<std::array<std::atomic<std::uint64_t>, 4>> found(classes_.size());
        for (auto& set : found)
            for (auto& word : set) word.store(0, std::memory_order_relaxed);
        team_.share(boxes_.size(), [&](std::int64_t first, std::int64_t end, int) {
            for (std::int64_t i = first; i < end; ++i)
                for_each_row(boxes_[i], [&](std::int64_t row, const std::int32_t* superpixels, const Index3&) {
                    for (std::int64_t x = 0; x < boxes_[i].n[2]; ++x) {
                        const std::int32_t superpixel = superpixels[x];
                        const int k = label_.values[row + x];
                        if (x > 0 && superpixel == superpixels[x - 1] && k == label_.values[row + x - 1])
                            continue;
                        if (superpixel < 0) continue;
                        auto& word = found[superpixel][k / 64];
                        const std::uint64_t bit = std::uint64_t(1) << (k % 64);
                        if (!(word.load(std::memory_order_relaxed) & bit))
                            word.fetch_or(bit, std::memory_order_relaxed);
                    }
                });
        });
        is_uncertain_.resize(found.size());
        for (std::size_t i = 0; i < found.size(); ++i) {
            for (int j = 0; j < 4; ++j) classes_[i][j] = found[i][j].load(std::memory_order_relaxed);
            is_uncertain_[i] = is_several(classes_[i]);
        }
    }

    // Call work(first element in the image, superpixels, place in the box) for all rows of a box.
    template <typename Work>
    void for_each_row(const Box& box, const Work& work) const {
        for (std::int64_t z = 0; z < box.n[0]; ++z)
            for (std::int64_t y = 0; y < box.n[1]; ++y) {
                const Index3 at = {box.first[0] + z, box.first[1] + y, box.first[2]};
                work(grid_.element(at), superpixels_.values + superpixels_.box.element(at), Index3{z, y, 0});
            }
    }

    // Call work(element of the image, superpixel, place in the box) for all uncertain elements of a box.
    template <typename Work>
    void for_each_uncertain(const Box& box, const Work& work) const {
        for_each_row(box, [&](std::int64_t row, const std::int32_t* superpixels, const Index3& place) {
            for (std::int64_t x = 0; x < box.n[2]; ++x)
                if (superpixels[x] >= 0 && is_uncertain_[superpixels[x]])
                    work(row + x, superpixels[x], Index3{place[0], place[1], x});
        });
    }

    // Returns false if distances are needed that reach beyond the largest window.
    bool soften_in(const Box& box, Room& room) const {
        room.elements.clear();
        room.superpixels.clear();
        room.places.clear();
        for_each_uncertain(box, [&](std::int64_t element, std::int32_t superpixel, const Index3& place) {
            room.elements.push_back(element);
            room.superpixels.push_back(superpixel);
            room.places.push_back(place);
        });
        if (room.elements.empty()) return true;
        float reach_mm = 0.0f;
        for (int axis = 0; axis < N_AXES; ++axis)
            reach_mm = std::max(reach_mm, static_cast<float>(box.n[axis]) * label_.spacing[axis]);
        reach_mm *= FIRST_REACH;
        for (int i = 0; i <= N_DOUBLINGS; ++i, reach_mm *= 2.0f) {
            const Index3 first = place(room.window, box, reach_mm);
            if (room.window.n[1] > MOST_ROWS) return false;
            const bool is_whole =
                room.window.n[0] * room.window.n[1] * room.window.n[2] == grid_.n_elements();
            const float known_mm = is_whole ? INFINITE : reach_mm;
            copy_labels(room, first);
            measure(room, known_mm);
            write(room, known_mm);
            if (room.elements.empty()) return true;
        }
        return false;
    }

    void measure(Room& room, float reach_mm) const {
        const std::int64_t n = room.elements.size();
        room.nearest.resize(room.classes.size() * n);
        room.to_other.assign(n, INFINITE);
        for (std::size_t j = 0; j < room.classes.size(); ++j) {
            float* const nearest = room.nearest.data() + j * n;
            find_nearest_(room.window, static_cast<std::uint8_t>(room.classes[j]), reach_mm,
                          room.places.data(), n, nearest);
            for (std::int64_t i = 0; i < n; ++i)
                if (label_.values[room.elements[i]] != room.classes[j])
                    room.to_other[i] = std::min(room.to_other[i], nearest[i]);
        }
        for (float& nearest : room.nearest) nearest = std::sqrt(nearest);
        for (float& nearest : room.to_other) nearest = std::sqrt(nearest);
    }

    // Lay a window around a box, so that what lies outside is farther than reach_mm from the box.
    // Returns its first element.
    Index3 place(Window& window, const Box& box, float reach_mm) const {
        Index3 first;
        window.spacing = label_.spacing;
        window.inner_n = box.n;
        for (int axis = 0; axis < N_AXES; ++axis) {
            const std::int64_t n = grid_.axes[axis].n;
            const double margin = std::ceil(reach_mm / label_.spacing[axis]);
            const std::int64_t m = margin < double(n) ? static_cast<std::int64_t>(margin) : n;
            first[axis] = std::max<std::int64_t>(0, box.first[axis] - m);
            window.n[axis] = std::min(n, box.first[axis] + box.n[axis] + m) - first[axis];
            window.inner_first[axis] = box.first[axis] - first[axis];
        }
        return first;
    }

    void copy_labels(Room& room, const Index3& first) const {
        Window& window = room.window;
        window.make_room();
        room.held = {};
        std::uint8_t* to = window.labels.data();
        for (std::int64_t z = 0; z < window.n[0]; ++z)
            for (std::int64_t y = 0; y < window.n[1]; ++y, to += window.stride) {
                std::memcpy(to, label_.values + grid_.element({first[0] + z, first[1] + y, first[2]}),
                            window.n[2]);
                add(room.held, to[0]);
                if (is_constant(to, window.n[2])) continue;
                for (std::int64_t x = 1; x < window.n[2]; ++x) add(room.held, to[x]);
            }
        room.classes.clear();
        for (int k = 0; k < label_.n_classes; ++k)
            if (has(room.held, k)) room.classes.push_back(k);
    }

    // Write the probabilities of all elements whose distances are at most reach_mm; the others stay in
    // the room.
    void write(Room& room, float reach_mm) const {
        const std::size_t n = room.elements.size();
        std::size_t n_open = 0;
        room.values.resize(room.classes.size());
        for (std::size_t i = 0; i < n; ++i) {
            const std::int64_t element = room.elements[i];
            if (!is_known(room, i, reach_mm)) {
                room.places[n_open] = room.places[i];
                room.superpixels[n_open] = room.superpixels[i];
                room.elements[n_open++] = element;
                continue;
            }
            const ClassSet& wanted = classes_[room.superpixels[i]];
            const int own = label_.values[element];
            float sum = 0.0f;
            for (std::size_t j = 0; j < room.classes.size(); ++j) {
                if (!has(wanted, room.classes[j])) continue;
                room.values[j] = room.classes[j] == own
                                     ? 1.0f - outside(room.to_other[i])
                                     : outside(room.nearest[j * n + i]);
                sum += room.values[j];
            }
            for (std::size_t j = 0; j < room.classes.size(); ++j)
                if (has(wanted, room.classes[j])) at(room.classes[j], element) = room.values[j] / sum;
        }
        room.elements.resize(n_open);
        room.superpixels.resize(n_open);
        room.places.resize(n_open);
    }

    // Whether all distances of an element are.
    bool is_known(const Room& room, std::size_t i, float reach_mm) const {
        const ClassSet& wanted = classes_[room.superpixels[i]];
        for (std::size_t word = 0; word < wanted.size(); ++word)
            if (wanted[word] & ~room.held[word]) return false;
        bool is_reached = true;
        for (std::size_t j = 0; j < room.classes.size(); ++j)
            if (has(wanted, room.classes[j]))
                is_reached &= room.nearest[j * room.elements.size() + i] <= reach_mm;
        return is_reached;
    }

    // Equation 1 for a class on whose other side an element lies, written so that small probabilities
    // keep their precision.
    float outside(float distance_mm) const { return 0.5f / (1.0f + distance_mm / label_.scale_mm); }

    // Where distances reach far, take them from the whole image.
    void soften_far(const std::vector<Box>& boxes) const {
        const auto share = [&](const auto& work) {
            team_.share(boxes.size(), [&](std::int64_t first, std::int64_t end, int) {
                for (std::int64_t i = first; i < end; ++i)
                    for_each_uncertain(
                        boxes[i], [&](std::int64_t element, std::int32_t superpixel, const Index3&) {
                            work(element, classes_[superpixel], label_.values[element]);
                        });
            });
        };
        share([&](std::int64_t element, const ClassSet&, int own) { at(own, element) = INFINITE; });
        const Index3 shape = {grid_.axes[0].n, grid_.axes[1].n, grid_.axes[2].n};
        std::vector<float> distance(grid_.n_elements());
        for (int k = 0; k < label_.n_classes; ++k) {
            if (!std::memchr(label_.values, k, grid_.n_elements())) continue;
            distance_to_class(label_.values, static_cast<std::uint8_t>(k), shape, label_.spacing,
                              distance.data(), team_);
            share([&](std::int64_t element, const ClassSet& wanted, int own) {
                if (k == own) return;
                at(own, element) = std::min(at(own, element), distance[element]);
                if (has(wanted, k)) at(k, element) = distance[element];
            });
        }
        share([&](std::int64_t element, const ClassSet& wanted, int) { finish(element, wanted); });
    }

    // Replace the distances of an element by probabilities.
    void finish(std::int64_t element, const ClassSet& wanted) const {
        const int own = label_.values[element];
        float sum = 0.0f;
        for (int k = 0; k < label_.n_classes; ++k) {
            if (!has(wanted, k)) continue;
            const float value = outside(at(k, element));
            at(k, element) = k == own ? 1.0f - value : value;
            sum += at(k, element);
        }
        for (int k = 0; k < label_.n_classes; ++k)
            if (has(wanted, k)) at(k, element) /= sum;
    }

    float& at(int k, std::int64_t element) const {
        return probability_[k * grid_.n_elements() + element];
    }

    const Grid& grid_;
    const LabelView& label_;
    const std::vector<Box>& boxes_;
    const SuperpixelView superpixels_;
    float* probability_;
    Team& team_;
    FindNearest* const find_nearest_;
    std::vector<ClassSet> classes_;            // of each superpixel: between which it is undecided
    std::vector<std::uint8_t> is_uncertain_;  // for each superpixel: whether it holds several
};

}  // namespace

void write_one_hot(const Grid& grid, const std::uint8_t* label, float* probability, Team& team) {
    const std::int64_t n_x = grid.axes[2].n;
    team.share(grid.axes[0].n * grid.axes[1].n, [&](std::int64_t first, std::int64_t end, int) {
        for (std::int64_t i = first; i < end; ++i) {
            const std::uint8_t* row = label + i * n_x;
            const auto at = [&](std::int64_t x) {
                return probability + row[x] * grid.n_elements() + i * n_x + x;
            };
            if (is_constant(row, n_x))
                std::fill_n(at(0), n_x, 1.0f);
            else
                for (std::int64_t x = 0; x < n_x; ++x) *at(x) = 1.0f;
        }
    });
}

void soften(const Grid& grid, const LabelView& label, const std::vector<Box>& boxes,
            const SuperpixelView& superpixels, float* probability, Team& team) {
    Softening(grid, label, boxes, superpixels, probability, team).run();
}

}  // namespace sfumato

#include "distance.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace sfumato {
namespace {

constexpr double INFINITE = std::numeric_limits<double>::infinity();

// One line of elements, and the parabolas whose lower envelope is the result.
struct Line {
    std::vector<double> value, start;       // squared distances; where a parabola becomes the lowest
    std::vector<std::int64_t> lowest;       // the elements whose parabolas are part of the envelope

    explicit Line(std::int64_t n) : value(n), start(n + 1), lowest(n) {}

    // Replace f(i) by the minimum over j of f(j) + ((i - j) · step)².
    void spread(std::int64_t n, double step) {
        std::int64_t n_lowest = 0;
        const double square = step * step;
        for (std::int64_t j = 0; j < n; ++j) {
            if (value[j] == INFINITE) continue;
            double from = -INFINITE;
            while (n_lowest > 0) {
                const std::int64_t k = lowest[n_lowest - 1];
                from = ((value[j] - value[k]) / square + double(j * j - k * k)) / double(2 * (j - k));
                if (from > start[n_lowest - 1]) break;
                --n_lowest;
                from = -INFINITE;
            }
            lowest[n_lowest] = j;
            start[n_lowest++] = from;
        }
        if (n_lowest == 0) return;
        result_.resize(n);
        for (std::int64_t i = 0, k = 0; i < n; ++i) {
            while (k + 1 < n_lowest && start[k + 1] < double(i)) ++k;
            const double away = double(i - lowest[k]) * step;
            result_[i] = value[lowest[k]] + away * away;
        }
        value.swap(result_);
    }

  private:
    std::vector<double> result_;
};

}  // namespace

void distance_to_class(const std::uint8_t* label, std::uint8_t wanted, const Index3& shape,
                       const Spacing3& spacing, float* distance, Team& team) {
    const std::int64_t n_elements = shape[0] * shape[1] * shape[2];
    for (std::int64_t i = 0; i < n_elements; ++i)
        distance[i] = label[i] == wanted ? 0.0f : std::numeric_limits<float>::infinity();
    for (int axis = N_AXES - 1; axis >= 0; --axis) {
        const std::int64_t n = shape[axis];
        const std::int64_t stride = axis == 2 ? 1 : axis == 1 ? shape[2] : shape[1] * shape[2];
        team.share(n_elements / n, [&](std::int64_t first, std::int64_t end, int) {
            Line line(n);
            for (std::int64_t i = first; i < end; ++i) {
                float* at = distance + i / stride * stride * n + i % stride;
                for (std::int64_t j = 0; j < n; ++j) line.value[j] = at[j * stride];
                line.spread(n, spacing[axis]);
                for (std::int64_t j = 0; j < n; ++j)
                    at[j * stride] = static_cast<float>(line.value[j]);
            }
        });
    }
    team.share(n_elements, [&](std::int64_t first, std::int64_t end, int) {
        for (std::int64_t i = first; i < end; ++i) distance[i] = std::sqrt(distance[i]);
    });
}

}  // namespace sfumato

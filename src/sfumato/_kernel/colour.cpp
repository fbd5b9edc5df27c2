#include "colour.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace sfumato {
namespace {

// A function on [0, 1], between whose tabulated values one draws straight lines.
template <int N>
class Table {
  public:
    template <typename Function>
    explicit Table(const Function& function) {
        for (int i = 0; i <= N; ++i)
            values_[i] = static_cast<float>(function(static_cast<double>(i) / N));
        values_[N + 1] = values_[N];
    }

    float operator()(float at) const {
        const float position = (at > 0.0f ? std::min(at, 1.0f) : 0.0f) * N;
        const int i = static_cast<int>(position);
        return values_[i] + (values_[i + 1] - values_[i]) * (position - static_cast<float>(i));
    }

    // The value at i / N, for i from 0 to N.
    float at(std::uint8_t i) const { return values_[i]; }
    float at(float i) const { return (*this)(i / N); }

  private:
    std::array<float, N + 2> values_;
};

double to_linear(double value) {
    return value <= 0.04045 ? value / 12.92 : std::pow((value + 0.055) / 1.055, 2.4);
}

double to_lightness(double value) {
    return value > 216.0 / 24389.0 ? std::cbrt(value) : (24389.0 / 27.0 * value + 16.0) / 116.0;
}

}  // namespace

template <typename T>
void photo_to_lab(const Planes<const T>& photo, std::int64_t n, const Planes<float>& lab) {
    static const Table<255> to_linear_light(to_linear);
    static const Table<8192> lightness(to_lightness);
    const auto* const linear = &to_linear_light;  // looked up once, as neither changes any more
    const auto* const cube_root = &lightness;
    for (std::int64_t i = 0; i < n; ++i) {
        const float r = linear->at(photo[0][i]), g = linear->at(photo[1][i]), b = linear->at(photo[2][i]);
        const float x = (*cube_root)((0.412453f * r + 0.357580f * g + 0.180423f * b) * (1.0f / 0.95047f));
        const float y = (*cube_root)(0.212671f * r + 0.715160f * g + 0.072169f * b);
        const float z = (*cube_root)((0.019334f * r + 0.119193f * g + 0.950227f * b) * (1.0f / 1.08883f));
        lab[0][i] = 1.16f * y - 0.16f;
        lab[1][i] = 5.0f * (x - y);
        lab[2][i] = 2.0f * (y - z);
    }
}

template void photo_to_lab<float>(const Planes<const float>&, std::int64_t, const Planes<float>&);
template void photo_to_lab<std::uint8_t>(const Planes<const std::uint8_t>&, std::int64_t,
                                         const Planes<float>&);

}  // namespace sfumato

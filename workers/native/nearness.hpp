// Whether a pair's kernel in float32 would suffer from patches that nearly coincide.
//
// Where a correlation c is near 1 and its images differ, kappa_0 takes the square root of the
// rounding of 1 - c: docs/banded_kernel.md ("Images that nearly coincide"). Patches that coincide
// exactly do no harm. The inputs of each stage's last ReLU are judged, on few rows of the first
// stage, which has nearly all of the work and leaves its traces in the next.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "rows.hpp"
#include "stage_input.hpp"

namespace kipper {

// The rounding of 1 - |c|, measured; patches are near below `kNearGap`.
constexpr double kGapRounding = 1e-7;
constexpr double kNearGap = 1e-3;
// The kernel of a pair is endangered if the damaged share of what it averages is larger than the
// first, or if the share of near patches at equal places, in any stage, is larger than the second.
constexpr double kMostDamage = 8e-3;
constexpr double kMostNear = 0.5;

template <class T>
class Nearness {
  public:
    explicit Nearness(const Network& network) {
        const Resolution& last = network.resolutions.back();
        std::vector<double> rows = readout_weights(last.height, last.band.rows);
        std::vector<double> columns = readout_weights(last.width, last.band.columns);
        stages_.resize(network.stages.size());
        for (int stage = network.last_stage(); stage >= 0; --stage) {
            const Resolution& resolution = network.resolutions[stage];
            if (network.stages[stage].pooled) {
                rows = before_pool(rows, resolution.band.rows);
                columns = before_pool(columns, resolution.band.columns);
            }
            stages_[stage] = {rows, columns, step(network, stage)};
        }
    }

    void clear() { damage_ = nearest_ = Lanes<T>{}; }

    bool judges(int stage, int h) const {
        const int step = stages_[stage].step;
        return h % step == step / 2;
    }

    // `sums` are of the convolution in front of the ReLU.
    template <class First>
    void add_row(const BoxSum<T>& sums, T bias, const RowFactors<T, First>& factors, int width) {
        count_ += width;
        Lanes<T> most{};
        for_each(sums, bias, factors, width, [&](Lanes<T> t) { most = t > most ? t : most; });
        // Ordinary images rarely have near patches, and divisions are slow.
        T nearest = 0;
        for (int lane = 0; lane < kLanes<T>; ++lane) nearest = std::max(nearest, T(most[lane]));
        if (nearest <= T(1 - kNearGap)) return;
        for_each(sums, bias, factors, width, [&](Lanes<T> t) {
            const Lanes<T> gap = positive_part<T>(T(1) - t);
            const auto near = gap < T(kNearGap);
            near_ += near ? all_lanes<T>(1) : Lanes<T>{};
            damaged_ += near ? T(kGapRounding) / (T(kGapRounding) + gap) : Lanes<T>{};
        });
    }

    // After the rows of an offset.
    void end_offset(int stage, int dh, int dw) {
        if (!count_) return;
        const Judged& at = stages_[stage];
        const T share = T(1) / T(count_);
        damage_ += damaged_ * (share * T(at.rows[std::abs(dh)] * at.columns[std::abs(dw)]));
        const Lanes<T> here = near_ * share;
        if (!dh && !dw) nearest_ = here > nearest_ ? here : nearest_;
        near_ = damaged_ = Lanes<T>{};
        count_ = 0;
    }

    // 1 where the pair is endangered, else 0.
    Lanes<T> endangered() const {
        const auto is = (damage_ > T(kMostDamage)) | (nearest_ > T(kMostNear));
        return is ? all_lanes<T>(1) : Lanes<T>{};
    }

  private:
    // Calls visit(|c|) for each pixel of a row, with 0 where deviations are equal.
    template <class First, class Visit>
    static void for_each(BoxSum<T> sums, T bias, const RowFactors<T, First>& factors, int width,
                         Visit visit) {
        for (int w = 0; w < width; ++w) {
            const Lanes<T> inverses1 = Lanes<T>{} + factors.inverses1[w];
            const Lanes<T> inverses2 = factors.inverses2[w];
            const Lanes<T> c = (sums.next(w) + bias) * (inverses1 * inverses2);
            visit(inverses1 == inverses2 ? Lanes<T>{} : magnitude<T>(c));
        }
    }

    // One in so many rows of a stage is judged.
    static int step(const Network& network, int stage) {
        const int height = network.resolutions[stage].height;
        if (network.last_stage() == 0) return std::min(2 * network.stages[0].convs + 1, height);
        return std::max(height / (stage ? 6 : 2), 1);
    }

    // The weights of offsets in rows or columns, by |d|: the share of a mean over pixel pairs.
    struct Judged {
        std::vector<double> rows, columns;
        int step;
    };

    static std::vector<double> readout_weights(int side, int band) {
        if (!band) return {1};
        std::vector<double> weights;
        for (int d = 0; d <= band; ++d) weights.push_back((side - d) / double(side) / side);
        return weights;
    }

    // A pooled offset D is a mean over 2 D - 1, 2 D twice, and 2 D + 1.
    static std::vector<double> before_pool(const std::vector<double>& pooled, int band) {
        std::vector<double> weights(band + 1, 0.0);
        const int most = int(pooled.size()) - 1;
        for (int d = 0; d <= band; ++d)
            for (int pooled_d = -most; pooled_d <= most; ++pooled_d) {
                const int apart = std::abs(d - 2 * pooled_d);
                if (apart < 2) weights[d] += pooled[std::abs(pooled_d)] * (apart ? 0.25 : 0.5);
            }
        return weights;
    }

    std::vector<Judged> stages_;
    Lanes<T> damage_{}, nearest_{};  // of the pairs
    Lanes<T> damaged_{}, near_{};    // of the current offset
    int count_ = 0;
};

}  // namespace kipper

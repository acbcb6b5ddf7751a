// Whether a pair's kernel in float32 would suffer from patches that nearly coincide.
//
// Where a correlation c is near 1 and its images differ, kappa_0 takes the square root of the
// rounding of 1 - c: docs/banded_kernel.md ("Images that nearly coincide"). Patches that coincide
// exactly do no harm. Few rows are judged where there are many offsets: what nearly coincides at an
// offset does so in many rows.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "near_patches.hpp"
#include "rows.hpp"
#include "stage_input.hpp"

namespace kipper {

template <class T>
class Nearness {
  public:
    explicit Nearness(const Network& network) {
        const Resolution& last = network.resolutions.back();
        std::vector<double> rows = readout_weights(last.height, last.band.rows);
        std::vector<double> columns = readout_weights(last.width, last.band.columns);
        stages_.resize(network.stages.size());
        const Band& band = network.resolutions[0].band;
        const bool only_offset = !band.rows && !band.columns;
        near_gap_ = T(near_gap(only_offset));
        most_lost_ = T(most_lost(only_offset));
        for (int stage = network.last_stage(); stage >= 0; --stage) {
            const Resolution& resolution = network.resolutions[stage];
            if (network.stages[stage].pooled) {
                rows = before_pool(rows, resolution.band.rows);
                columns = before_pool(columns, resolution.band.columns);
            }
            stages_[stage] = {rows, columns, step(network, stage), network.stages[stage].convs};
        }
    }

    void clear() { lost_ = nearest_ = Lanes<T>{}; }

    // At offset 0 all rows of all layers are judged, and at others few rows of the last layer.
    bool judges(int index, const Overlap& overlap, int level, int h) const {
        const Judged& stage = stages_[index];
        if (!overlap.dh && !overlap.dw) return true;
        return level == stage.levels && h % stage.step == stage.step / 2;
    }

    // `sums` are of the convolution in front of the ReLU of a level.
    template <class First>
    void add_row(const BoxSum<T>& sums, T bias, const RowFactors<T, First>& factors, int width,
                 bool last_level) {
        count_ += width;
        Lanes<T> most{}, total{};
        for_each(sums, bias, factors, width, [&](Lanes<T> t, Lanes<T> k) {
            most = t > most ? t : most;
            total += magnitude<T>(k);
        });
        row_total_ += total;
        if (last_level) near_count_ += width;
        // Ordinary images rarely have near patches, and divisions are slow.
        T nearest = 0;
        for (int lane = 0; lane < kLanes<T>; ++lane) nearest = std::max(nearest, T(most[lane]));
        if (nearest <= T(1 - kNearGap)) return;
        for_each(sums, bias, factors, width, [&](Lanes<T> t, Lanes<T> k) {
            const Lanes<T> gap = positive_part<T>(T(1) - t);
            if (last_level) near_ += gap < near_gap_ ? all_lanes<T>(1) : Lanes<T>{};
            row_lost_ += gap < T(kNearGap) ? lost_share<T>(gap) * magnitude<T>(k) : Lanes<T>{};
        });
    }

    // After the rows of an offset.
    void end_offset(int stage, int dh, int dw) {
        if (!count_) return;
        const Judged& at = stages_[stage];
        const T weight = T(at.rows[std::abs(dh)] * at.columns[std::abs(dw)] / count_);
        stage_lost_ += row_lost_ * weight;
        stage_total_ += row_total_ * weight;
        if (!dh && !dw && near_count_) {
            const Lanes<T> here = near_ / T(near_count_);
            nearest_ = here > nearest_ ? here : nearest_;
        }
        near_ = row_lost_ = row_total_ = Lanes<T>{};
        count_ = near_count_ = 0;
    }

    // After the offsets of a stage.
    void end_stage(int stage) {
        const Lanes<T> share = stage_lost_ / stage_total_;
        lost_ += stage_total_ > 0 ? share * T(stages_[stage].levels) : Lanes<T>{};
        stage_lost_ = stage_total_ = Lanes<T>{};
    }

    // 1 where the pair is endangered, else 0.
    Lanes<T> endangered() const {
        const auto is = (lost_ > most_lost_) | (nearest_ > T(kMostNear));
        return is ? all_lanes<T>(1) : Lanes<T>{};
    }

  private:
    // Calls visit(likeness, k) for each pixel of a row.
    template <class First, class Visit>
    static void for_each(BoxSum<T> sums, T bias, const RowFactors<T, First>& factors, int width,
                         Visit visit) {
        for (int w = 0; w < width; ++w) {
            const Lanes<T> inverses1 = Lanes<T>{} + factors.inverses1[w];
            const Lanes<T> inverses2 = factors.inverses2[w];
            const Lanes<T> k = sums.next(w) + bias;
            visit(likeness<T>(k, inverses1, inverses2), k);
        }
    }

    // At other offsets one in so many rows of a layer is judged.
    int step(const Network& network, int stage) const {
        const int height = network.resolutions[stage].height;
        return std::max(height / (stage ? 6 : 2), 1);
    }

    // The weights of offsets in rows or columns, by |d|: the share of a mean over pixel pairs.
    struct Judged {
        std::vector<double> rows, columns;
        int step, levels;
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
    T near_gap_, most_lost_;
    Lanes<T> lost_{}, nearest_{};                 // of the pairs
    Lanes<T> stage_lost_{}, stage_total_{};       // of the current stage
    Lanes<T> row_lost_{}, row_total_{}, near_{};  // of the current offset
    int count_ = 0, near_count_ = 0;
};

}  // namespace kipper

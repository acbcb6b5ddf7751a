// The inputs of a pass over a stage: the images, and the outputs of the stage before.
#pragma once

#include "arc_cosine.hpp"
#include "images.hpp"
#include "offset_maps.hpp"

namespace kipper {

// The factors of a ReLU layer that depend on single images, for one row at one offset. `First` is
// T for one image of batch 1, Lanes<T> if batch 1 is in lanes as well.
template <class T, class First>
struct RowFactors {
    const First* __restrict deviations1;  // times sine_scale
    const First* __restrict inverses1;
    const Lanes<T>* __restrict deviations2;
    const Lanes<T>* __restrict inverses2;
    const ScaledArcCosine<T>* arc_cosine;
    T sine_scale;
};

template <class T, class First>
class StageInput {
  public:
    // `maps` is null for the first stage, which reads the images' pixels.
    StageInput(const Network& network, int stage, const ImageView<First>& first,
               const ImageView<Lanes<T>>& second, OffsetMaps<T>* maps)
        : network(network),
          stage(stage),
          first(first),
          second(second),
          maps(maps),
          inner_arc_cosine_(T(network.relu_scale(stage, 0))),
          top_arc_cosine_(T(network.relu_scale(stage, convs()))),
          inner_sine_scale_(T(network.sine_scale(stage, 0))),
          top_sine_scale_(T(network.sine_scale(stage, convs()))),
          first_map_(network.map_start(stage, 1)),
          map_pixels_(resolution().pixels()),
          top_level_(convs()) {}

    const Resolution& resolution() const { return network.resolutions[stage]; }
    int convs() const { return network.stages[stage].convs; }
    bool pooled() const { return network.stages[stage].pooled; }

    // The first layer's tangent kernel equals its NNGP kernel, and is not read.
    bool is_first_layer(int level) const { return level == 1 && !maps; }

    KIPPER_INLINE RowFactors<T, First> factors(int level, const Overlap& overlap, int h) const {
        const std::size_t map = first_map_ + (level - 1) * map_pixels_;
        const bool top = level == top_level_;
        const std::size_t pixel1 = map + overlap.pixel1(h), pixel2 = map + overlap.pixel2(h);
        return {first.deviations + pixel1,
                first.inverses + pixel1,
                second.deviations + pixel2,
                second.inverses + pixel2,
                top ? &top_arc_cosine_ : &inner_arc_cosine_,
                top ? top_sine_scale_ : inner_sine_scale_};
    }

    const Network& network;
    const int stage;
    const ImageView<First> first;
    const ImageView<Lanes<T>> second;
    OffsetMaps<T>* const maps;

  private:
    const ScaledArcCosine<T> inner_arc_cosine_, top_arc_cosine_;  // below the top level, and there
    const T inner_sine_scale_, top_sine_scale_;
    const std::size_t first_map_, map_pixels_;
    const int top_level_;
};

}  // namespace kipper

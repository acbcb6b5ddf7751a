// What a pass over a stage reads: the images, and what the earlier stages made of them.
#pragma once

#include <vector>

#include "images.hpp"
#include "offset_maps.hpp"

namespace kipper {

// What a ReLU layer needs of the images, for one row at one offset. `First` is T for one image of
// batch 1, Lanes<T> if batch 1 is in lanes as well.
template <class T, class First>
struct RowFactors {
    const First* __restrict deviations1;
    const First* __restrict inverses1;
    const Lanes<T>* __restrict deviations2;
    const Lanes<T>* __restrict inverses2;
    T scale;  // see Network::relu_scale
};

template <class T, class First>
class StageInput {
  public:
    // `maps` is null for the first stage, which reads the images' pixels.
    StageInput(const Network& network, int stage, const ImageView<First>& first,
               const ImageView<Lanes<T>>& second, OffsetMaps<T>* maps)
        : network(network), stage(stage), first(first), second(second), maps(maps) {
        for (int level = 1; level <= convs(); ++level) {
            const std::size_t map = network.map_start(stage, level);
            levels_.push_back({first.deviations + map, first.inverses + map,
                               second.deviations + map, second.inverses + map,
                               T(network.relu_scale(stage, level))});
        }
    }

    const Resolution& resolution() const { return network.resolutions[stage]; }
    int convs() const { return network.stages[stage].convs; }
    bool pooled() const { return network.stages[stage].pooled; }

    // There the tangent kernel equals the NNGP kernel, and is not read.
    bool is_first_layer(int level) const { return level == 1 && !maps; }

    RowFactors<T, First> factors(int level, const Overlap& overlap, int h) const {
        const RowFactors<T, First>& map = levels_[level - 1];
        const std::size_t pixel1 = overlap.pixel1(h), pixel2 = overlap.pixel2(h);
        return {map.deviations1 + pixel1, map.inverses1 + pixel1, map.deviations2 + pixel2,
                map.inverses2 + pixel2, map.scale};
    }

    const Network& network;
    const int stage;
    const ImageView<First> first;
    const ImageView<Lanes<T>> second;
    OffsetMaps<T>* const maps;

  private:
    std::vector<RowFactors<T, First>> levels_;  // of the whole maps
};

}  // namespace kipper

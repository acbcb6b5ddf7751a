// The place of a row of a stage's last ReLU in the maps behind the stage's pool.
//
// Pixel h at offset d belongs to pooled pixel h / 2 at offset (h + d) / 2 - h / 2, rounded down.
// The odd and the even pixels of a row thus go to two offsets, one of which may be outside the
// band. Without a pool, "/ 2" is "/ 1", and all pixels go to one offset.
#pragma once

#include <algorithm>
#include <utility>

#include "offset_maps.hpp"

namespace kipper {

template <class T>
class PoolWindow {
  public:
    KIPPER_INLINE PoolWindow(OffsetMaps<T>& maps, bool pooled, const Overlap& overlap, int h)
        : step_(pooled ? 1 : 2), width_(0), here_{}, other_{} {
        const Resolution& resolution = maps.resolution();
        const int shift = pooled ? 1 : 0;
        const int pooled1 = h >> shift, pooled2 = (h + overlap.dh) >> shift;
        if (std::max(pooled1, pooled2) >= resolution.height) return;
        const auto place = [&](int w) {
            const int column = overlap.left + w;
            const int dh = pooled2 - pooled1;
            const int dw = ((column + overlap.dw) >> shift) - (column >> shift);
            if (!maps.has_offset(dh, dw)) return Row<T>{};
            const Row<T> row = maps.row(dh, dw, pooled1);
            const int entry = (column >> shift) + 1 - std::max(0, -dw);
            return Row<T>{row.nngp + entry, row.tangent ? row.tangent + entry : nullptr};
        };
        here_ = place(0);
        other_ = place(1);
        if (!here_.nngp && !other_.nngp) return;
        // The last pixel of an odd side belongs to no pooled pixel.
        width_ = std::clamp((resolution.width << shift) - std::max(0, overlap.dw) - overlap.left, 0,
                            overlap.width);
    }

    // Pixels from here on belong to no pooled pixel.
    int width() const { return width_; }

    // The entries of pixel 0, of pixel 1, and so on; null if outside the band.
    template <bool kTangent>
    KIPPER_INLINE Row<T> next() {
        const Row<T> entries = here_;
        if (entries.nngp) {
            here_.nngp += step_;
            if constexpr (kTangent) here_.tangent += step_;
        }
        std::swap(here_, other_);
        return entries;
    }

  private:
    int step_;
    int width_;
    Row<T> here_, other_;  // of the next pixel, and of the one after it
};

}  // namespace kipper

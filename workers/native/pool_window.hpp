// The place of a row of a stage's last ReLU in the maps behind the stage's pool.
//
// Pixel h at offset d belongs to pooled pixel h / 2 at offset (h + d) / 2 - h / 2, rounded down.
// The odd and the even pixels of a row thus go to two offsets, one of which may be outside the
// band. Without a pool, "/ 2" is "/ 1", and all pixels go to one offset.
#pragma once

#include <algorithm>

#include "offset_maps.hpp"

namespace kipper {

template <class T>
class PoolWindow {
  public:
    KIPPER_INLINE PoolWindow(OffsetMaps<T>& maps, bool pooled, const Overlap& overlap, int h)
        : shift_(pooled ? 1 : 0), left_(overlap.left), width_(0), rows_{} {
        const Resolution& resolution = maps.resolution();
        const int pooled1 = h >> shift_, pooled2 = (h + overlap.dh) >> shift_;
        if (std::max(pooled1, pooled2) >= resolution.height) return;
        for (int parity = 0; parity <= shift_; ++parity) {
            const int dh = pooled2 - pooled1, dw = (parity + overlap.dw) >> shift_;
            if (!maps.has_offset(dh, dw)) continue;
            const Row<T> row = maps.row(dh, dw, pooled1);
            const int first_entry = 1 - std::max(0, -dw);
            rows_[parity] = {row.nngp + first_entry,
                             row.tangent ? row.tangent + first_entry : nullptr};
            // The last pixel of an odd side belongs to no pooled pixel.
            width_ = std::clamp((resolution.width << shift_) - std::max(0, overlap.dw) - left_, 0,
                                overlap.width);
        }
    }

    // Pixels from here on belong to no pooled pixel.
    int width() const { return width_; }

    KIPPER_INLINE bool has(int w) const { return rows_[parity(w)].nngp != nullptr; }
    KIPPER_INLINE Lanes<T>& nngp(int w) const { return rows_[parity(w)].nngp[pooled(w)]; }
    KIPPER_INLINE Lanes<T>& tangent(int w) const { return rows_[parity(w)].tangent[pooled(w)]; }

  private:
    KIPPER_INLINE int parity(int w) const { return (left_ + w) & shift_; }
    KIPPER_INLINE int pooled(int w) const { return (left_ + w) >> shift_; }

    int shift_;
    int left_;
    int width_;
    Row<T> rows_[2];
};

}  // namespace kipper

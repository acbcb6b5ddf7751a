// The place of a row of a stage's last ReLU in the maps behind the stage's pool.
//
// Pixel h at offset d belongs to pooled pixel h / 2 at offset (h + d) / 2 - h / 2, rounded down.
// The odd and the even pixels of a row thus go to two offsets, one of which may be outside the
// band. Without a pool, "/ 2" is "/ 1", and all pixels go to one offset.
#pragma once

#include <algorithm>

#include "offset_maps.hpp"

namespace kipper {

// Where the pixels of a row go: pixel w to entry `index(w)` of `row(parity)`, if kWants<parity>.
template <class T, bool kPooled, bool kPairsShare, bool kWantsEven = true, bool kWantsOdd = true>
struct Entries {
    static constexpr bool kShared = kPairsShare;
    template <class Parity>
    static constexpr bool kWants = Parity::value ? kWantsOdd : kWantsEven;

    KIPPER_INLINE static int index(int w) { return kPooled ? w / 2 : w; }
    template <class Parity>
    KIPPER_INLINE const Row<T>& row(Parity) const {
        return kPooled && !kPairsShare && Parity::value ? odd : even;
    }

    Row<T> even, odd;
};

// Without a pool: an entry for each pixel.
template <class T>
using EntryOfEach = Entries<T, false, false>;
// An entry for pixels 0 and 1, the next for 2 and 3, and so on.
template <class T>
using EntryOfPair = Entries<T, true, true>;
// Even and odd pixels go to two offsets.
template <class T>
using EntriesOfTwo = Entries<T, true, false>;
// The same, but one of the offsets is outside the band.
template <class T>
using EntriesOfEven = Entries<T, true, false, true, false>;
template <class T>
using EntriesOfOdd = Entries<T, true, false, false, true>;

template <class T>
class PoolWindow {
  public:
    KIPPER_INLINE PoolWindow(OffsetMaps<T>& maps, bool pooled, const Overlap& overlap, int h)
        : pooled_(pooled), width_(0), even_{}, odd_{} {
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
        even_ = place(0);
        odd_ = place(1);
        if (!even_.nngp && !odd_.nngp) return;
        // The last pixel of an odd side belongs to no pooled pixel.
        width_ = std::clamp((resolution.width << shift) - std::max(0, overlap.dw) - overlap.left, 0,
                            overlap.width);
    }

    // Pixels from here on belong to no pooled pixel.
    int width() const { return width_; }

    // Calls run(entries) with one of the kinds above, if any pixel has an entry.
    template <class Run>
    KIPPER_INLINE void with_entries(Run run) const {
        if (!width_) return;
        if (!pooled_) return run(EntryOfEach<T>{even_, odd_});
        if (even_.nngp == odd_.nngp) return run(EntryOfPair<T>{even_, odd_});
        if (!even_.nngp) return run(EntriesOfOdd<T>{even_, odd_});
        if (!odd_.nngp) return run(EntriesOfEven<T>{even_, odd_});
        run(EntriesOfTwo<T>{even_, odd_});
    }

  private:
    bool pooled_;
    int width_;
    Row<T> even_, odd_;  // of pixels 0 and 1
};

}  // namespace kipper

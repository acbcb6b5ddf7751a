// The output of a stage: the pair kernel at every offset of a band.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "network.hpp"
#include "rows.hpp"

namespace kipper {

// The pixels of image 1 whose partner at an offset is inside image 2.
struct Overlap {
    Overlap(const Resolution& resolution, int dh, int dw)
        : dh(dh),
          dw(dw),
          top(std::max(0, -dh)),
          bottom(std::min(resolution.height, resolution.height - dh)),
          left(std::max(0, -dw)),
          width(resolution.width - std::abs(dw)),
          image_width(resolution.width) {}

    bool has_row(int h) const { return h >= top && h < bottom; }

    // The first pixel of row h, in image 1 and in image 2.
    std::size_t pixel1(int h) const { return std::size_t(h) * image_width + left; }
    std::size_t pixel2(int h) const { return std::size_t(h + dh) * image_width + left + dw; }

    int dh, dw;
    int top, bottom;
    int left, width;
    int image_width;
};

// Calls visit(dh, dw) for every offset of the band, in a fixed order.
template <class Visit>
void for_each_offset(Band band, Visit visit) {
    for (int dh = -band.rows; dh <= band.rows; ++dh)
        for (int dw = -band.columns; dw <= band.columns; ++dw) visit(dh, dw);
}

// The padded rows of the overlap, for each offset. Nothing else is stored, which keeps the maps of
// a global average pool in the caches.
template <class T>
class OffsetMaps {
  public:
    OffsetMaps(const Resolution& resolution, bool tangent)
        : resolution_(resolution), tangent_(tangent) {
        std::size_t size = 0;
        for_each_offset(resolution.band, [&](int dh, int dw) {
            const Overlap overlap(resolution, dh, dw);
            starts_.push_back(size);
            size += std::size_t(overlap.bottom - overlap.top) * (overlap.width + 2);
        });
        nngp_ = AlignedArray<Lanes<T>>(size);
        if (tangent) tangents_ = AlignedArray<Lanes<T>>(size);
    }

    const Resolution& resolution() const { return resolution_; }

    bool has_offset(int dh, int dw) const {
        return std::abs(dh) <= resolution_.band.rows && std::abs(dw) <= resolution_.band.columns;
    }

    Row<T> row(int dh, int dw, int h) {
        const Band& band = resolution_.band;
        const std::size_t map =
            std::size_t(dh + band.rows) * (2 * band.columns + 1) + dw + band.columns;
        const std::size_t stride = resolution_.width - std::abs(dw) + 2;
        const std::size_t start = starts_[map] + (h - std::max(0, -dh)) * stride;
        return {nngp_.data() + start, tangent_ ? tangents_.data() + start : nullptr};
    }

    void clear() {
        nngp_.clear();
        if (tangent_) tangents_.clear();
    }

    // The number of vectors that `copy_to` writes and `copy_from` reads.
    std::size_t size() const { return nngp_.size() + tangents_.size(); }

    void copy_to(T* memory) const {
        memory = copy_out(nngp_, memory);
        copy_out(tangents_, memory);
    }

    void copy_from(const T* memory) {
        memory = copy_in(memory, nngp_);
        copy_in(memory, tangents_);
    }

    // The padding counts as 0.
    Entry<T> sum() const { return {sum(nngp_), sum(tangents_)}; }

    void fill(Entry<T> value) {
        fill(nngp_, value.nngp);
        fill(tangents_, value.tangent);
    }

  private:
    using Entries = AlignedArray<Lanes<T>>;

    // The memory need not be aligned to vectors. Without tangents their array is empty, and memcpy
    // must not get its null pointer.
    static T* copy_out(const Entries& entries, T* memory) {
        if (entries.size() == 0) return memory;
        std::memcpy(memory, entries.data(), entries.size() * sizeof(Lanes<T>));
        return memory + entries.size() * kLanes<T>;
    }

    static const T* copy_in(const T* memory, Entries& entries) {
        if (entries.size() == 0) return memory;
        std::memcpy(static_cast<void*>(entries.data()), memory, entries.size() * sizeof(Lanes<T>));
        return memory + entries.size() * kLanes<T>;
    }

    // In pieces, for less rounding over the many entries of a global average pool.
    static Lanes<T> sum(const Entries& entries) {
        constexpr std::size_t kPiece = 64;
        Lanes<T> total{};
        for (std::size_t start = 0; start < entries.size(); start += kPiece) {
            Lanes<T> piece{};
            const std::size_t end = std::min(start + kPiece, entries.size());
            for (std::size_t i = start; i < end; ++i) piece += entries[i];
            total += piece;
        }
        return total;
    }

    static void fill(Entries& entries, Lanes<T> value) {
        for (std::size_t i = 0; i < entries.size(); ++i) entries[i] = value;
    }

    Resolution resolution_;
    bool tangent_;
    std::vector<std::size_t> starts_;
    Entries nngp_, tangents_;
};

}  // namespace kipper

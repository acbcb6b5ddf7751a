// A warp of a GPU on a CPU: a vector of 32 lanes. `device/lanes.hpp` has the same names for a GPU.
//
// The accesses of shared memory are checked: each is inside the array, no element is read before
// it was written, and between two barriers no warp accesses what another one writes.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#define KIPPER_INLINED __attribute__((always_inline))
#define KIPPER_INLINE inline
#define KIPPER_UNROLL
#define KIPPER_UNROLL_4

namespace kipper {

constexpr int kWarp = 32;

template <class T>
struct LaneTypes;

template <>
struct LaneTypes<float> {
    typedef float Vector __attribute__((vector_size(4 * kWarp)));
    typedef std::int32_t Bits __attribute__((vector_size(4 * kWarp)));
    static constexpr std::int32_t kAllButSign = INT32_MAX;
};

template <>
struct LaneTypes<double> {
    typedef double Vector __attribute__((vector_size(8 * kWarp)));
    typedef std::int64_t Bits __attribute__((vector_size(8 * kWarp)));
    static constexpr std::int64_t kAllButSign = INT64_MAX;
};

template <class T>
using Lanes = typename LaneTypes<T>::Vector;
using LaneInt = LaneTypes<float>::Bits;
using Mask = LaneInt;  // 0 or -1

inline LaneInt lane_index() {
    LaneInt lanes;
    for (int lane = 0; lane < kWarp; ++lane) lanes[lane] = lane;
    return lanes;
}

inline int smaller(int a, int b) { return a < b ? a : b; }
inline int larger(int a, int b) { return a > b ? a : b; }
inline LaneInt smaller(LaneInt a, int b) { return a < b ? a : LaneInt{} + b; }
inline LaneInt larger(LaneInt a, int b) { return a > b ? a : LaneInt{} + b; }

inline LaneInt where(Mask mask, LaneInt a, LaneInt b) { return mask ? a : b; }
inline int where(bool mask, int a, int b) { return mask ? a : b; }
inline Lanes<float> where(Mask mask, Lanes<float> a, Lanes<float> b) { return mask ? a : b; }
inline Lanes<double> where(Mask mask, Lanes<double> a, Lanes<double> b) {
    return __builtin_convertvector(mask, LaneTypes<double>::Bits) ? a : b;
}

// Whether to take a branch that has the mask, too.
inline bool taken(Mask mask) {
    for (int lane = 0; lane < kWarp; ++lane)
        if (mask[lane]) return true;
    return false;
}

inline Mask mask_of(LaneTypes<float>::Bits comparison) { return comparison; }
inline Mask mask_of(LaneTypes<double>::Bits comparison) {
    return __builtin_convertvector(comparison, Mask);
}

template <class T>
Lanes<T> numbers_from(LaneInt values) {
    return __builtin_convertvector(values, Lanes<T>);
}

template <class T>
Lanes<T> all_lanes(T value) {
    return Lanes<T>{} + value;
}

template <class T>
Lanes<T> magnitude(Lanes<T> x) {
    return (Lanes<T>)((typename LaneTypes<T>::Bits)x & LaneTypes<T>::kAllButSign);
}

template <class T>
Lanes<T> with_sign_of(Lanes<T> x, Lanes<T> of) {
    using Bits = typename LaneTypes<T>::Bits;
    return (Lanes<T>)((Bits)x ^ ((Bits)of & ~LaneTypes<T>::kAllButSign));
}

// Whether `multiply_add` rounds once.
#if defined(__FMA__)
constexpr bool kFused = true;
#else
constexpr bool kFused = false;
#endif

template <class Vector>
Vector multiply_add(Vector a, Vector b, Vector c) {
    if constexpr (!kFused) return a * b + c;
    for (int lane = 0; lane < kWarp; ++lane) c[lane] = std::fma(a[lane], b[lane], c[lane]);
    return c;
}

template <class T>
Lanes<T> positive_part(Lanes<T> x) {
    return x < T(0) ? Lanes<T>{} : x;
}

template <class T>
Lanes<T> square_root(Lanes<T> x) {
    Lanes<T> root{};
    for (int lane = 0; lane < kWarp; ++lane) root[lane] = std::sqrt(x[lane]);
    return root;
}

inline Lanes<float> rounded_root(Lanes<float> x) { return square_root<float>(x); }
inline Lanes<double> rounded_root(Lanes<double> x) { return square_root<double>(x); }

template <class Vector>
Vector rounded_inverse(Vector x) {
    return 1 / x;
}

template <bool kUp, class Vector>
Vector add_neighbour(Vector sum, Vector x, int size) {
    for (int lane = 0; lane < kWarp; ++lane) {
        const int other = lane + (kUp ? -1 : 1);
        if (other >= 0 && other / size == lane / size) sum[lane] += x[other];
    }
    return sum;
}

template <class Vector>
Vector exchanged(Vector x, int bit) {
    Vector y{};
    for (int lane = 0; lane < kWarp; ++lane) y[lane] = x[lane ^ bit];
    return y;
}

template <class Vector>
Vector quotient(Vector x, Vector y) {
    return x / y;
}

// What runs now. A barrier begins the next epoch, and a block too.
struct Moment {
    int block = -1, warp = -1;
    bool known = false;  // before the launch
    std::int64_t epoch = 0;
};
inline thread_local Moment now;

// Of one element.
struct Accesses {
    Moment written, read;
    bool read_by_many = false;  // warps, in the epoch of `read`
};

[[noreturn]] inline void refuse(const char* complaint, int index) {
    throw std::logic_error(std::string(complaint) + " (element " + std::to_string(index) + ")");
}

template <class T>
class Memory {
  public:
    Memory(T* data, int size) : data_(data), accesses_(size) {}

    Lanes<T> load(LaneInt index) { return load(index, Mask{} - 1); }

    Lanes<T> load(LaneInt index, Mask mask) {
        Lanes<T> values{};
        for (int lane = 0; lane < kWarp; ++lane)
            if (mask[lane]) values[lane] = data_[note_read(index[lane])];
        return values;
    }

    void store(LaneInt index, Lanes<T> value, Mask mask) {
        for (int lane = 0; lane < kWarp; ++lane) {
            if (!mask[lane]) continue;
            for (int other = 0; other < lane; ++other)
                if (mask[other] && index[other] == index[lane])
                    refuse("two lanes write the same element", index[lane]);
            data_[note_write(index[lane])] = value[lane];
        }
    }

    // All elements have values, as if written before.
    void know() {
        for (Accesses& accesses : accesses_) accesses.written.known = true;
    }

    // What was written may not be read any more.
    void forget() { accesses_.assign(accesses_.size(), Accesses{}); }

  private:
    Accesses& checked(int index) {
        if (index < 0 || std::size_t(index) >= accesses_.size())
            refuse("an access is outside the array", index);
        return accesses_[index];
    }

    static bool by_others(const Moment& access) {
        return access.block >= 0 && (access.block != now.block ||
                                     (access.epoch == now.epoch && access.warp != now.warp));
    }

    int note_read(int index) {
        Accesses& accesses = checked(index);
        if (accesses.written.block < 0 && !accesses.written.known)
            refuse("an element is read before it is written", index);
        if (by_others(accesses.written)) refuse("a warp reads what another one writes", index);
        accesses.read_by_many =
            by_others(accesses.read) || (accesses.read_by_many && accesses.read.epoch == now.epoch);
        accesses.read = now;
        return index;
    }

    int note_write(int index) {
        Accesses& accesses = checked(index);
        if (by_others(accesses.written)) refuse("two warps write the same element", index);
        if (by_others(accesses.read) || (accesses.read_by_many && accesses.read.epoch == now.epoch))
            refuse("a warp writes what another one reads", index);
        accesses.written = now;
        return index;
    }

    T* data_;
    std::vector<Accesses> accesses_;
};

template <class T>
class Cursor {
  public:
    Cursor() = default;
    Cursor(const T* data, int size, Memory<T>* memory, LaneInt place)
        : data_(data), size_(size), memory_(memory), place_(place) {}

    Lanes<T> load(int ahead) const { return load(ahead, Mask{} - 1); }

    Lanes<T> load(int ahead, Mask mask) const {
        if (memory_) return memory_->load(place_ + ahead, mask);
        Lanes<T> values{};
        for (int lane = 0; lane < kWarp; ++lane) {
            if (!mask[lane]) continue;
            const int index = place_[lane] + ahead;
            if (index < 0 || index >= size_) refuse("an access is outside the array", index);
            values[lane] = data_[index];
        }
        return values;
    }

    void load_two(int ahead, Lanes<T>& one, Lanes<T>& other) const {
        for (int lane = 0; lane < kWarp; ++lane)
            if (int(place_[lane] + ahead) % 2) refuse("a pair begins at an odd place", ahead);
        one = load(ahead);
        other = load(ahead + 1);
    }

    void advance(int count) { place_ += count; }

  private:
    const T* data_;
    int size_;
    Memory<T>* memory_;
    LaneInt place_;
};

template <class T>
class Input {
  public:
    Input(const T* data, int size) : data_(data), size_(size) {}
    Input(Memory<T>& memory, int start) : memory_(&memory), start_(start) {}

    Cursor<T> cursor(LaneInt index) const { return {data_, size_, memory_, index + start_}; }

  private:
    const T* data_ = nullptr;
    int size_ = 0;
    Memory<T>* memory_ = nullptr;  // instead of `data_`
    int start_ = 0;
};

inline Mask in_range(LaneInt value, int end) { return (value >= 0) & (value < end); }

template <class T>
void add_product(Lanes<T>& sum, Memory<T>& memory, LaneInt index, const Cursor<T>& cursor,
                 Mask mask) {
    sum += memory.load(index, mask) * cursor.load(0, mask);
}

struct Warp {
    int index;
    int count;
};

class Block {
  public:
    Block(int index, int warps) : warps_(warps) {
        now.block = index;
        ++now.epoch;
    }

    template <class Run>
    void each_warp(Run run) const {
        for (now.warp = 0; now.warp < warps_; ++now.warp) run(Warp{now.warp, warps_});
    }

    int warps() const { return warps_; }
    void barrier() const { ++now.epoch; }

  private:
    int warps_;
};

// A value of each warp that lasts over barriers.
template <class Value>
class PerWarp {
  public:
    explicit PerWarp(const Block& block) : values_(new Value[block.warps()]) {}
    Value& operator[](const Warp& warp) { return values_[warp.index]; }

  private:
    std::unique_ptr<Value[]> values_;  // without initial values
};

}  // namespace kipper

// A warp on a GPU: each thread holds one of its 32 lanes. `simulated/lanes.hpp` has the same names
// for a CPU.
#pragma once

#define KIPPER_INLINED
#define KIPPER_INLINE __forceinline__
#define KIPPER_UNROLL _Pragma("unroll")
#define KIPPER_UNROLL_4 _Pragma("unroll 4")

namespace kipper {

constexpr int kWarp = 32;

// Of one lane.
template <class T>
using Lanes = T;
using LaneInt = int;
using Mask = bool;

KIPPER_INLINE LaneInt lane_index() { return threadIdx.x % kWarp; }

KIPPER_INLINE int smaller(int a, int b) { return min(a, b); }
KIPPER_INLINE int larger(int a, int b) { return max(a, b); }

template <class T>
KIPPER_INLINE T where(Mask mask, T a, T b) {
    return mask ? a : b;
}

// Whether to take a branch that has the mask, too.
KIPPER_INLINE bool taken(Mask mask) { return mask; }

// The mask of a comparison of numbers, and numbers from integers.
KIPPER_INLINE Mask mask_of(bool comparison) { return comparison; }

template <class T>
KIPPER_INLINE T numbers_from(LaneInt values) {
    return T(values);
}

template <class T>
KIPPER_INLINE T all_lanes(T value) {
    return value;
}

template <class T>
KIPPER_INLINE T magnitude(T x);

template <>
KIPPER_INLINE float magnitude<float>(float x) {
    return fabsf(x);
}

template <>
KIPPER_INLINE double magnitude<double>(double x) {
    return fabs(x);
}

// x, or -x where the sign of `of` is negative.
template <class T>
KIPPER_INLINE T with_sign_of(T x, T of);

template <>
KIPPER_INLINE float with_sign_of<float>(float x, float of) {
    return __int_as_float(__float_as_int(x) ^ (__float_as_int(of) & int(0x80000000)));
}

template <>
KIPPER_INLINE double with_sign_of<double>(double x, double of) {
    return signbit(of) ? -x : x;
}

// `multiply_add` rounds once.
constexpr bool kFused = true;

KIPPER_INLINE float multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }
KIPPER_INLINE double multiply_add(double a, double b, double c) { return __fma_rn(a, b, c); }

// A NaN stays one.
template <class T>
KIPPER_INLINE T positive_part(T x) {
    return x < 0 ? T(0) : x;
}

template <class T>
KIPPER_INLINE T square_root(T x);

// Its error is at most 2^-23 of the root; the rounded root takes ten instructions more.
template <>
KIPPER_INLINE float square_root<float>(float x) {
    float root;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(x));
    return root;
}

template <>
KIPPER_INLINE double square_root<double>(double x) {
    return __dsqrt_rn(x);
}

// Rounded once, as on a CPU.
KIPPER_INLINE float rounded_root(float x) { return __fsqrt_rn(x); }
KIPPER_INLINE double rounded_root(double x) { return __dsqrt_rn(x); }
KIPPER_INLINE float rounded_inverse(float x) { return __frcp_rn(x); }
KIPPER_INLINE double rounded_inverse(double x) { return __drcp_rn(x); }

// `sum` plus the lane below (kUp) or above of `x`, if there is one in the segment of `size` lanes.
// The shuffle tells whether there is, which C++ does not show.
template <bool kUp>
KIPPER_INLINE float add_neighbour(float sum, float x, int size) {
    const int bounds = ((kWarp - size) << 8) | (kUp ? 0 : kWarp - 1);
    if constexpr (kUp)
        asm volatile(
            "{ .reg .pred p; .reg .f32 t; shfl.sync.up.b32 t|p, %1, 1, %2, -1; @p add.f32 %0, %0, "
            "t; }"
            : "+f"(sum)
            : "f"(x), "r"(bounds));
    else
        asm volatile(
            "{ .reg .pred p; .reg .f32 t; shfl.sync.down.b32 t|p, %1, 1, %2, -1; @p add.f32 %0, "
            "%0, t; }"
            : "+f"(sum)
            : "f"(x), "r"(bounds));
    return sum;
}

template <bool kUp>
KIPPER_INLINE double add_neighbour(double sum, double x, int size) {
    const double other = kUp ? __shfl_up_sync(~0u, x, 1, size) : __shfl_down_sync(~0u, x, 1, size);
    const int place = lane_index() % size;
    return (kUp ? place > 0 : place < size - 1) ? sum + other : sum;
}

// Of the lane whose index differs by the bit.
template <class T>
KIPPER_INLINE T exchanged(T x, int bit) {
    return __shfl_xor_sync(~0u, x, bit);
}

// x / y. Its error is at most 2 units of rounding.
KIPPER_INLINE float quotient(float x, float y) { return __fdividef(x, y); }
KIPPER_INLINE double quotient(double x, double y) { return x / y; }

// An array that the threads of a block share.
template <class T>
class Memory {
  public:
    KIPPER_INLINE Memory(T* data, int) : data_(data) {}

    KIPPER_INLINE T load(LaneInt index) const { return data_[index]; }
    KIPPER_INLINE T load(LaneInt index, Mask mask) const { return mask ? data_[index] : T(0); }
    KIPPER_INLINE void store(LaneInt index, T value, Mask mask) const {
        if (mask) data_[index] = value;
    }
    KIPPER_INLINE void forget() const {}
    KIPPER_INLINE const T* data() const { return data_; }

  private:
    T* data_;
};

// A lane's place in an array that a launch does not change.
template <class T>
class Cursor {
  public:
    Cursor() = default;
    KIPPER_INLINE explicit Cursor(const T* place) : place_(place) {}

    KIPPER_INLINE T load(int ahead) const { return place_[ahead]; }
    KIPPER_INLINE void advance(int count) { place_ += count; }

    // Two numbers, the first of which has an even index.
    KIPPER_INLINE void load_two(int ahead, T& one, T& other) const;

  private:
    const T* place_;
};

template <>
KIPPER_INLINE void Cursor<float>::load_two(int ahead, float& one, float& other) const {
    const float2 both = *reinterpret_cast<const float2*>(place_ + ahead);
    one = both.x;
    other = both.y;
}

template <>
KIPPER_INLINE void Cursor<double>::load_two(int ahead, double& one, double& other) const {
    const double2 both = *reinterpret_cast<const double2*>(place_ + ahead);
    one = both.x;
    other = both.y;
}

// An array that a launch does not change, or a part of a block's memory.
template <class T>
class Input {
  public:
    KIPPER_INLINE Input(const T* data, int) : data_(data) {}
    KIPPER_INLINE Input(const Memory<T>& memory, int start) : data_(memory.data() + start) {}

    KIPPER_INLINE Cursor<T> cursor(LaneInt index) const { return Cursor<T>(data_ + index); }

  private:
    const T* data_;
};

// Whether 0 <= value < end.
KIPPER_INLINE Mask in_range(LaneInt value, int end) { return unsigned(value) < unsigned(end); }

// Where the mask is set, adds the product of an element and of what the cursor is at.
template <class T>
KIPPER_INLINE void add_product(T& sum, const Memory<T>& memory, LaneInt index,
                               const Cursor<T>& cursor, Mask mask) {
    if (mask) sum += memory.load(index) * cursor.load(0);
}

struct Warp {
    int index;
    int count;
};

// A value of each warp that lasts over barriers.
class Block;
template <class Value>
class PerWarp {
  public:
    KIPPER_INLINE explicit PerWarp(const Block&) {}
    KIPPER_INLINE Value& operator[](const Warp&) { return value_; }

  private:
    Value value_;
};

class Block {
  public:
    // Runs once for each warp of the block.
    template <class Run>
    KIPPER_INLINE void each_warp(Run run) const {
        // From lane 0, which tells the compiler that it is the same in all lanes.
        run(Warp{__shfl_sync(~0u, int(threadIdx.x) / kWarp, 0), int(blockDim.x) / kWarp});
    }

    KIPPER_INLINE int warps() const { return blockDim.x / kWarp; }
    KIPPER_INLINE void barrier() const { __syncthreads(); }
};

}  // namespace kipper

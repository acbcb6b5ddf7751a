// The C interface of the native kernels, for kipper/workers/native_library.py, which has the same
// structures.
//
// A function takes arrays, its arguments and then its results, all of one dtype, C-contiguous. It
// checks their shapes, and returns 0, or 1 after it has written a message. No exception leaves it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <stdexcept>

#include "lanes.hpp"
#include "parallel.hpp"

#define KIPPER_EXPORT extern "C" __attribute__((visibility("default")))

namespace kipper {

constexpr std::size_t kMessageBytes = 256;

struct Array {
    void* data;
    std::int64_t rank;
    const std::int64_t* shape;
};

struct Numbers {
    const std::int64_t* data;
    std::int64_t count;

    const std::int64_t* begin() const { return data; }
    const std::int64_t* end() const { return data + count; }
    std::int64_t operator[](std::size_t index) const { return data[index]; }
};

// Each function reads some of them. `sizes` and `bands` hold two numbers for each stage of a
// convolutional network and two for the read-out; `hidden` is of fully connected ones.
struct Attributes {
    Numbers bands, convs, pooled, sizes;
    std::int64_t hidden;
    std::int64_t threads;
    std::int64_t both, global_average, tangent;
    double b2, w2;

    int thread_count() const { return threads < 1 ? 1 : int(threads); }
};

// Indices of pixels, and of channels, are int.
inline bool is_size(std::int64_t value) { return value >= 1 && value <= INT32_MAX; }

inline void require(bool fits) {
    if (!fits)
        throw std::invalid_argument("the shapes of arrays and network do not fit each other");
}

// An array of kRank dimensions.
template <class T, int kRank>
class Tensor {
  public:
    explicit Tensor(const Array& array) : data_(static_cast<T*>(array.data)), shape_(array.shape) {
        require(array.rank == kRank);
    }

    T* data() const { return data_; }
    std::int64_t operator[](int axis) const { return shape_[axis]; }

    std::int64_t count() const {
        std::int64_t count = 1;
        for (int axis = 0; axis < kRank; ++axis) count *= shape_[axis];
        return count;
    }

    // Null if the array is empty, which means that it is not wanted.
    T* data_or_null() const { return count() ? data_ : nullptr; }

    bool has_shape_of(const Tensor& other) const {
        return std::equal(shape_, shape_ + kRank, other.shape_);
    }

  private:
    T* data_;
    const std::int64_t* shape_;
};

// Runs with default rounding, writes the message of what is thrown, and returns 1 for that, else 0.
template <class Run>
int guarded(char* message, Run run) {
    const DefaultRounding rounding;
    try {
        run();
        return 0;
    } catch (const std::exception& error) {  // of memory: usually std::bad_alloc
        std::snprintf(message, kMessageBytes, "%s", error.what());
        return 1;
    }
}

}  // namespace kipper

// The hash of the sources that the library was built from; see native/build.py.
KIPPER_EXPORT const char* kipper_sources() { return KIPPER_SOURCES; }

// The width of the library's vectors.
KIPPER_EXPORT int kipper_vector_bytes() { return kipper::kVectorBytes; }

// Exports kipper_NAME_DTYPE, which calls kipper::call_NAME<T>(arrays, attributes).
#define KIPPER_FUNCTION(name, T, dtype)                                                        \
    KIPPER_EXPORT int kipper_##name##_##dtype(                                                 \
        const kipper::Array* arrays, const kipper::Attributes* attributes, char* message) {    \
        return kipper::guarded(message, [&] { kipper::call_##name<T>(arrays, *attributes); }); \
    }

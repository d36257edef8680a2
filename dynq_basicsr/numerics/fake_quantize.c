/* Fake quantization on the CPU, forward and backward, each in one pass over memory. See native.py and fake_quantize.py.
 *
 * A tensor is `rows` rows of `length` values that follow each other in memory; `grid` holds the scales of all rows,
 * then their smallest, then their largest integers. Work is cut into blocks of at most CHUNK values within a row. Which
 * thread takes a block changes nothing: sums of blocks are added in order afterwards.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 4096            /* values whose sum is single precision; beyond, double */
#define PARALLEL_FROM 16384   /* values from which it pays to wake threads */

#define INLINE static inline __attribute__((always_inline))

enum { NOTHING = 0, BFLOAT16 = 1, INTEGERS = 2, TANH = 4 }; /* flags */

INLINE uint16_t to_bfloat16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16; /* to nearest, ties to even */
    return (uint16_t)(value != value ? 0x7FC0u : rounded);
}

INLINE float from_bfloat16(uint16_t value)
{
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* Not fminf and fmaxf: these would replace NaN. */
INLINE float on_grid(float v, float low, float high)
{
    float rounded = rintf(v);
    rounded = rounded < low ? low : rounded;
    return rounded > high ? high : rounded;
}

INLINE void forward_block(const float *restrict x, void *restrict out, int64_t count, float scale, float low, float high,
                          int flags)
{
    float *restrict singles = out;
    uint16_t *restrict halves = out;
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        float value = on_grid(x[i] / scale, low, high);
        if (!(flags & INTEGERS))
            value *= scale;
        if (flags & BFLOAT16)
            halves[i] = to_bfloat16(value);
        else
            singles[i] = value;
    }
}

/* Slope of rounding: 1, or that of QuantSR's tanh. tanh(u)^2 / u^2 is a polynomial in u^2 for |u| <= 1/2, the Chebyshev
 * interpolant of degree 4, wrong by 1.5e-8 at most. */
INLINE float slope_of(float v, int flags)
{
    if (!(flags & TANH))
        return 1.0f;
    float u = v - floorf(v) - 0.5f, squared = u * u;
    float ratio = 0.073101582f;
    ratio = ratio * squared - 0.191800251f;
    ratio = ratio * squared + 0.377341088f;
    ratio = ratio * squared - 0.666653186f;
    ratio = ratio * squared + 0.999999933f;
    const float half_coth = 1.0819767068693265f; /* 1 / (2 tanh(1/2)) */
    return half_coth - half_coth * squared * ratio;
}

/* sums: of the residual inside, of the gradient below, of the gradient above. */
INLINE void backward_block(const void *restrict grad, const float *restrict x, float *restrict grad_x, int64_t count,
                           float scale, float low, float high, int flags, double *sums)
{
    const float *restrict singles = grad;
    const uint16_t *restrict halves = grad;
    const float lowest = low * scale, highest = high * scale;
    float residual = 0.0f, at_low = 0.0f, at_high = 0.0f;
#pragma omp simd reduction(+ : residual, at_low, at_high)
    for (int64_t i = 0; i < count; i++) {
        float g = (flags & BFLOAT16) ? from_bfloat16(halves[i]) : singles[i];
        float v = x[i] / scale, slope = slope_of(v, flags);
        int below = x[i] < lowest, above = x[i] > highest; /* neither for NaN, which then shows in the sums */
        float error = g * (on_grid(v, low, high) - v * slope);
        grad_x[i] = below | above ? 0.0f : g * slope;
        residual += below | above ? 0.0f : error;
        at_low += below ? g : 0.0f;
        at_high += above ? g : 0.0f;
    }
    sums[0] = residual;
    sums[1] = at_low;
    sums[2] = at_high;
}

/* One copy of each loop for each combination of flags, so that none is asked within it. */
typedef void forward_function(const float *, void *, int64_t, float, float, float);
typedef void backward_function(const void *, const float *, float *, int64_t, float, float, float, double *);

#define FORWARD(name, flags)                                                                                       \
    static void name(const float *x, void *out, int64_t count, float scale, float low, float high)                 \
    {                                                                                                              \
        forward_block(x, out, count, scale, low, high, flags);                                                     \
    }
#define BACKWARD(name, flags)                                                                                      \
    static void name(const void *grad, const float *x, float *grad_x, int64_t count, float scale, float low,       \
                     float high, double *sums)                                                                     \
    {                                                                                                              \
        backward_block(grad, x, grad_x, count, scale, low, high, flags, sums);                                     \
    }

FORWARD(values_single, NOTHING)
FORWARD(values_half, BFLOAT16)
FORWARD(integers_single, INTEGERS)
FORWARD(integers_half, INTEGERS | BFLOAT16)
BACKWARD(identity_single, NOTHING)
BACKWARD(identity_half, BFLOAT16)
BACKWARD(tanh_single, TANH)
BACKWARD(tanh_half, TANH | BFLOAT16)

/* out: float, or bfloat16 (as uint16_t) where that flag is set. With INTEGERS the scale is not multiplied. */
void dynq_forward(const float *x, void *out, const float *grid, int64_t rows, int64_t length, int flags, int threads)
{
    forward_function *const choices[] = {values_single, values_half, integers_single, integers_half};
    forward_function *const block = choices[flags & (BFLOAT16 | INTEGERS)];
    const int64_t chunks = (length + CHUNK - 1) / CHUNK, size = flags & BFLOAT16 ? 2 : 4;
    (void)threads; /* without OpenMP */
#pragma omp parallel for num_threads(threads) schedule(static) if (rows * length >= PARALLEL_FROM)
    for (int64_t index = 0; index < rows * chunks; index++) {
        int64_t row = index / chunks, begin = index % chunks * CHUNK;
        int64_t count = length - begin < CHUNK ? length - begin : CHUNK, at = row * length + begin;
        block(x + at, (char *)out + at * size, count, grid[row], grid[rows + row], grid[2 * rows + row]);
    }
}

/* grad: float, or bfloat16 where that flag is set; grad_grid: laid out as grid. Returns 0, or 1 without memory. */
int dynq_backward(const void *grad, const float *x, const float *grid, float *grad_x, float *grad_grid, int64_t rows,
                  int64_t length, int flags, int threads)
{
    backward_function *const choices[] = {identity_single, identity_half, tanh_single, tanh_half};
    backward_function *const block = choices[(flags & BFLOAT16) | (flags & TANH) >> 1];
    const int64_t chunks = (length + CHUNK - 1) / CHUNK, size = flags & BFLOAT16 ? 2 : 4;
    double *const sums = malloc((size_t)(rows * chunks * 3 + 1) * sizeof *sums);
    if (!sums)
        return 1;
    (void)threads;
#pragma omp parallel for num_threads(threads) schedule(static) if (rows * length >= PARALLEL_FROM)
    for (int64_t index = 0; index < rows * chunks; index++) {
        int64_t row = index / chunks, begin = index % chunks * CHUNK;
        int64_t count = length - begin < CHUNK ? length - begin : CHUNK, at = row * length + begin;
        block((const char *)grad + at * size, x + at, grad_x + at, count, grid[row], grid[rows + row],
              grid[2 * rows + row], sums + 3 * index);
    }
    for (int64_t row = 0; row < rows; row++) {
        double residual = 0, at_low = 0, at_high = 0;
        for (const double *part = sums + 3 * row * chunks; part < sums + 3 * (row + 1) * chunks; part += 3) {
            residual += part[0];
            at_low += part[1];
            at_high += part[2];
        }
        const double scale = grid[row], low = grid[rows + row], high = grid[2 * rows + row];
        grad_grid[row] = (float)(residual + at_low * low + at_high * high);
        grad_grid[rows + row] = (float)(scale * at_low);
        grad_grid[2 * rows + row] = (float)(scale * at_high);
    }
    free(sums);
    return 0;
}

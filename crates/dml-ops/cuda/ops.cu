// The kernels of this crate's operations, for values of each type (see ops.inc). They are written in the common part of C
// and CUDA, so that tests can run them, thread by thread, on a machine without a GPU: see tests/ops/cuda_kernels.rs.

#ifdef DML_ON_HOST
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#define KERNEL void
#define FUNCTION static inline
/* Which thread this is; the test counts. */
size_t dml_thread;
#define THREAD dml_thread
/* A warp is one thread. */
#define LANES 1
FUNCTION float warp_sum(float x) { return x; }
FUNCTION float warp_max(float x) { return x; }
#else
#include <cuda_bf16.h>
#include <stdint.h>
#define KERNEL extern "C" __global__ void
#define FUNCTION static __device__ __forceinline__
#define THREAD ((size_t)blockIdx.x * blockDim.x + threadIdx.x)
#define LANES 32
/* Every lane gets the same bits: at each step it and its partner add the same two numbers. */
FUNCTION float warp_sum(float x) {
  for (int step = LANES / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}
FUNCTION float warp_max(float x) {
  for (int step = LANES / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  return x;
}
#endif

/* Windows of a pooling over (time, height, width) of channels-last images; the same struct is in src/cuda/after.rs. */
struct pooling {
  size_t inputs;  /* values */
  size_t outputs; /* values */
  int32_t channels;
  int32_t input[3];
  int32_t kernel[3];
  int32_t stride[3];
  int32_t low[3]; /* padding before the first */
  int32_t output[3];
};

/* Parameters of one launch of Adam; the same struct is in src/cuda/adam.rs. */
#define PARAMETERS 48
#define PARAMETERS_OF_BLOCK 4096
struct parameter {
  float *p;
  const float *g;
  float *m;
  float *v;
  size_t count;
  uint32_t first_block;
  float rate; /* the learning rate over the first moment's correction */
  float root; /* one over the root of the second moment's correction */
  uint32_t unused;
};
struct parameters {
  struct parameter all[PARAMETERS];
  uint32_t count;
  float beta1, beta2, eps;
};

/* 0: none, 1: ReLU, 2: ReLU6. A value that is not a number stays one. */
FUNCTION float activate(float x, int32_t activation) {
  if (activation > 0 && x < 0.0f) return 0.0f;
  if (activation == 2 && x > 6.0f) return 6.0f;
  return x;
}

/* The gradient before an activation, from that after it and the result. */
FUNCTION float gate(float y, float gradient, int32_t activation) {
  if (activation > 0 && !(y > 0.0f)) return 0.0f;
  if (activation == 2 && !(y < 6.0f)) return 0.0f;
  return gradient;
}

#define ROTATE(x, by) (((x) << (by)) | ((x) >> (32 - (by))))
#define QUARTER(a, b, c, d)                 \
  a += b; d ^= a; d = ROTATE(d, 16);        \
  c += d; b ^= c; b = ROTATE(b, 12);        \
  a += b; d ^= a; d = ROTATE(d, 8);         \
  c += d; b ^= c; b = ROTATE(b, 7)

/* A block of ChaCha with 8 rounds (Bernstein 2008), stream 0: 16 words. */
FUNCTION void chacha8(const uint32_t *key, uint64_t block, uint32_t *words) {
  uint32_t start[16] = {0x61707865u, 0x3320646eu, 0x79622d32u, 0x6b206574u, key[0], key[1], key[2], key[3], key[4],
                        key[5], key[6], key[7], (uint32_t)block, (uint32_t)(block >> 32), 0u, 0u};
  uint32_t x[16];
  for (int i = 0; i < 16; ++i) x[i] = start[i];
  for (int round = 0; round < 4; ++round) {
    QUARTER(x[0], x[4], x[8], x[12]);
    QUARTER(x[1], x[5], x[9], x[13]);
    QUARTER(x[2], x[6], x[10], x[14]);
    QUARTER(x[3], x[7], x[11], x[15]);
    QUARTER(x[0], x[5], x[10], x[15]);
    QUARTER(x[1], x[6], x[11], x[12]);
    QUARTER(x[2], x[7], x[8], x[13]);
    QUARTER(x[3], x[4], x[9], x[14]);
  }
  for (int i = 0; i < 16; ++i) words[i] = x[i] + start[i];
}

/* One step of Adam for all parameters: a block of threads for so many values of one of them. */
FUNCTION void adam_step(const struct parameters *all, uint32_t block, uint32_t thread, uint32_t threads) {
  uint32_t index = 0;
  while (index + 1 < all->count && all->all[index + 1].first_block <= block) ++index;
  const struct parameter *one = &all->all[index];
  size_t start = (size_t)(block - one->first_block) * PARAMETERS_OF_BLOCK;
  size_t end = start + PARAMETERS_OF_BLOCK < one->count ? start + PARAMETERS_OF_BLOCK : one->count;
  for (size_t i = start + thread; i < end; i += threads) {
    float g = one->g[i];
    float m = all->beta1 * one->m[i] + (1.0f - all->beta1) * g;
    float v = all->beta2 * one->v[i] + (1.0f - all->beta2) * g * g;
    one->m[i] = m;
    one->v[i] = v;
    one->p[i] -= one->rate * m / (sqrtf(v) * one->root + all->eps);
  }
}

#ifdef DML_ON_HOST
void adam(struct parameters all, uint32_t block, uint32_t thread, uint32_t threads) {
  adam_step(&all, block, thread, threads);
}
#else
KERNEL adam(const __grid_constant__ struct parameters all) {
  adam_step(&all, blockIdx.x, threadIdx.x, blockDim.x);
}
#endif

/* Operations on the rows of a matrix, a warp for each. */
#define ROW THREAD / LANES
#define EACH(i) (size_t i = THREAD % LANES; i < columns; i += LANES)

KERNEL log_softmax(const float *x, float *y, size_t rows, size_t columns) {
  size_t row = ROW;
  if (row >= rows) return;
  x += row * columns;
  y += row * columns;
  float largest = -INFINITY, sum = 0.0f;
  for EACH(i) largest = fmaxf(largest, x[i]);
  largest = warp_max(largest);
  for EACH(i) sum += expf(x[i] - largest);
  float log_sum = logf(warp_sum(sum));
  for EACH(i) y[i] = x[i] - largest - log_sum;
}

/* From the result. */
KERNEL log_softmax_gradient(const float *y, const float *dy, float *dx, size_t rows, size_t columns) {
  size_t row = ROW;
  if (row >= rows) return;
  y += row * columns;
  dy += row * columns;
  dx += row * columns;
  float sum = 0.0f;
  for EACH(i) sum += dy[i];
  sum = warp_sum(sum);
  for EACH(i) dx[i] = dy[i] - expf(y[i]) * sum;
}

/* The largest size of a row's values; not a number, where one of them is not finite. */
FUNCTION float largest_size(const float *x, size_t columns) {
  float largest = 0.0f, poison = 0.0f;
  for EACH(i) {
    largest = fmaxf(largest, fabsf(x[i]));
    poison += 0.0f * x[i];
  }
  return warp_max(largest) + warp_sum(poison);
}

/* The root of the sum of squares, of values that are first divided by their largest. */
FUNCTION float scaled_norm(const float *x, size_t columns, float largest) {
  float sum = 0.0f;
  for EACH(i) sum += x[i] / largest * (x[i] / largest);
  return sqrtf(warp_sum(sum));
}

/* A row whose largest value is smaller has no direction. */
#define SMALLEST 1e-12f

KERNEL l2_normalize(const float *x, float *y, size_t rows, size_t columns) {
  size_t row = ROW;
  if (row >= rows) return;
  x += row * columns;
  y += row * columns;
  float largest = largest_size(x, columns);
  float norm = scaled_norm(x, columns, largest);
  for EACH(i) y[i] = largest < SMALLEST ? 0.0f : x[i] / largest / norm;
}

/* From the argument. */
KERNEL l2_normalize_gradient(const float *x, const float *dy, float *dx, size_t rows, size_t columns) {
  size_t row = ROW;
  if (row >= rows) return;
  x += row * columns;
  dy += row * columns;
  dx += row * columns;
  float largest = largest_size(x, columns);
  float norm = scaled_norm(x, columns, largest), along = 0.0f;
  for EACH(i) along += x[i] / largest / norm * dy[i];
  along = warp_sum(along);
  for EACH(i) dx[i] = largest < SMALLEST ? 0.0f : (dy[i] - x[i] / largest / norm * along) / norm / largest;
}

/* The sum of `chunks` partial sums of each column. */
#define COLUMN_TOTALS(name, T, STORE)                                                                  \
  KERNEL name(const float *partial, T *total, int32_t columns, int32_t chunks) {                       \
    size_t column = THREAD;                                                                            \
    if (column >= (size_t)columns) return;                                                             \
    float sum = 0.0f;                                                                                  \
    for (int32_t chunk = 0; chunk < chunks; ++chunk) sum += partial[(size_t)chunk * columns + column]; \
    STORE(total, column, sum);                                                                         \
  }

#define T float
#define NAME(name) name##_f32
#define LOAD(from, i) ((from)[i])
#define STORE(to, i, x) ((to)[i] = (x))
#include "ops.inc"
#undef T
#undef NAME
#undef LOAD
#undef STORE

#ifndef DML_ON_HOST
#define T __nv_bfloat16
#define NAME(name) name##_bf16
#define LOAD(from, i) __bfloat162float((from)[i])
#define STORE(to, i, x) ((to)[i] = __float2bfloat16(x))
#include "ops.inc"
#endif

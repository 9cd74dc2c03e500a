/* The kernels of one variant: VARIANT names it, WIDTH is the floats of its vectors. */
#include <omp.h>

#include "drawing.h"
#include "forward.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME_(x) #x
#define NAME(x) NAME_(x)

static void linear_team(const float *x, const linear_t *layer, int64_t tokens, float *y,
                        void *scratch)
{
#pragma omp parallel
    linear(x, layer, tokens, y, scratch);
}

static void add_rms_norm_team(const float *x, float *residual, const float *weight, float eps,
                              int64_t tokens, int64_t width, float *y)
{
#pragma omp parallel
    add_rms_norm(x, residual, weight, eps, tokens, width, y);
}

static void silu_mul_team(const float *gate_up, int64_t tokens, int64_t width, float *y)
{
#pragma omp parallel
    silu_mul(gate_up, tokens, width, y);
}

static void rotate_and_write_team(float *qkv, const float *cos, const float *sin,
                                  const int64_t *positions, const int64_t *slots,
                                  const layer_t *layer, int64_t tokens, int64_t heads,
                                  int64_t kv_heads, int64_t head_dim, float eps)
{
#pragma omp parallel
    rotate_and_write(qkv, cos, sin, positions, slots, layer, tokens, heads, kv_heads, head_dim,
                     eps);
}

static void attend_team(const float *query, int64_t query_stride, const plan_t *plan,
                        const cache_t *cache, int64_t window, int64_t heads, int64_t kv_heads,
                        int64_t head_dim, float scale, float *y, void *scratch)
{
#pragma omp parallel
    attend(query, query_stride, plan, cache, window, heads, kv_heads, head_dim, scale, y, scratch);
}

static void draw_team(const float *logits, const draw_t *draws, int64_t rows, int64_t vocab,
                      int64_t *tokens)
{
#pragma omp parallel
    draw(logits, draws, rows, vocab, tokens);
}

const kernels_t JOIN(octavo_, VARIANT) = {
    .name = NAME(VARIANT),
    .linear = linear_team,
    .add_rms_norm = add_rms_norm_team,
    .silu_mul = silu_mul_team,
    .rotate_and_write = rotate_and_write_team,
    .attend = attend_team,
    .forward = forward,
    .draw = draw_team,
};

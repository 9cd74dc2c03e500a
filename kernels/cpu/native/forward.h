/* All layers of a decoder in one call: the team of threads is called up once a step. */
#ifndef OCTAVO_FORWARD_H
#define OCTAVO_FORWARD_H

#include "attention.h"
#include "layer_ops.h"
#include "linear_int.h"

typedef struct {
    float *residual, *states, *qkv, *attended, *gate_up, *inner, *output;
    void *scratch;
} buffers_t;

static buffers_t carve(const model_t *m, const step_t *step)
{
    int64_t tokens = step->num_tokens, heads = m->num_heads * m->head_dim;
    buffers_t b;
    b.residual = step->workspace;
    b.states = b.residual + tokens * m->hidden;
    b.qkv = b.states + tokens * m->hidden;
    b.attended = b.qkv + tokens * (heads + 2 * m->num_kv_heads * m->head_dim);
    b.gate_up = b.attended + tokens * heads;
    b.inner = b.gate_up + tokens * 2 * m->intermediate;
    b.output = b.inner + tokens * m->intermediate;
    uintptr_t end = (uintptr_t)(b.output + tokens * m->hidden);
    b.scratch = (void *)((end + 63) / 64 * 64); /* it holds more than floats */
    return b;
}

static void run_layer(const model_t *m, const layer_t *layer, const step_t *step,
                      const buffers_t *b, int is_first)
{
    int64_t tokens = step->num_tokens, dim = m->head_dim;
    int64_t stride = (m->num_heads + 2 * m->num_kv_heads) * dim;
    add_rms_norm(is_first ? NULL : b->output, b->residual, layer->input_norm, m->eps, tokens,
                 m->hidden, b->states);
    linear(b->states, &layer->qkv, tokens, b->qkv, b->scratch);
    rotate_and_write(b->qkv, m->cos, m->sin, step->positions, step->slots, layer, tokens,
                     m->num_heads, m->num_kv_heads, dim, m->eps);
    attend(b->qkv, stride, &step->plan, &layer->cache, layer->window, m->num_heads,
           m->num_kv_heads, dim, m->scale, b->attended, b->scratch);
    linear(b->attended, &layer->output, tokens, b->output, b->scratch);
    add_rms_norm(b->output, b->residual, layer->post_norm, m->eps, tokens, m->hidden,
                 b->states);
    linear(b->states, &layer->gate_up, tokens, b->gate_up, b->scratch);
    silu_mul(b->gate_up, tokens, m->intermediate, b->inner);
    linear(b->inner, &layer->down, tokens, b->output, b->scratch);
}

static float widen_half(uint16_t half)
{
    uint16_t halves[WIDTH] = {half};
    return half_floats(halves)[0];
}

static void embed_row(const embedding_t *e, int64_t row, int64_t width, float *to)
{
    int64_t groups = width / GROUP;
    if (e->kind == WEIGHT_FLOAT32) {
        memcpy(to, (const float *)e->weights + row * width, (size_t)width * 4);
    } else if (e->kind == WEIGHT_BFLOAT16) {
        const uint16_t *from = (const uint16_t *)e->weights + row * width;
        for (int64_t i = 0; i < width; i++)
            to[i] = widen_bfloat16(from[i]);
    } else if (e->kind == WEIGHT_INT8) {
        for (int64_t g = 0; g < groups; g++) {
            const int8_t *from = (const int8_t *)e->weights + (row * groups + g) * GROUP;
            float scale = widen_half(e->scales[row * groups + g]);
            for (int i = 0; i < GROUP; i++)
                to[g * GROUP + i] = from[i] * scale;
        }
    } else {
        for (int64_t g = 0; g < groups; g++) {
            const uint8_t *from = (const uint8_t *)e->weights + (row * groups + g) * GROUP / 2;
            float scale = widen_half(e->scales[row * groups + g]);
            float minimum = widen_half(e->minimums[row * groups + g]);
            for (int i = 0; i < GROUP / 2; i++) {
                to[g * GROUP + i] = (from[i] & 15) * scale + minimum;
                to[g * GROUP + GROUP / 2 + i] = (from[i] >> 4) * scale + minimum;
            }
        }
    }
}

static void forward(const model_t *m, const step_t *step)
{
    const buffers_t b = carve(m, step);
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int64_t t = 0; t < step->num_tokens; t++)
            embed_row(&m->embedding, step->token_ids[t], m->hidden, b.residual + t * m->hidden);
        for (int64_t i = 0; i < m->num_layers; i++)
            run_layer(m, m->layers + i, step, &b, i == 0);
#pragma omp for schedule(static)
        for (int64_t r = 0; r < step->num_rows; r++) {
            int64_t at = step->rows[r] * m->hidden;
            norm_row(b.output + at, b.residual + at, m->norm, m->eps, m->hidden,
                     step->states + r * m->hidden);
        }
    }
}

#endif

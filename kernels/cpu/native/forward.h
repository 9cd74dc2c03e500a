/* All layers of a decoder in one call: the team of threads is called up once a step. */
#ifndef OCTAVO_FORWARD_H
#define OCTAVO_FORWARD_H

#include "attention.h"
#include "layer_ops.h"
#include "linear_int.h"

typedef struct {
    float *states, *qkv, *attended, *gate_up, *inner, *output;
    void *scratch;
} buffers_t;

static buffers_t carve(const model_t *m, const step_t *step)
{
    int64_t tokens = step->num_tokens, heads = m->num_heads * m->head_dim;
    buffers_t b;
    b.states = step->workspace;
    b.qkv = b.states + tokens * m->hidden;
    b.attended = b.qkv + tokens * (heads + 2 * m->num_kv_heads * m->head_dim);
    b.gate_up = b.attended + tokens * heads;
    b.inner = b.gate_up + tokens * 2 * m->intermediate;
    b.output = b.inner + tokens * m->intermediate;
    b.scratch = b.output + tokens * m->hidden;
    return b;
}

static void run_layer(const model_t *m, const layer_t *layer, const step_t *step,
                      const buffers_t *b, int is_first)
{
    int64_t tokens = step->num_tokens, dim = m->head_dim;
    int64_t stride = (m->num_heads + 2 * m->num_kv_heads) * dim;
    add_rms_norm(is_first ? NULL : b->output, step->residual, layer->input_norm, m->eps, tokens,
                 m->hidden, b->states);
    linear(b->states, &layer->qkv, tokens, b->qkv, b->scratch);
    rotate_and_write(b->qkv, m->cos, m->sin, step->positions, step->slots, layer, tokens,
                     m->num_heads, m->num_kv_heads, dim, m->eps);
    attend(b->qkv, stride, &step->plan, &layer->cache, layer->window, m->num_heads,
           m->num_kv_heads, dim, m->scale, b->attended, b->scratch);
    linear(b->attended, &layer->output, tokens, b->output, b->scratch);
    add_rms_norm(b->output, step->residual, layer->post_norm, m->eps, tokens, m->hidden,
                 b->states);
    linear(b->states, &layer->gate_up, tokens, b->gate_up, b->scratch);
    silu_mul(b->gate_up, tokens, m->intermediate, b->inner);
    linear(b->inner, &layer->down, tokens, b->output, b->scratch);
}

static void forward(const model_t *m, const step_t *step)
{
    const buffers_t b = carve(m, step);
#pragma omp parallel
    {
        for (int64_t i = 0; i < m->num_layers; i++)
            run_layer(m, m->layers + i, step, &b, i == 0);
#pragma omp for schedule(static)
        for (int64_t r = 0; r < step->num_rows; r++) {
            int64_t at = step->rows[r] * m->hidden;
            norm_row(b.output + at, step->residual + at, m->norm, m->eps, m->hidden,
                     step->states + r * m->hidden);
        }
    }
}

#endif

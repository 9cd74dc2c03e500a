/* What lies between the linear layers. Each function shares its work among the present team. */
#ifndef OCTAVO_LAYER_OPS_H
#define OCTAVO_LAYER_OPS_H

#include "vectors.h"

/* residual += x (if x), y = residual / rms(residual) * weight, of one token. y may be x. */
static void norm_row(const float *x, float *residual, const float *weight, float eps, int64_t width,
                     float *y)
{
    vf squares = splat(0.0f);
    float rest = 0;
    int64_t i = 0;
    for (; i + WIDTH <= width; i += WIDTH) {
        vf value = load(residual + i);
        if (x) {
            value = value + load(x + i);
            store(residual + i, value);
        }
        squares = multiply_add(value, value, squares);
    }
    for (; i < width; i++) {
        if (x)
            residual[i] += x[i];
        rest += residual[i] * residual[i];
    }
    float factor = 1.0f / sqrtf((sum(squares) + rest) / (float)width + eps);
    for (i = 0; i + WIDTH <= width; i += WIDTH)
        store(y + i, load(residual + i) * splat(factor) * load(weight + i));
    for (; i < width; i++)
        y[i] = residual[i] * factor * weight[i];
}

static void add_rms_norm(const float *x, float *residual, const float *weight, float eps,
                         int64_t tokens, int64_t width, float *y)
{
#pragma omp for schedule(static)
    for (int64_t t = 0; t < tokens; t++)
        norm_row(x ? x + t * width : NULL, residual + t * width, weight, eps, width, y + t * width);
}

/* silu(gate) * up, for rows [gate, up] of 2 * width. */
static void silu_mul(const float *gate_up, int64_t tokens, int64_t width, float *y)
{
#pragma omp for schedule(static)
    for (int64_t t = 0; t < tokens; t++) {
        const float *gate = gate_up + t * 2 * width, *up = gate + width;
        float *out = y + t * width;
        int64_t i = 0;
        for (; i + WIDTH <= width; i += WIDTH) {
            vf g = load(gate + i);
            /* Beyond 87 the exponential is infinite in float32, and the result 0 either way. */
            vf e = vexp(choose(-g > splat(88.0f), splat(88.0f), -g));
            store(out + i, g / (splat(1.0f) + e) * load(up + i));
        }
        for (; i < width; i++)
            out[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
    }
}

static void rotate_head(float *head, const float *cos, const float *sin, int64_t half)
{
    for (int64_t i = 0; i < half; i++) {
        float low = head[i], high = head[i + half];
        head[i] = low * cos[i] - high * sin[i];
        head[i + half] = high * cos[i] + low * sin[i];
    }
}

static void write_key(const cache_t *cache, int64_t head, int64_t offset, const float *key,
                      int64_t width)
{
    int64_t first = head * width * cache->block_size + offset;
    if (cache->kind == KV_FLOAT32) {
        float *to = (float *)cache->keys + first;
        for (int64_t i = 0; i < width; i++)
            to[i * cache->block_size] = key[i];
    } else {
        uint16_t *to = (uint16_t *)cache->keys + first;
        for (int64_t i = 0; i < width; i++)
            to[i * cache->block_size] = to_bfloat16(key[i]);
    }
}

static void write_value(const cache_t *cache, int64_t head, int64_t offset, const float *value,
                        int64_t width)
{
    int64_t first = (head * cache->block_size + offset) * width;
    if (cache->kind == KV_FLOAT32) {
        memcpy((float *)cache->values + first, value, (size_t)width * 4);
    } else {
        uint16_t *to = (uint16_t *)cache->values + first;
        for (int64_t i = 0; i < width; i++)
            to[i] = to_bfloat16(value[i]);
    }
}

/* Rotate the query and key heads of qkv [tokens][heads + 2 * kv_heads][head_dim] in place, normed
 * before if the layer has q_norm and k_norm, and store keys and values in their slots. */
static void rotate_and_write(float *qkv, const float *cos, const float *sin,
                             const int64_t *positions, const int64_t *slots, const layer_t *layer,
                             int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim,
                             float eps)
{
    int64_t half = head_dim / 2, block_size = layer->cache.block_size;
#pragma omp for schedule(static)
    for (int64_t t = 0; t < tokens; t++) {
        float *row = qkv + t * (heads + 2 * kv_heads) * head_dim;
        int64_t block = slots[t] / block_size, offset = slots[t] % block_size;
        for (int64_t h = 0; h < heads + kv_heads; h++) {
            float *head = row + h * head_dim;
            const float *norm = h < heads ? layer->q_norm : layer->k_norm;
            if (norm)
                norm_row(NULL, head, norm, eps, head_dim, head);
            rotate_head(head, cos + positions[t] * half, sin + positions[t] * half, half);
        }
        for (int64_t h = 0; h < kv_heads; h++) {
            const float *key = row + (heads + h) * head_dim;
            int64_t place = block * kv_heads + h;
            write_key(&layer->cache, place, offset, key, head_dim);
            write_value(&layer->cache, place, offset, key + kv_heads * head_dim, head_dim);
        }
    }
}

#endif

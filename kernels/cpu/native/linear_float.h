/* Linear layers with float weights: tiles of a few tokens by one panel, inputs in their order.
 *
 * Each result is one chain of multiply-adds over the inputs, so it does not depend on which tokens
 * share the tile.
 */
#ifndef OCTAVO_LINEAR_FLOAT_H
#define OCTAVO_LINEAR_FLOAT_H

#include "vectors.h"

#define TILE 6 /* tokens: 12 sums of 8 floats fill the registers of AVX2 */

INLINE void float_tile(const int count, const float *x, int64_t inputs, const void *panel,
                       const int kind, vf sums[][PER_PANEL])
{
    for (int t = 0; t < count; t++)
        for (int v = 0; v < PER_PANEL; v++)
            sums[t][v] = splat(0.0f);
    for (int64_t k = 0; k < inputs; k++) {
        vf weights[PER_PANEL];
        for (int v = 0; v < PER_PANEL; v++) {
            int64_t at = k * PANEL + v * WIDTH;
            weights[v] = kind == WEIGHT_FLOAT32 ? load((const float *)panel + at)
                                                : load_bfloat16((const uint16_t *)panel + at);
        }
        for (int t = 0; t < count; t++) {
            vf input = splat(x[t * inputs + k]);
            for (int v = 0; v < PER_PANEL; v++)
                sums[t][v] = input * weights[v] + sums[t][v];
        }
    }
}

/* The outputs of a panel that exist, plus bias. */
INLINE void store_panel(const linear_t *layer, int64_t panel, const float *sums, float *y)
{
    int64_t first = panel * PANEL, count = layer->outputs - first;
    if (count > PANEL)
        count = PANEL;
    for (int64_t i = 0; i < count; i++)
        y[i + first] = layer->bias ? sums[i] + layer->bias[i + first] : sums[i];
}

INLINE void store_tile(const int count, const linear_t *layer, int64_t panel,
                       vf sums[][PER_PANEL], float *y)
{
    for (int t = 0; t < count; t++) {
        float line[PANEL];
        for (int v = 0; v < PER_PANEL; v++)
            store(line + v * WIDTH, sums[t][v]);
        store_panel(layer, panel, line, y + t * layer->outputs);
    }
}

#define FLOAT_CASE(count)                                                                          \
    case count: {                                                                                  \
        vf sums[count][PER_PANEL];                                                                 \
        float_tile(count, x, layer->inputs, weights, kind, sums);                                  \
        store_tile(count, layer, panel, sums, y);                                                  \
        break;                                                                                     \
    }

INLINE void float_panel(const float *x, const linear_t *layer, int64_t panel, const int kind,
                        int64_t tokens, float *y)
{
    int64_t size = kind == WEIGHT_FLOAT32 ? 4 : 2;
    const void *weights = (const char *)layer->weights + panel * PANEL * layer->inputs * size;
    while (tokens > 0) {
        int count = tokens < TILE ? (int)tokens : TILE;
        switch (count) {
            FLOAT_CASE(1)
            FLOAT_CASE(2)
            FLOAT_CASE(3)
            FLOAT_CASE(4)
            FLOAT_CASE(5)
            FLOAT_CASE(6)
        }
        x += count * layer->inputs;
        y += count * layer->outputs;
        tokens -= count;
    }
}

enum { FLOAT_BLOCK = 48 }; /* tokens whose inputs stay in the second cache while panels pass */

static void linear_float(const float *x, const linear_t *layer, int64_t tokens, float *y)
{
    int64_t panels = (layer->outputs + PANEL - 1) / PANEL;
    int64_t blocks = (tokens + FLOAT_BLOCK - 1) / FLOAT_BLOCK;
    int64_t chunk = panels >= 64 ? 8 : 2;
    int64_t chunks = (panels + chunk - 1) / chunk;
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < chunks * blocks; item++) {
        int64_t first_token = item / chunks * FLOAT_BLOCK, first = item % chunks * chunk;
        int64_t count = tokens - first_token < FLOAT_BLOCK ? tokens - first_token : FLOAT_BLOCK;
        int64_t last = first + chunk < panels ? first + chunk : panels;
        const float *from = x + first_token * layer->inputs;
        float *to = y + first_token * layer->outputs;
        for (int64_t panel = first; panel < last; panel++) {
            if (layer->kind == WEIGHT_FLOAT32)
                float_panel(from, layer, panel, WEIGHT_FLOAT32, count, to);
            else
                float_panel(from, layer, panel, WEIGHT_BFLOAT16, count, to);
        }
    }
}

#endif

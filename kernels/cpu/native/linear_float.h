/* Linear layers with float weights: tiles of a few tokens by one panel, inputs in their order.
 *
 * Each result is one chain of multiply-adds over the inputs, so it does not depend on which tokens
 * share the tile.
 */
#ifndef OCTAVO_LINEAR_FLOAT_H
#define OCTAVO_LINEAR_FLOAT_H

#include "vectors.h"

#define TILE 6 /* tokens: 12 sums of 8 floats fill the registers of AVX2 */

/* Add the products of inputs [first, last) to the sums of `count` tokens. */
INLINE void float_tile(const int count, const float *x, int64_t inputs, const void *panel,
                       const int kind, int64_t first, int64_t last, vf sums[][PER_PANEL])
{
    for (int64_t k = first; k < last; k++) {
        vf weights[PER_PANEL];
        for (int v = 0; v < PER_PANEL; v++) {
            int64_t at = (k - first) * PANEL + v * WIDTH;
            weights[v] = kind == WEIGHT_FLOAT32 ? load((const float *)panel + at)
                                                : load_bfloat16((const uint16_t *)panel + at);
        }
        for (int t = 0; t < count; t++) {
            vf input = splat(x[t * inputs + k]);
            for (int v = 0; v < PER_PANEL; v++)
                sums[t][v] = multiply_add(input, weights[v], sums[t][v]);
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

/* float_tile from and to memory: sums [count][16]. */
INLINE void float_sums(const int count, const float *x, int64_t inputs, const void *panel,
                       const int kind, int64_t first, int64_t last, float *memory)
{
    vf sums[TILE][PER_PANEL];
    for (int t = 0; t < count; t++)
        for (int v = 0; v < PER_PANEL; v++)
            sums[t][v] = load(memory + t * PANEL + v * WIDTH);
    float_tile(count, x, inputs, panel, kind, first, last, sums);
    for (int t = 0; t < count; t++)
        for (int v = 0; v < PER_PANEL; v++)
            store(memory + t * PANEL + v * WIDTH, sums[t][v]);
}

#define FLOAT_CASE(count)                                                                          \
    case count: float_sums(count, x, inputs, panel, kind, first, last, sums); break;

INLINE void float_tokens(const float *x, int64_t inputs, const void *panel, const int kind,
                         int64_t first, int64_t last, int64_t tokens, float *sums)
{
    for (; tokens > 0; tokens -= TILE, x += TILE * inputs, sums += TILE * PANEL)
        switch (tokens) {
            FLOAT_CASE(1)
            FLOAT_CASE(2)
            FLOAT_CASE(3)
            FLOAT_CASE(4)
            FLOAT_CASE(5)
        default: float_sums(TILE, x, inputs, panel, kind, first, last, sums);
        }
}

enum {
    FLOAT_BLOCK = 48, /* tokens whose inputs stay in the second cache while panels pass */
    WIDENED = 256     /* inputs of a bfloat16 panel that are widened at a time */
};

/* Several tiles read a panel: bfloat16 weights are then widened once for all of them. */
INLINE void float_panel(const float *x, const linear_t *layer, int64_t panel, const int kind,
                        int64_t tokens, float *y)
{
    int64_t size = kind == WEIGHT_FLOAT32 ? 4 : 2, inputs = layer->inputs;
    const char *weights = (const char *)layer->weights + panel * PANEL * inputs * size;
    float sums[FLOAT_BLOCK * PANEL] = {0}, wide[WIDENED * PANEL];
    if (kind == WEIGHT_FLOAT32 || tokens <= TILE) {
        float_tokens(x, inputs, weights, kind, 0, inputs, tokens, sums);
    } else {
        for (int64_t first = 0; first < inputs; first += WIDENED) {
            int64_t last = first + WIDENED < inputs ? first + WIDENED : inputs;
            const uint16_t *from = (const uint16_t *)weights + first * PANEL;
            for (int64_t i = 0; i < (last - first) * PANEL; i += WIDTH)
                store(wide + i, load_bfloat16(from + i));
            float_tokens(x, inputs, wide, WEIGHT_FLOAT32, first, last, tokens, sums);
        }
    }
    for (int64_t t = 0; t < tokens; t++)
        store_panel(layer, panel, sums + t * PANEL, y + t * layer->outputs);
}

/* What a thread takes at a time: a few panels for a block of tokens. */
typedef struct {
    int64_t first_token, num_tokens, first_panel, last_panel; /* the last panel excluded */
} piece_t;

typedef struct {
    int64_t tokens, block, panels, per_piece, pieces_of_block;
} cut_t;

INLINE cut_t cut_work(const linear_t *layer, int64_t tokens, int64_t block)
{
    cut_t cut = {.tokens = tokens, .block = block, .panels = (layer->outputs + PANEL - 1) / PANEL};
    cut.per_piece = cut.panels >= 64 ? 8 : 2;
    cut.pieces_of_block = (cut.panels + cut.per_piece - 1) / cut.per_piece;
    return cut;
}

INLINE int64_t count_pieces(const cut_t *cut)
{
    return (cut->tokens + cut->block - 1) / cut->block * cut->pieces_of_block;
}

INLINE piece_t piece_at(const cut_t *cut, int64_t index)
{
    piece_t piece = {.first_token = index / cut->pieces_of_block * cut->block,
                     .first_panel = index % cut->pieces_of_block * cut->per_piece};
    int64_t left = cut->tokens - piece.first_token, last = piece.first_panel + cut->per_piece;
    piece.num_tokens = left < cut->block ? left : cut->block;
    piece.last_panel = last < cut->panels ? last : cut->panels;
    return piece;
}

static void linear_float(const float *x, const linear_t *layer, int64_t tokens, float *y)
{
    const cut_t cut = cut_work(layer, tokens, FLOAT_BLOCK);
#pragma omp for schedule(dynamic)
    for (int64_t index = 0; index < count_pieces(&cut); index++) {
        const piece_t piece = piece_at(&cut, index);
        const float *from = x + piece.first_token * layer->inputs;
        float *to = y + piece.first_token * layer->outputs;
        for (int64_t panel = piece.first_panel; panel < piece.last_panel; panel++) {
            if (layer->kind == WEIGHT_FLOAT32)
                float_panel(from, layer, panel, WEIGHT_FLOAT32, piece.num_tokens, to);
            else
                float_panel(from, layer, panel, WEIGHT_BFLOAT16, piece.num_tokens, to);
        }
    }
}

#endif

/* Attention of new tokens over the blocks of their sequences.
 *
 * The work is cut into tiles: a few query tokens of one sequence, with all query heads of one KV
 * head. A row is one query token and head. Scores are taken KEYS at a time with the softmax of
 * "Online normalizer calculation for softmax" (Milakov and Gimelshein, 2018). PARTITION keys at
 * fixed places make a partial result, and the partials of a row are merged in order. So a row's
 * arithmetic depends neither on its tile nor on who computes its partitions.
 */
#ifndef OCTAVO_ATTENTION_H
#define OCTAVO_ATTENTION_H

#include <omp.h>

#include "attention_tile.h"

/* The partial result of one row: maximum and sum of its weights, and the weighted values. */
typedef struct {
    float most, total;
} weight_t;

/* Scores of `count` rows against KEYS keys. */
INLINE void score_rows(const int count, const int kind, const tile_t *tile, int64_t row,
                       const part_t *keys, vf scores[][PER_KEYS])
{
    const float *query = tile->query + row * tile->padded_dim;
    for (int r = 0; r < count; r++)
        for (int v = 0; v < PER_KEYS; v++)
            scores[r][v] = splat(0.0f);
    for (int64_t d = 0; d < tile->head_dim; d++) {
        vf key[PER_KEYS];
        for (int v = 0; v < PER_KEYS; v++)
            key[v] = load_part(kind, keys, d * keys->stride + v * WIDTH);
        for (int r = 0; r < count; r++)
            for (int v = 0; v < PER_KEYS; v++)
                scores[r][v] = multiply_add(splat(query[r * tile->padded_dim + d]), key[v],
                                            scores[r][v]);
    }
}

/* Add the weighted values of `present` keys to the outputs of `count` rows. */
INLINE void add_values(const int count, const int kind, const tile_t *tile, int64_t present,
                       const part_t *values, const float *weights, const float *decay,
                       float *output)
{
    int64_t width = tile->padded_dim;
    for (int64_t d = 0; d < width; d += WIDTH * PER_KEYS) {
        vf sums[4][PER_KEYS];
        int vectors = width - d < WIDTH * PER_KEYS ? (int)((width - d) / WIDTH) : PER_KEYS;
        if (vectors == PER_KEYS) {
            for (int r = 0; r < count; r++)
                for (int v = 0; v < PER_KEYS; v++)
                    sums[r][v] = load(output + r * width + d + v * WIDTH) * splat(decay[r]);
            for (int64_t j = 0; j < present; j++) {
                vf value[PER_KEYS];
                for (int v = 0; v < PER_KEYS; v++)
                    value[v] = load_part(kind, values, j * values->stride + d + v * WIDTH);
                for (int r = 0; r < count; r++)
                    for (int v = 0; v < PER_KEYS; v++)
                        sums[r][v] =
                            multiply_add(splat(weights[r * KEYS + j]), value[v], sums[r][v]);
            }
            for (int r = 0; r < count; r++)
                for (int v = 0; v < PER_KEYS; v++)
                    store(output + r * width + d + v * WIDTH, sums[r][v]);
        } else {
            for (int r = 0; r < count; r++) {
                vf one = load(output + r * width + d) * splat(decay[r]);
                for (int64_t j = 0; j < present; j++)
                    one = multiply_add(splat(weights[r * KEYS + j]),
                                       load_part(kind, values, j * values->stride + d), one);
                store(output + r * width + d, one);
            }
        }
    }
}

INLINE void attend_rows(const int count, const tile_t *tile, int64_t row, int64_t first,
                        int64_t present, const part_t *keys, const part_t *values,
                        weight_t *state, float *output)
{
    vf scores[4][PER_KEYS], places[PER_KEYS];
    float weights[4 * KEYS], decay[4];
    if (keys->kind == KV_FLOAT32)
        score_rows(count, KV_FLOAT32, tile, row, keys, scores);
    else
        score_rows(count, KV_BFLOAT16, tile, row, keys, scores);
    for (int v = 0; v < PER_KEYS; v++)
        for (int i = 0; i < WIDTH; i++)
            places[v][i] = (float)(v * WIDTH + i);
    for (int r = 0; r < count; r++) {
        int64_t newest = tile->positions[row + r] - first; /* place of the last visible key */
        float last = newest < KEYS ? (float)newest : KEYS;
        float before = -1;
        if (tile->window > 0 && newest - tile->window >= 0)
            before = newest - tile->window < KEYS ? (float)(newest - tile->window) : KEYS;
        float most = state[r].most;
        for (int v = 0; v < PER_KEYS; v++) {
            vi is_visible = (places[v] <= splat(last)) & (places[v] > splat(before));
            scores[r][v] = choose(is_visible, scores[r][v], splat(NEVER));
            float here = largest(scores[r][v]);
            most = here > most ? here : most;
        }
        decay[r] = 1;
        if (most == NEVER) { /* nothing visible yet: all weights are 0, not e^0 */
            memset(weights + r * KEYS, 0, KEYS * 4);
            continue;
        }
        if (most != state[r].most) {
            vf change = vexp(splat(state[r].most - most));
            decay[r] = change[0];
        }
        vf total = splat(0.0f);
        for (int v = 0; v < PER_KEYS; v++) {
            vf weight = vexp(scores[r][v] - splat(most));
            store(weights + r * KEYS + v * WIDTH, weight);
            total = total + weight;
        }
        state[r].most = most;
        state[r].total = state[r].total * decay[r] + sum(total);
    }
    if (values->kind == KV_FLOAT32)
        add_values(count, KV_FLOAT32, tile, present, values, weights, decay, output);
    else
        add_values(count, KV_BFLOAT16, tile, present, values, weights, decay, output);
}

/* The tile's partial result over keys [first, last), which is a part of one PARTITION. */
static void attend_partition(const tile_t *tile, int64_t first, int64_t last, weight_t *state,
                             float *output)
{
    float keys_scratch[MAX_HEAD_DIM * KEYS], values_scratch[KEYS * MAX_HEAD_DIM];
    for (int64_t r = 0; r < tile->num_rows; r++)
        state[r] = (weight_t){NEVER, 0};
    memset(output, 0, (size_t)(tile->num_rows * tile->padded_dim) * 4);
    for (int64_t key = first; key < last; key += KEYS) {
        int64_t present = last - key < KEYS ? last - key : KEYS;
        if (key + KEYS < last)
            prefetch(tile, key + KEYS);
        const part_t keys = gather_keys(tile, key, keys_scratch);
        const part_t values = gather_values(tile, key, present, values_scratch);
        for (int64_t row = 0; row < tile->num_rows;) {
            int64_t rest = tile->num_rows - row;
            weight_t *weight = state + row;
            float *to = output + row * tile->padded_dim;
            if (rest >= 4) {
                attend_rows(4, tile, row, key, present, &keys, &values, weight, to);
                row += 4;
            } else if (rest == 3) {
                attend_rows(3, tile, row, key, present, &keys, &values, weight, to);
                row += 3;
            } else if (rest == 2) {
                attend_rows(2, tile, row, key, present, &keys, &values, weight, to);
                row += 2;
            } else {
                attend_rows(1, tile, row, key, present, &keys, &values, weight, to);
                row += 1;
            }
        }
    }
}

/* Add one row's partial result to what was merged before it. */
static void merge_row(weight_t part, const float *values, weight_t *whole, float *output,
                      int64_t width)
{
    if (part.most == NEVER)
        return;
    float most = part.most > whole->most ? part.most : whole->most;
    vf old = vexp(splat(whole->most - most)), new = vexp(splat(part.most - most));
    for (int64_t d = 0; d < width; d += WIDTH)
        store(output + d, multiply_add(load(output + d), old, load(values + d) * new));
    whole->total = whole->total * old[0] + part.total * new[0];
    whole->most = most;
}

static void finish_row(weight_t whole, const float *output, int64_t width, float *y)
{
    float factor = 1.0f / whole.total;
    for (int64_t d = 0; d < width; d++)
        y[d] = output[d] * factor;
}

typedef struct {
    const float *query;
    int64_t query_stride, heads, kv_heads, head_dim;
    float scale;
    int64_t window;
    const plan_t *plan;
    const cache_t *cache;
    float *y;
} attention_t;

INLINE int64_t tokens_of_tile(int64_t heads_of_group)
{
    return heads_of_group < MAX_ROWS ? MAX_ROWS / heads_of_group : 1;
}

/* Heads of a group beyond MAX_ROWS go to further tiles of the same tokens. */
INLINE int64_t rows_of_tile(int64_t heads_of_group)
{
    return heads_of_group < MAX_ROWS ? heads_of_group : MAX_ROWS;
}

static void load_tile(const attention_t *a, const span_t *span, int64_t first_token,
                      int64_t kv_head, int64_t first_head, tile_t *tile)
{
    int64_t group = a->heads / a->kv_heads, width = rows_of_tile(group);
    int64_t tokens = span->length - first_token, most = tokens_of_tile(group);
    if (tokens > most)
        tokens = most;
    if (group - first_head < width)
        width = group - first_head;
    tile->cache = a->cache;
    tile->table = a->plan->tables + span->row * a->plan->table_stride;
    tile->kv_head = kv_head;
    tile->kv_heads = a->kv_heads;
    tile->head_dim = a->head_dim;
    tile->padded_dim = (a->head_dim + WIDTH - 1) / WIDTH * WIDTH;
    tile->window = a->window;
    tile->num_rows = tokens * width;
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t h = 0; h < width; h++) {
            int64_t row = t * width + h;
            const float *from = a->query + (span->start + first_token + t) * a->query_stride +
                                (kv_head * group + first_head + h) * a->head_dim;
            float *to = tile->query + row * tile->padded_dim;
            tile->positions[row] = span->context - span->length + first_token + t;
            for (int64_t d = 0; d < tile->padded_dim; d++)
                to[d] = d < a->head_dim ? from[d] * a->scale : 0;
        }
}

static void store_row(const attention_t *a, const span_t *span, const tile_t *tile, int64_t row,
                      int64_t first_head, weight_t whole, const float *output)
{
    int64_t group = a->heads / a->kv_heads, left = group - first_head;
    int64_t width = left < rows_of_tile(group) ? left : rows_of_tile(group);
    int64_t token = span->start + tile->positions[row] - (span->context - span->length);
    int64_t head = tile->kv_head * group + first_head + row % width;
    finish_row(whole, output, a->head_dim, a->y + (token * a->heads + head) * a->head_dim);
}

INLINE int64_t first_key(const tile_t *tile)
{
    int64_t oldest = tile->positions[0] - tile->window + 1;
    return tile->window > 0 && oldest > 0 ? oldest / KEYS * KEYS : 0;
}

static void attend_tile(const attention_t *a, const span_t *span, int64_t first_token,
                        int64_t kv_head, int64_t first_head)
{
    tile_t tile;
    weight_t part[MAX_ROWS], whole[MAX_ROWS];
    float partial[MAX_ROWS * MAX_HEAD_DIM], output[MAX_ROWS * MAX_HEAD_DIM];
    load_tile(a, span, first_token, kv_head, first_head, &tile);
    int64_t width = tile.padded_dim, end = tile.positions[tile.num_rows - 1] + 1;
    for (int64_t r = 0; r < tile.num_rows; r++)
        whole[r] = (weight_t){NEVER, 0};
    memset(output, 0, (size_t)(tile.num_rows * width) * 4);
    for (int64_t key = first_key(&tile); key < end;) {
        int64_t last = (key / PARTITION + 1) * PARTITION;
        attend_partition(&tile, key, last < end ? last : end, part, partial);
        for (int64_t r = 0; r < tile.num_rows; r++)
            merge_row(part[r], partial + r * width, whole + r, output + r * width, width);
        key = last;
    }
    for (int64_t r = 0; r < tile.num_rows; r++)
        store_row(a, span, &tile, r, first_head, whole[r], output + r * width);
}

/* Decoding: partitions are computed apart, by whoever is free, into `scratch`. */
static void attend_split(const attention_t *a, int64_t partitions, void *scratch)
{
    int64_t group = a->heads / a->kv_heads, padded = (a->head_dim + WIDTH - 1) / WIDTH * WIDTH;
    int64_t tiles = a->plan->num_spans * a->kv_heads;
    weight_t *parts = scratch; /* [tiles][partitions][group] */
    float *partials = (float *)(parts + tiles * partitions * group);
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < tiles * partitions; item++) {
        int64_t tile_index = item / partitions, first = item % partitions * PARTITION;
        const span_t *span = a->plan->spans + tile_index / a->kv_heads;
        tile_t tile;
        load_tile(a, span, 0, tile_index % a->kv_heads, 0, &tile);
        int64_t last = first + PARTITION < span->context ? first + PARTITION : span->context;
        int64_t oldest = first_key(&tile);
        attend_partition(&tile, first > oldest ? first : oldest, last, parts + item * group,
                         partials + item * group * padded);
    }
#pragma omp for schedule(static)
    for (int64_t tile_index = 0; tile_index < tiles; tile_index++) {
        const span_t *span = a->plan->spans + tile_index / a->kv_heads;
        int64_t kv_head = tile_index % a->kv_heads;
        for (int64_t r = 0; r < group; r++) {
            float output[MAX_HEAD_DIM] = {0};
            weight_t whole = {NEVER, 0};
            for (int64_t p = 0; p < partitions; p++) {
                int64_t at = (tile_index * partitions + p) * group + r;
                merge_row(parts[at], partials + at * padded, &whole, output, padded);
            }
            finish_row(whole, output, a->head_dim,
                       a->y + (span->start * a->heads + kv_head * group + r) * a->head_dim);
        }
    }
}

/* Whether to split, and into how many partitions: few tiles of long contexts, all decoding. */
static int64_t split_of(const attention_t *a, int64_t threads)
{
    int64_t longest = 0;
    if (a->plan->num_spans * a->kv_heads >= 4 * threads || a->heads / a->kv_heads > MAX_ROWS)
        return 0;
    for (int64_t s = 0; s < a->plan->num_spans; s++) {
        if (a->plan->spans[s].length != 1)
            return 0;
        if (a->plan->spans[s].context > longest)
            longest = a->plan->spans[s].context;
    }
    return longest > PARTITION ? (longest + PARTITION - 1) / PARTITION : 0;
}

/* query [tokens][query_stride]; y [tokens][heads][head_dim]; `scratch` as `attention_bytes` says. */
static void attend(const float *query, int64_t query_stride, const plan_t *plan,
                   const cache_t *cache, int64_t window, int64_t heads, int64_t kv_heads,
                   int64_t head_dim, float scale, float *y, void *scratch)
{
    const attention_t a = {.query = query, .query_stride = query_stride, .heads = heads,
                           .kv_heads = kv_heads, .head_dim = head_dim, .scale = scale,
                           .window = window, .plan = plan, .cache = cache, .y = y};
    int64_t partitions = split_of(&a, omp_get_num_threads());
    if (partitions) {
        attend_split(&a, partitions, scratch);
        return;
    }
    int64_t group = heads / kv_heads, size = tokens_of_tile(group);
    int64_t head_parts = (group + MAX_ROWS - 1) / MAX_ROWS;
    int64_t *first_tile = scratch; /* [spans + 1] */
#pragma omp single
    {
        first_tile[0] = 0;
        for (int64_t s = 0; s < plan->num_spans; s++)
            first_tile[s + 1] = first_tile[s] + (plan->spans[s].length + size - 1) / size;
    }
    int64_t per_tile = kv_heads * head_parts;
    int64_t items = first_tile[plan->num_spans] * per_tile;
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < items; item++) {
        int64_t tile = item / per_tile, low = 0, high = plan->num_spans;
        while (high - low > 1) { /* the span of this tile */
            int64_t middle = (low + high) / 2;
            if (first_tile[middle] <= tile)
                low = middle;
            else
                high = middle;
        }
        attend_tile(&a, plan->spans + low, (tile - first_tile[low]) * size,
                    item % per_tile / head_parts, item % head_parts * MAX_ROWS);
    }
}

#endif

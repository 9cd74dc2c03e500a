/* What a tile of attention reads: its query rows, and the keys and values of its blocks. */
#ifndef OCTAVO_ATTENTION_TILE_H
#define OCTAVO_ATTENTION_TILE_H

#include "vectors.h"

enum { MAX_ROWS = 32, PER_KEYS = KEYS / WIDTH };

typedef struct {
    const cache_t *cache;
    const int64_t *table;
    int64_t kv_head, kv_heads, head_dim, padded_dim; /* padded to whole vectors */
    int64_t window;
    int64_t num_rows;
    int64_t positions[MAX_ROWS];                      /* of each row's token */
    float query[MAX_ROWS * MAX_HEAD_DIM];             /* scaled, [rows][padded_dim] */
} tile_t;

/* Keys or values of KEYS tokens: keys [head_dim][stride], values [KEYS][stride]. */
typedef struct {
    const void *from;
    int64_t stride;
    int32_t kind;
} part_t;

INLINE vf load_part(const int kind, const part_t *part, int64_t at)
{
    return kind == KV_FLOAT32 ? load((const float *)part->from + at)
                              : load_bfloat16((const uint16_t *)part->from + at);
}

/* Whether bfloat16 is widened by each row that reads it, instead of once for all in `scratch`. */
INLINE int widens_late(const tile_t *tile) { return tile->num_rows <= 4; }

/* KEYS keys from `first` on, in place if they lie together, else in `scratch`. */
static part_t gather_keys(const tile_t *tile, int64_t first, float *scratch)
{
    const cache_t *cache = tile->cache;
    int64_t size = cache->block_size, width = tile->head_dim;
    const part_t gathered = {scratch, KEYS, KV_FLOAT32};
    if (size % KEYS == 0) {
        int64_t place = tile->table[first / size] * tile->kv_heads + tile->kv_head;
        int64_t at = place * width * size + first % size;
        if (cache->kind == KV_FLOAT32)
            return (part_t){(const float *)cache->keys + at, size, KV_FLOAT32};
        if (widens_late(tile))
            return (part_t){(const uint16_t *)cache->keys + at, size, KV_BFLOAT16};
        for (int64_t d = 0; d < width; d++)
            for (int v = 0; v < PER_KEYS; v++) {
                const uint16_t *from = (const uint16_t *)cache->keys + at + d * size + v * WIDTH;
                store(scratch + d * KEYS + v * WIDTH, load_bfloat16(from));
            }
        return gathered;
    }
    int64_t newest = tile->positions[tile->num_rows - 1]; /* blocks beyond it have no entry */
    for (int64_t j = 0; j < KEYS; j++) {
        int64_t key = first + j <= newest ? first + j : newest;
        int64_t place = tile->table[key / size] * tile->kv_heads + tile->kv_head;
        int64_t at = place * width * size + key % size;
        for (int64_t d = 0; d < width; d++) {
            int64_t from = at + d * size;
            scratch[d * KEYS + j] = cache->kind == KV_FLOAT32
                                        ? ((const float *)cache->keys)[from]
                                        : widen_bfloat16(((const uint16_t *)cache->keys)[from]);
        }
    }
    return gathered;
}

/* `count` values from `first` on, in place if they lie together and fill whole vectors. */
static part_t gather_values(const tile_t *tile, int64_t first, int64_t count, float *scratch)
{
    const cache_t *cache = tile->cache;
    int64_t size = cache->block_size, width = tile->head_dim;
    if (size % KEYS == 0 && width == tile->padded_dim) {
        int64_t place = tile->table[first / size] * tile->kv_heads + tile->kv_head;
        int64_t at = (place * size + first % size) * width;
        if (cache->kind == KV_FLOAT32)
            return (part_t){(const float *)cache->values + at, width, KV_FLOAT32};
        if (widens_late(tile))
            return (part_t){(const uint16_t *)cache->values + at, width, KV_BFLOAT16};
    }
    for (int64_t j = 0; j < count; j++) {
        int64_t key = first + j;
        int64_t place = tile->table[key / size] * tile->kv_heads + tile->kv_head;
        int64_t at = (place * size + key % size) * width;
        float *to = scratch + j * tile->padded_dim;
        int64_t d = 0;
        if (cache->kind == KV_FLOAT32) {
            memcpy(to, (const float *)cache->values + at, (size_t)width * 4);
            d = width;
        } else {
            const uint16_t *from = (const uint16_t *)cache->values + at;
            for (; d + WIDTH <= width; d += WIDTH)
                store(to + d, load_bfloat16(from + d));
            for (; d < width; d++)
                to[d] = widen_bfloat16(from[d]);
        }
        for (; d < tile->padded_dim; d++)
            to[d] = 0;
    }
    return (part_t){scratch, tile->padded_dim, KV_FLOAT32};
}

/* Blocks lie anywhere, so no processor foresees the next one; its bytes are asked for early. */
static void prefetch(const tile_t *tile, int64_t first)
{
    const cache_t *cache = tile->cache;
    int64_t size = cache->block_size, bytes = cache->kind == KV_FLOAT32 ? 4 : 2;
    int64_t place = tile->table[first / size] * tile->kv_heads + tile->kv_head;
    int64_t block = size * tile->head_dim * bytes;
    const char *keys = (const char *)cache->keys + place * block;
    const char *values = (const char *)cache->values + place * block;
    for (int64_t at = 0; at < block && size == KEYS; at += 64) {
        __builtin_prefetch(keys + at);
        __builtin_prefetch(values + at);
    }
}

#endif

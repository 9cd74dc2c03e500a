/* The structures that Python fills and the native kernels read. All pointers are borrowed.
 *
 * Matrices are row-major and dense unless a stride is given; sizes are counts of elements.
 */
#ifndef OCTAVO_H
#define OCTAVO_H

#include <stdint.h>

enum weight_kind { WEIGHT_FLOAT32, WEIGHT_BFLOAT16, WEIGHT_INT4, WEIGHT_INT8 };
enum kv_kind { KV_FLOAT32, KV_BFLOAT16 };

enum {
    PANEL = 16,      /* outputs of a linear layer that lie together */
    GROUP = 32,      /* inputs that share a scale, in integer weights */
    KEYS = 16,       /* keys that attention scores at a time */
    PARTITION = 256, /* keys whose partial attention is kept apart, whatever the batch */
    MAX_HEAD_DIM = 256
};

/* y = x W^T + bias. Weights are packed by `pack_*` into panels of 16 outputs:
 *   float   [panels][inputs][16]
 *   int4    [panels][groups][4][16][4] bytes: byte (j, r, i) holds input 4 j + i of output r in its
 *           low half and input 16 + 4 j + i in its high half; float16 scales and minimums
 *           [panels][groups][16]
 *   int8    [panels][groups][8][16][4] bytes; float16 scales [panels][groups][16]
 */
typedef struct {
    const void *weights;
    const uint16_t *scales;
    const uint16_t *minimums;
    const float *bias; /* [outputs] or NULL */
    int64_t outputs;
    int64_t inputs;
    int32_t kind;
} linear_t;

/* The query tokens [start, start + length) of the step: the last of `context` tokens. */
typedef struct {
    int64_t row; /* of the block tables */
    int64_t start;
    int64_t length;
    int64_t context;
} span_t;

typedef struct {
    const span_t *spans;
    const int64_t *tables; /* [rows][table_stride] block ids */
    int64_t num_spans;
    int64_t table_stride;
} plan_t;

/* One layer's cache. Keys of a block lie transposed, so that scores need no shuffling:
 *   keys    [blocks][kv_heads][head_dim][block_size]
 *   values  [blocks][kv_heads][block_size][head_dim]
 */
typedef struct {
    void *keys;
    void *values;
    int64_t block_size;
    int32_t kind;
} cache_t;

typedef struct {
    linear_t qkv, output, gate_up, down;
    const float *input_norm, *post_norm;
    const float *q_norm, *k_norm; /* [head_dim] or NULL */
    cache_t cache;
    int64_t window; /* 0: none */
} layer_t;

/* Rows of an embedding as they came: float32 or bfloat16 [vocab][hidden], or a GGUF file's groups:
 * int4 [vocab][groups][16] bytes, of which byte i holds weights i and 16 + i; int8 [vocab][hidden]. */
typedef struct {
    const void *weights;
    const uint16_t *scales, *minimums; /* float16 [vocab][groups] */
    int32_t kind;
} embedding_t;

typedef struct {
    embedding_t embedding;
    const layer_t *layers;
    const float *norm;      /* [hidden] */
    const float *cos, *sin; /* [positions][head_dim / 2] */
    int64_t num_layers, hidden, intermediate;
    int64_t num_heads, num_kv_heads, head_dim;
    float eps, scale;
} model_t;

typedef struct {
    const int64_t *token_ids; /* [tokens] */
    const int64_t *positions; /* [tokens] */
    const int64_t *slots;     /* [tokens] */
    const int64_t *rows;      /* [num_rows] tokens whose states are wanted */
    float *states;            /* [num_rows][hidden], the result */
    void *workspace;
    int64_t num_tokens, num_rows;
    plan_t plan;
} step_t;

/* How a row of logits draws its token. */
typedef struct {
    float inverse_temperature; /* 0: the most likely token */
    float min_p, top_p;
    int64_t top_k; /* 0: all */
    uint32_t key_low, key_high;
} draw_t;

/* What a variant of the kernels for one kind of processor offers. */
typedef struct {
    const char *name;
    void (*linear)(const float *x, const linear_t *layer, int64_t tokens, float *y, void *scratch);
    void (*add_rms_norm)(const float *x, float *residual, const float *weight, float eps,
                         int64_t tokens, int64_t width, float *y);
    void (*silu_mul)(const float *gate_up, int64_t tokens, int64_t width, float *y);
    void (*rotate_and_write)(float *qkv, const float *cos, const float *sin,
                             const int64_t *positions, const int64_t *slots, const layer_t *layer,
                             int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim,
                             float eps);
    void (*attend)(const float *query, int64_t query_stride, const plan_t *plan,
                   const cache_t *cache, int64_t window, int64_t heads, int64_t kv_heads,
                   int64_t head_dim, float scale, float *y, void *scratch);
    void (*forward)(const model_t *model, const step_t *step);
    void (*draw)(const float *logits, const draw_t *draws, int64_t rows, int64_t vocab,
                 int64_t *tokens);
} kernels_t;

#endif

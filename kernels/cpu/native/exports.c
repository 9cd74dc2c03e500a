/* What Python calls: the choice of a variant, packing of weights, and sizes of workspaces. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "octavo.h"

extern const kernels_t octavo_generic;
#if defined(__x86_64__) && defined(__GNUC__)
extern const kernels_t octavo_avx2, octavo_avx512;
#endif

/* The kernels of this name, or NULL if they are unknown or this processor cannot run them. */
const kernels_t *octavo_kernels(const char *name)
{
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    int has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                   __builtin_cpu_supports("f16c");
    int has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") &&
                     __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                     __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
    if (has_avx512 && !strcmp(name, "avx512"))
        return &octavo_avx512;
    if (has_avx2 && !strcmp(name, "avx2"))
        return &octavo_avx2;
#endif
    return strcmp(name, "generic") ? NULL : &octavo_generic;
}

static int64_t panels_of(int64_t outputs) { return (outputs + PANEL - 1) / PANEL; }

/* [outputs][inputs] to [panels][inputs][16]; `size` is the bytes of a weight, 2 or 4. */
void octavo_pack_float(const char *weights, int64_t outputs, int64_t inputs, int64_t size, char *to)
{
    memset(to, 0, (size_t)(panels_of(outputs) * PANEL * inputs * size));
#pragma omp parallel for schedule(static, PANEL)
    for (int64_t n = 0; n < outputs; n++)
        for (int64_t k = 0; k < inputs; k++)
            memcpy(to + ((n / PANEL * inputs + k) * PANEL + n % PANEL) * size,
                   weights + (n * inputs + k) * size, (size_t)size);
}

/* GGUF's order, byte i of a group's 16 holding its inputs i and i + 16, to `linear_t`'s. */
void octavo_pack_int4(const uint8_t *weights, int64_t outputs, int64_t inputs, uint8_t *to)
{
    int64_t groups = inputs / GROUP;
    memset(to, 0, (size_t)(panels_of(outputs) * PANEL * inputs / 2));
#pragma omp parallel for schedule(static, PANEL)
    for (int64_t n = 0; n < outputs; n++)
        for (int64_t g = 0; g < groups; g++)
            for (int64_t j = 0; j < 4; j++)
                memcpy(to + (((n / PANEL * groups + g) * 4 + j) * PANEL + n % PANEL) * 4,
                       weights + (n * groups + g) * 16 + 4 * j, 4);
}

/* [outputs][inputs] to `linear_t`'s order; -128, which has no positive twin, becomes -127. */
void octavo_pack_int8(const int8_t *weights, int64_t outputs, int64_t inputs, int8_t *to)
{
    int64_t groups = inputs / GROUP;
    memset(to, 0, (size_t)(panels_of(outputs) * PANEL * inputs));
#pragma omp parallel for schedule(static, PANEL)
    for (int64_t n = 0; n < outputs; n++)
        for (int64_t g = 0; g < groups; g++)
            for (int64_t j = 0; j < 8; j++) {
                const int8_t *from = weights + (n * groups + g) * GROUP + 4 * j;
                int8_t *quad = to + (((n / PANEL * groups + g) * 8 + j) * PANEL + n % PANEL) * 4;
                for (int64_t i = 0; i < 4; i++)
                    quad[i] = from[i] < -127 ? -127 : from[i];
            }
}

/* float16 [outputs][groups] to [panels][groups][16]. */
void octavo_pack_scales(const uint16_t *scales, int64_t outputs, int64_t groups, uint16_t *to)
{
    memset(to, 0, (size_t)(panels_of(outputs) * PANEL * groups) * 2);
    for (int64_t n = 0; n < outputs; n++)
        for (int64_t g = 0; g < groups; g++)
            to[(n / PANEL * groups + g) * PANEL + n % PANEL] = scales[n * groups + g];
}

/* In so many rows of logits [][vocab], -infinity for every token whose bit in words [count][words]
 * is clear. Most words of a mask are all set or all clear. */
void octavo_forbid(const int64_t *rows, const uint32_t *words, int64_t count, int64_t num_words,
                   int64_t vocab, float *logits)
{
    for (int64_t i = 0; i < count; i++) {
        float *row = logits + rows[i] * vocab;
        for (int64_t w = 0; w < num_words; w++) {
            uint32_t word = words[i * num_words + w];
            if (word == UINT32_MAX)
                continue;
            int64_t last = w * 32 + 32 < vocab ? 32 : vocab - w * 32;
            for (int64_t bit = 0; bit < last; bit++)
                if (!(word >> bit & 1))
                    row[w * 32 + bit] = -INFINITY;
        }
    }
}

/* Bytes of `linear`'s scratch. */
int64_t octavo_linear_bytes(int64_t tokens, int64_t inputs)
{
    return tokens * (inputs + inputs / GROUP * 8) + 64;
}

/* Bytes of `attend`'s scratch, for so many sequences with contexts of up to `context` tokens. */
int64_t octavo_attention_bytes(int64_t spans, int64_t context, int64_t heads, int64_t kv_heads,
                               int64_t head_dim)
{
    int64_t partitions = (context + PARTITION - 1) / PARTITION;
    int64_t padded = (head_dim + 15) / 16 * 16;
    int64_t most = 4 * (int64_t)omp_get_max_threads(); /* tiles that are worth splitting */
    int64_t tiles = spans * kv_heads < most ? spans * kv_heads : most;
    int64_t split = tiles * partitions * (heads / kv_heads) * (padded + 2) * 4;
    int64_t list = (spans + 1) * 8;
    return split > list ? split : list;
}

/* Bytes of `forward`'s workspace. */
int64_t octavo_workspace_bytes(const model_t *m, int64_t tokens, int64_t spans, int64_t context)
{
    int64_t heads = m->num_heads * m->head_dim, kv = m->num_kv_heads * m->head_dim;
    int64_t widest = m->hidden > m->intermediate ? m->hidden : m->intermediate;
    int64_t floats = 3 * m->hidden + 2 * heads + 2 * kv + 3 * m->intermediate;
    int64_t scratch = octavo_linear_bytes(tokens, heads > widest ? heads : widest);
    int64_t attention =
        octavo_attention_bytes(spans, context, m->num_heads, m->num_kv_heads, m->head_dim);
    return tokens * floats * 4 + (scratch > attention ? scratch : attention) + 64;
}

/* Linear layers whose weights stay integers; the inputs become int8, in groups of 32 with a scale.
 *
 * For a group, with weights s q + m and inputs t x (q, x integers):
 *   sum (s q + m) t x  =  t (s sum q x  +  m sum x)
 * The sums of products are integers; groups are added up in float, in their order, whatever tokens
 * share the batch. m is 0 for int8 weights.
 */
#ifndef OCTAVO_LINEAR_INT_H
#define OCTAVO_LINEAR_INT_H

#include "linear_float.h"

enum { QUADS = GROUP / 4 };

/* Quads are 4 inputs of each of WIDTH outputs: WIDTH * 4 bytes. */
#if defined(VARIANT_AVX512)

typedef __m512i quads_t;
INLINE quads_t load_quads(const uint8_t *from) { return _mm512_loadu_si512(from); }
INLINE quads_t low_halves(quads_t q) { return _mm512_and_si512(q, _mm512_set1_epi8(15)); }
INLINE quads_t high_halves(quads_t q) { return low_halves(_mm512_srli_epi16(q, 4)); }
INLINE vf half_floats(const uint16_t *from)
{
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
}

/* Products of a group's weights, in 0..15, with the inputs of `count` tokens, summed by output. */
INLINE void dot_int4(const int count, const quads_t *weights, const int8_t *x, vf *sums)
{
    __m512i totals[2];
    for (int t = 0; t < count; t++)
        totals[t] = _mm512_setzero_si512();
    for (int j = 0; j < QUADS; j++)
        for (int t = 0; t < count; t++) {
            int32_t quad;
            memcpy(&quad, x + t * GROUP + 4 * j, 4);
            totals[t] = _mm512_dpbusd_epi32(totals[t], weights[j], _mm512_set1_epi32(quad));
        }
    for (int t = 0; t < count; t++)
        sums[t] = (vf)_mm512_cvtepi32_ps(totals[t]);
}

/* The instruction wants one factor without sign: 128 is added to each weight, and taken off. */
INLINE quads_t prepare_int8(quads_t q) { return _mm512_xor_si512(q, _mm512_set1_epi8(-128)); }
INLINE void dot_int8(const int count, const quads_t *weights, const int8_t *x, const float *totals,
                     vf *sums)
{
    dot_int4(count, weights, x, sums);
    for (int t = 0; t < count; t++)
        sums[t] = sums[t] - splat(128.0f * totals[t]);
}

#elif defined(VARIANT_AVX2)

typedef __m256i quads_t;
INLINE quads_t load_quads(const uint8_t *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}
INLINE quads_t low_halves(quads_t q) { return _mm256_and_si256(q, _mm256_set1_epi8(15)); }
INLINE quads_t high_halves(quads_t q) { return low_halves(_mm256_srli_epi16(q, 4)); }
INLINE vf half_floats(const uint16_t *from)
{
    return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from));
}

INLINE __m256i broadcast_quad(const int8_t *x)
{
    int32_t quad;
    memcpy(&quad, x, 4);
    return _mm256_set1_epi32(quad);
}

/* A group's 8 sums of two products stay within 16 bits: 8 * 2 * 15 * 127 < 2^15. */
INLINE void dot_int4(const int count, const quads_t *weights, const int8_t *x, vf *sums)
{
    __m256i totals[2];
    for (int t = 0; t < count; t++)
        totals[t] = _mm256_maddubs_epi16(weights[0], broadcast_quad(x + t * GROUP));
    for (int j = 1; j < QUADS; j++)
        for (int t = 0; t < count; t++) {
            __m256i quad = broadcast_quad(x + t * GROUP + 4 * j);
            totals[t] = _mm256_add_epi16(totals[t], _mm256_maddubs_epi16(weights[j], quad));
        }
    for (int t = 0; t < count; t++)
        sums[t] = (vf)_mm256_cvtepi32_ps(_mm256_madd_epi16(totals[t], _mm256_set1_epi16(1)));
}

/* The instruction wants one factor without sign: the input's sign moves to the weight. A weight of
 * -128 stays what it is when negated, so weights must be -127 or more: `pack_int8` sees to it. */
INLINE quads_t prepare_int8(quads_t q) { return q; }
INLINE void dot_int8(const int count, const quads_t *weights, const int8_t *x, const float *unused,
                     vf *sums)
{
    __m256i totals[2];
    (void)unused;
    for (int t = 0; t < count; t++)
        totals[t] = _mm256_setzero_si256();
    for (int j = 0; j < QUADS; j++)
        for (int t = 0; t < count; t++) {
            __m256i quad = broadcast_quad(x + t * GROUP + 4 * j);
            __m256i pairs =
                _mm256_maddubs_epi16(_mm256_abs_epi8(quad), _mm256_sign_epi8(weights[j], quad));
            totals[t] =
                _mm256_add_epi32(totals[t], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
        }
    for (int t = 0; t < count; t++)
        sums[t] = (vf)_mm256_cvtepi32_ps(totals[t]);
}

#else

typedef struct {
    uint8_t bytes[WIDTH * 4];
} quads_t;

INLINE quads_t load_quads(const uint8_t *from)
{
    quads_t q;
    memcpy(q.bytes, from, sizeof q.bytes);
    return q;
}
INLINE quads_t low_halves(quads_t q)
{
    for (int i = 0; i < WIDTH * 4; i++)
        q.bytes[i] &= 15;
    return q;
}
INLINE quads_t high_halves(quads_t q)
{
    for (int i = 0; i < WIDTH * 4; i++)
        q.bytes[i] >>= 4;
    return q;
}
INLINE vf half_floats(const uint16_t *from)
{
    vu half = __builtin_convertvector(*(const vh_at *)from, vu);
    vu sign = (half & 0x8000) << 16, rest = half & 0x7fff;
    vf normal = (vf)((rest << 13) + (112 << 23));
    vf tiny = __builtin_convertvector((vi)rest, vf) * splat(5.9604644775390625e-8f); /* 2^-24 */
    vf special = (vf)((rest << 13) + (224 << 23)); /* infinities and NaN */
    vf value = choose((vi)(rest < 0x0400), tiny, normal);
    return (vf)((vu)choose((vi)(rest >= 0x7c00), special, value) | sign);
}
INLINE void dot_int4(const int count, const quads_t *weights, const int8_t *x, vf *sums)
{
    for (int t = 0; t < count; t++) {
        vi total = {0};
        for (int j = 0; j < QUADS; j++)
            for (int r = 0; r < WIDTH; r++)
                for (int i = 0; i < 4; i++)
                    total[r] += weights[j].bytes[r * 4 + i] * x[t * GROUP + j * 4 + i];
        sums[t] = __builtin_convertvector(total, vf);
    }
}
INLINE quads_t prepare_int8(quads_t q) { return q; }
INLINE void dot_int8(const int count, const quads_t *weights, const int8_t *x, const float *unused,
                     vf *sums)
{
    (void)unused;
    for (int t = 0; t < count; t++) {
        vi total = {0};
        for (int j = 0; j < QUADS; j++)
            for (int r = 0; r < WIDTH; r++)
                for (int i = 0; i < 4; i++)
                    total[r] += (int8_t)weights[j].bytes[r * 4 + i] * x[t * GROUP + j * 4 + i];
        sums[t] = __builtin_convertvector(total, vf);
    }
}

#endif

/* Inputs as integers, tokens of a group together. */
typedef struct {
    int8_t *values; /* [groups][tokens][32] */
    float *scales;  /* [groups][tokens] */
    float *totals;  /* [groups][tokens], sums of the values */
    int64_t tokens;
} integers_t;

INLINE integers_t integers_in(void *scratch, int64_t tokens, int64_t inputs)
{
    integers_t x = {.values = scratch, .tokens = tokens};
    x.scales = (float *)(x.values + tokens * inputs);
    x.totals = x.scales + tokens * (inputs / GROUP);
    return x;
}

static void quantise_group(const float *x, int8_t *values, float *scale, float *total)
{
    enum { VECTORS = GROUP / WIDTH };
    const vf magic = splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    vf most = splat(0.0f), nothing = splat(0.0f);
    for (int v = 0; v < VECTORS; v++) {
        vf here = load(x + v * WIDTH);
        most = vmax(most, vmax(here, -here));
        nothing = nothing + (here - here); /* 0, or NaN if one is infinite or NaN */
    }
    if (sum(nothing) != 0.0f) { /* no integer stands for those: the result must tell of them */
        memset(values, 0, GROUP);
        *scale = NAN;
        *total = 0;
        return;
    }
    float amax = largest(most);
    vf factor = splat(amax > 1e-36f ? 127.0f / amax : 0.0f); /* below it would be infinite */
    vi totals = {0};
    for (int v = 0; v < VECTORS; v++) {
        vi rounded = (vi)multiply_add(load(x + v * WIDTH), factor, magic) - (vi)magic;
        totals += rounded;
        for (int i = 0; i < WIDTH; i++)
            values[v * WIDTH + i] = (int8_t)rounded[i];
    }
    int32_t all = 0;
    for (int i = 0; i < WIDTH; i++)
        all += totals[i];
    *scale = amax / 127.0f;
    *total = (float)all;
}

static void quantise(const float *x, int64_t tokens, int64_t inputs, const integers_t *to)
{
#pragma omp for schedule(static)
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t g = 0; g < inputs / GROUP; g++) {
            int64_t at = g * tokens + t;
            quantise_group(x + t * inputs + g * GROUP, to->values + at * GROUP, to->scales + at,
                           to->totals + at);
        }
}

enum { INT_BLOCK = 64 }; /* tokens whose sums stay in the first cache */

/* A group's weights of WIDTH outputs, with their scales and minimums. */
typedef struct {
    quads_t quads[QUADS];
    vf scales, minimums;
} group_t;

INLINE group_t load_group(const linear_t *layer, const int kind, int64_t place, const int v)
{
    group_t group;
    if (kind == WEIGHT_INT4) {
        const uint8_t *from = (const uint8_t *)layer->weights + place * PANEL * GROUP / 2;
        for (int j = 0; j < QUADS / 2; j++) {
            quads_t both = load_quads(from + (j * PANEL + v * WIDTH) * 4);
            group.quads[j] = low_halves(both);
            group.quads[j + QUADS / 2] = high_halves(both);
        }
        group.minimums = half_floats(layer->minimums + place * PANEL + v * WIDTH);
    } else {
        const uint8_t *from = (const uint8_t *)layer->weights + place * PANEL * GROUP;
        for (int j = 0; j < QUADS; j++)
            group.quads[j] = prepare_int8(load_quads(from + (j * PANEL + v * WIDTH) * 4));
        group.minimums = splat(0.0f);
    }
    group.scales = half_floats(layer->scales + place * PANEL + v * WIDTH);
    return group;
}

/* Add a group's share to the sums of `count` tokens, of which the first is at `at` in x. */
INLINE void add_group(const int count, const int kind, const group_t *group, const integers_t *x,
                      int64_t at, vf *sums)
{
    vf parts[2];
    if (kind == WEIGHT_INT4)
        dot_int4(count, group->quads, x->values + at * GROUP, parts);
    else
        dot_int8(count, group->quads, x->values + at * GROUP, x->totals + at, parts);
    for (int t = 0; t < count; t++) {
        vf part = parts[t] * group->scales;
        if (kind == WEIGHT_INT4)
            part = multiply_add(group->minimums, splat(x->totals[at + t]), part);
        sums[t] = multiply_add(part, splat(x->scales[at + t]), sums[t]);
    }
}

INLINE void add_group_to(const int count, const int kind, const group_t *group,
                         const integers_t *x, int64_t at, float *memory)
{
    vf sums[2];
    for (int t = 0; t < count; t++)
        sums[t] = load(memory + t * PANEL);
    add_group(count, kind, group, x, at, sums);
    for (int t = 0; t < count; t++)
        store(memory + t * PANEL, sums[t]);
}

/* Two tokens at a time, so that one's chain of sums fills the pauses of the other's. */
INLINE void int_group(const linear_t *layer, const int kind, int64_t panel, int64_t group,
                      const int v, const integers_t *x, int64_t first, int64_t count, float *sums)
{
    int64_t at = group * x->tokens + first, t = 0;
    group_t weights = load_group(layer, kind, panel * (layer->inputs / GROUP) + group, v);
    for (; t + 2 <= count; t += 2)
        add_group_to(2, kind, &weights, x, at + t, sums + t * PANEL + v * WIDTH);
    if (t < count)
        add_group_to(1, kind, &weights, x, at + t, sums + t * PANEL + v * WIDTH);
}

/* One token: its sums stay in registers. */
INLINE void int_panel_of_one(const linear_t *layer, const int kind, int64_t panel,
                             const integers_t *x, int64_t token, float *sums)
{
    int64_t groups = layer->inputs / GROUP;
    vf totals[PER_PANEL];
    for (int v = 0; v < PER_PANEL; v++)
        totals[v] = splat(0.0f);
    for (int64_t g = 0; g < groups; g++)
        for (int v = 0; v < PER_PANEL; v++) {
            group_t weights = load_group(layer, kind, panel * groups + g, v);
            add_group(1, kind, &weights, x, g * x->tokens + token, totals + v);
        }
    for (int v = 0; v < PER_PANEL; v++)
        store(sums + v * WIDTH, totals[v]);
}

INLINE void int_panel(const linear_t *layer, const int kind, int64_t panel, const integers_t *x,
                      int64_t first, int64_t count, float *y)
{
    float sums[INT_BLOCK * PANEL];
    int64_t groups = layer->inputs / GROUP;
    if (count == 1) {
        int_panel_of_one(layer, kind, panel, x, first, sums);
    } else {
        memset(sums, 0, (size_t)count * PANEL * 4);
        for (int64_t g = 0; g < groups; g++)
            for (int v = 0; v < PER_PANEL; v++)
                int_group(layer, kind, panel, g, v, x, first, count, sums);
    }
    for (int64_t t = 0; t < count; t++)
        store_panel(layer, panel, sums + t * PANEL, y + t * layer->outputs);
}

static void linear_int(const float *x, const linear_t *layer, int64_t tokens, float *y,
                       void *scratch)
{
    integers_t integers = integers_in(scratch, tokens, layer->inputs);
    quantise(x, tokens, layer->inputs, &integers);
    const cut_t cut = cut_work(layer, tokens, INT_BLOCK);
#pragma omp for schedule(dynamic)
    for (int64_t index = 0; index < count_pieces(&cut); index++) {
        const piece_t piece = piece_at(&cut, index);
        int64_t first = piece.first_token, count = piece.num_tokens;
        float *to = y + first * layer->outputs;
        for (int64_t panel = piece.first_panel; panel < piece.last_panel; panel++) {
            if (layer->kind == WEIGHT_INT4)
                int_panel(layer, WEIGHT_INT4, panel, &integers, first, count, to);
            else
                int_panel(layer, WEIGHT_INT8, panel, &integers, first, count, to);
        }
    }
}

/* `scratch` holds tokens * (inputs + inputs / 4) bytes; unused for float weights. */
static void linear(const float *x, const linear_t *layer, int64_t tokens, float *y, void *scratch)
{
    if (layer->kind == WEIGHT_FLOAT32 || layer->kind == WEIGHT_BFLOAT16)
        linear_float(x, layer, tokens, y);
    else
        linear_int(x, layer, tokens, y, scratch);
}

#endif

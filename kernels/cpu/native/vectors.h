/* Short vectors of one variant, in the compiler's own vector types: no instruction set is named.
 *
 * WIDTH is the number of floats of a vector, 8 or 16, and divides PANEL and KEYS.
 */
#ifndef OCTAVO_VECTORS_H
#define OCTAVO_VECTORS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "octavo.h"

#define INLINE static inline __attribute__((always_inline))
#define PER_PANEL (PANEL / WIDTH)
#define NEVER (-INFINITY)

typedef float vf __attribute__((vector_size(WIDTH * 4)));
typedef int32_t vi __attribute__((vector_size(WIDTH * 4)));
typedef uint32_t vu __attribute__((vector_size(WIDTH * 4)));
typedef uint16_t vh __attribute__((vector_size(WIDTH * 2)));
/* The same wherever they lie in memory. */
typedef float vf_at __attribute__((vector_size(WIDTH * 4), aligned(4), may_alias));
typedef uint16_t vh_at __attribute__((vector_size(WIDTH * 2), aligned(2), may_alias));

INLINE vf load(const float *from) { return *(const vf_at *)from; }
INLINE void store(float *to, vf value) { *(vf_at *)to = value; }

INLINE vf splat(float x)
{
#if WIDTH == 16
    return (vf){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
#else
    return (vf){x, x, x, x, x, x, x, x};
#endif
}

/* a * b + c, in one rounding where the variant's processors can. Left to itself (-ffp-contract) a
 * compiler fuses differently in different copies of a function, and a token's result would depend
 * on the copy that happened to compute it. */
INLINE vf multiply_add(vf a, vf b, vf c)
{
#if defined(VARIANT_AVX512)
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(VARIANT_AVX2)
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

INLINE vf choose(vi mask, vf yes, vf no) { return (vf)(((vi)yes & mask) | ((vi)no & ~mask)); }

INLINE vf vmax(vf a, vf b) { return choose(a > b, a, b); }

INLINE vf load_bfloat16(const uint16_t *from)
{
#if defined(VARIANT_AVX2) /* spelled out: GCC 12 widens one half after the other */
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from));
    return (vf)_mm256_slli_epi32(wide, 16);
#else
    return (vf)(__builtin_convertvector(*(const vh_at *)from, vu) << 16);
#endif
}

INLINE float widen_bfloat16(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float wide;
    memcpy(&wide, &bits, 4);
    return wide;
}

/* Round to nearest, ties to even; a NaN stays one. */
INLINE uint16_t to_bfloat16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Quarters are folded upon each other: a few steps instead of a loop over lanes. They go through
 * memory in the text, but not in what compilers make of it. */
typedef float quarter_t __attribute__((vector_size(16)));

INLINE float sum(vf x)
{
    quarter_t parts[WIDTH / 4], four;
    memcpy(parts, &x, sizeof parts);
    four = parts[0] + parts[1];
#if WIDTH == 16
    four = four + (parts[2] + parts[3]);
#endif
    return (four[0] + four[2]) + (four[1] + four[3]);
}

INLINE quarter_t larger(quarter_t a, quarter_t b)
{
    typedef int32_t mask_t __attribute__((vector_size(16)));
    mask_t mask = a > b;
    return (quarter_t)(((mask_t)a & mask) | ((mask_t)b & ~mask));
}

INLINE float largest(vf x)
{
    quarter_t parts[WIDTH / 4], four;
    memcpy(parts, &x, sizeof parts);
    four = larger(parts[0], parts[1]);
#if WIDTH == 16
    four = larger(four, larger(parts[2], parts[3]));
#endif
    float a = four[0] > four[1] ? four[0] : four[1], b = four[2] > four[3] ? four[2] : four[3];
    return a > b ? a : b;
}

/* e^x within 2 units in the last place; 0 below -87, x must not exceed 88. Cephes' polynomial. */
INLINE vf vexp(vf x)
{
    const vf magic = splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    vi is_zero = x < splat(-87.0f);
    x = choose(is_zero, splat(0.0f), x);
    vf shifted = multiply_add(x, splat(1.44269504f), magic);
    vf n = shifted - magic;
    vf r = multiply_add(n, splat(-0.693359375f), x);
    r = multiply_add(n, splat(2.12194440e-4f), r);
    vf p = splat(1.9875691500e-4f);
    p = multiply_add(p, r, splat(1.3981999507e-3f));
    p = multiply_add(p, r, splat(8.3334519073e-3f));
    p = multiply_add(p, r, splat(4.1665795894e-2f));
    p = multiply_add(p, r, splat(1.6666665459e-1f));
    p = multiply_add(p, r, splat(5.0000001201e-1f));
    p = multiply_add(p * r, r, r) + splat(1.0f);
    vi power = ((vi)shifted - (vi)magic) << 23;
    return choose(is_zero, splat(0.0f), (vf)((vi)p + power));
}

#endif

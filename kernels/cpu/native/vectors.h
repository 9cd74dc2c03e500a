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

INLINE vf choose(vi mask, vf yes, vf no) { return (vf)(((vi)yes & mask) | ((vi)no & ~mask)); }

INLINE vf vmax(vf a, vf b) { return choose(a > b, a, b); }

INLINE vf load_bfloat16(const uint16_t *from)
{
    return (vf)(__builtin_convertvector(*(const vh_at *)from, vu) << 16);
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

INLINE float sum(vf x)
{
    float total = 0;
    for (int i = 0; i < WIDTH; i++)
        total += x[i];
    return total;
}

INLINE float largest(vf x)
{
    float most = x[0];
    for (int i = 1; i < WIDTH; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

/* e^x within 2 units in the last place; 0 below -87, x must not exceed 88. Cephes' polynomial. */
INLINE vf vexp(vf x)
{
    const vf magic = splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    vi is_zero = x < splat(-87.0f);
    x = choose(is_zero, splat(0.0f), x);
    vf shifted = x * splat(1.44269504f) + magic;
    vf n = shifted - magic;
    vf r = x - n * splat(0.693359375f);
    r = r + n * splat(2.12194440e-4f);
    vf p = splat(1.9875691500e-4f);
    p = p * r + splat(1.3981999507e-3f);
    p = p * r + splat(8.3334519073e-3f);
    p = p * r + splat(4.1665795894e-2f);
    p = p * r + splat(1.6666665459e-1f);
    p = p * r + splat(5.0000001201e-1f);
    p = p * r * r + r + splat(1.0f);
    vi power = ((vi)shifted - (vi)magic) << 23;
    return choose(is_zero, splat(0.0f), (vf)((vi)p + power));
}

#endif

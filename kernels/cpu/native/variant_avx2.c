/* For x86-64 processors with AVX2, FMA and F16C (from Haswell and Zen on). */
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#define VARIANT avx2
#define VARIANT_AVX2
#define WIDTH 8
#include "variant.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif

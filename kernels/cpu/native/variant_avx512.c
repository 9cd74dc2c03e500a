/* For x86-64 processors with AVX-512 and its 8-bit products (VNNI; from Ice Lake and Zen 4 on). */
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define FEATURES "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target(FEATURES))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#endif
#define VARIANT avx512
#define VARIANT_AVX512
#define WIDTH 16
#include "variant.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif

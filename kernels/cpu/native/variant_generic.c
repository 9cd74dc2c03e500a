/* For any processor: plain C, which compilers turn into SSE2 or NEON. */
#define VARIANT generic
#define WIDTH 8
#include "variant.h"

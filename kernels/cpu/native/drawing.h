/* One token from each row of logits: the most likely, or a draw by the Gumbel-max trick.
 *
 * The noise of a token is a function of the row's key and the token's id (see
 * models/random_numbers.py, whose integers are the same). A token can win only if its uniform
 * number is below exp(logit - best so far); so nearly all are passed over without a logarithm.
 */
#ifndef OCTAVO_DRAWING_H
#define OCTAVO_DRAWING_H

#include <stdlib.h>

#include "vectors.h"

static int64_t most_likely(const float *logits, int64_t vocab)
{
    vf best = splat(NEVER);
    vi place = {0}, here;
    for (int i = 0; i < WIDTH; i++)
        here[i] = i;
    int64_t i = 0;
    for (; i + WIDTH <= vocab; i += WIDTH, here += WIDTH) {
        vf value = load(logits + i);
        vi is_better = value > best;
        best = choose(is_better, value, best);
        place = (here & is_better) | (place & ~is_better);
    }
    float most = best[0];
    int64_t token = place[0];
    for (int lane = 1; lane < WIDTH; lane++)
        if (best[lane] > most || (best[lane] == most && place[lane] < token)) {
            most = best[lane];
            token = place[lane];
        }
    for (; i < vocab; i++)
        if (logits[i] > most) {
            most = logits[i];
            token = i;
        }
    return token;
}

INLINE uint32_t mix(uint32_t bits)
{
    bits ^= bits >> 16;
    bits *= 0x85ebca6b;
    bits ^= bits >> 13;
    bits *= 0xc2b2ae35;
    return bits ^ bits >> 16;
}

INLINE vu mix_all(vu bits)
{
    bits ^= bits >> 16;
    bits *= 0x85ebca6b;
    bits ^= bits >> 13;
    bits *= 0xc2b2ae35;
    return bits ^ bits >> 16;
}

static float gumbel(uint32_t id, const draw_t *draw)
{
    float uniform = ((float)mix(mix(id ^ draw->key_low) ^ draw->key_high) + 0.5f) * 0x1p-32f;
    if (uniform > 1.0f - 0x1p-24f) /* u = 1 must not occur */
        uniform = 1.0f - 0x1p-24f;
    return -logf(-log1pf(-uniform));
}

/* The sum of e^(logit - most) over the logits of `floor` or more. */
static double sum_of_weights(const float *logits, int64_t vocab, float scale, float most,
                             float floor)
{
    double total = 0;
    int64_t i = 0;
    for (; i + WIDTH <= vocab; i += WIDTH) {
        vf value = load(logits + i) * splat(scale);
        vf weight = vexp(value - splat(most));
        total += sum(choose(value >= splat(floor), weight, splat(0.0f)));
    }
    for (; i < vocab; i++)
        if (logits[i] * scale >= floor)
            total += expf(logits[i] * scale - most);
    return total;
}

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Copy the values of `least` or more; returns how many there are. */
static int64_t collect(const float *logits, int64_t vocab, float scale, float least, float *values)
{
    int64_t count = 0;
    for (int64_t i = 0; i < vocab; i++)
        if (logits[i] * scale >= least)
            values[count++] = logits[i] * scale;
    return count;
}

/* The least logit that is kept: of `floor` (min_p) or more, the top_k best of those, and of these
 * the fewest that hold top_p together. What ties with it is kept as well. */
static float lowest_kept(const float *logits, int64_t vocab, const draw_t *draw, float scale,
                         float most)
{
    float floor = draw->min_p > 0.0f ? most + logf(draw->min_p) : NEVER;
    int64_t top_k = draw->top_k > 0 && draw->top_k < vocab ? draw->top_k : vocab;
    if (top_k == vocab && draw->top_p >= 1.0f)
        return floor;
    float *values = malloc((size_t)vocab * sizeof(float));
    if (!values)
        return most; /* only the best: a poor draw, but no crash */
    double whole = top_k == vocab ? sum_of_weights(logits, vocab, scale, most, floor) : 0;
    float result = floor;
    /* What is asked for lies near the top: look deeper only if that does not settle it. */
    for (float depth = 8.0f;; depth = depth < 64.0f ? depth * 2 : INFINITY) {
        int is_all = !(most - depth > floor);
        int64_t count = collect(logits, vocab, scale, is_all ? floor : most - depth, values);
        if (count < top_k && top_k < vocab && !is_all)
            continue;
        qsort(values, (size_t)count, sizeof(float), descending);
        int64_t limit = count < top_k ? count : top_k, kept = 0;
        double sum = 0;
        if (top_k < vocab) {
            whole = 0;
            for (int64_t i = 0; i < limit; i++)
                whole += expf(values[i] - most);
        }
        while (kept < limit && (kept == 0 || draw->top_p >= 1.0f || sum < draw->top_p * whole))
            sum += expf(values[kept++] - most);
        if (is_all || kept == top_k || sum >= draw->top_p * whole) {
            result = values[kept - 1];
            break;
        }
    }
    free(values);
    return result;
}

static int64_t draw_row(const float *logits, const draw_t *draw, int64_t vocab)
{
    int64_t token = most_likely(logits, vocab);
    float scale = draw->inverse_temperature;
    if (scale == 0.0f)
        return token;
    float most = logits[token] * scale;
    if (!(most > NEVER)) /* nothing may be drawn, or the model gave no numbers */
        return token;
    float least = lowest_kept(logits, vocab, draw, scale, most);
    float best = most + gumbel((uint32_t)token, draw);
    vu ids;
    for (int i = 0; i < WIDTH; i++)
        ids[i] = (uint32_t)i;
    for (int64_t i = 0; i < vocab; i += WIDTH, ids += WIDTH) {
        float padded[WIDTH];
        const float *from = logits + i;
        if (i + WIDTH > vocab) {
            for (int lane = 0; lane < WIDTH; lane++)
                padded[lane] = i + lane < vocab ? from[lane] : NEVER;
            from = padded;
        }
        vf value = load(from) * splat(scale);
        vu bits = mix_all(mix_all(ids ^ draw->key_low) ^ draw->key_high);
        /* Half of it apart, since the conversion knows no unsigned numbers. */
        vf uniform = __builtin_convertvector((vi)(bits >> 1), vf) * splat(0x1p-31f);
        vf ahead = value - splat(best);
        vf limit = vexp(choose(ahead > splat(80.0f), splat(80.0f), ahead)) * splat(1.001f) +
                   splat(1e-9f);
        vi can_win = (uniform < limit) & (value >= splat(least)) & (value > splat(NEVER));
        for (int lane = 0; lane < WIDTH; lane++)
            if (can_win[lane]) {
                float sum_here = value[lane] + gumbel((uint32_t)(i + lane), draw);
                if (sum_here > best || (sum_here == best && i + lane < token)) {
                    best = sum_here;
                    token = i + lane;
                }
            }
    }
    return token;
}

static void draw(const float *logits, const draw_t *draws, int64_t rows, int64_t vocab,
                 int64_t *tokens)
{
#pragma omp for schedule(dynamic)
    for (int64_t r = 0; r < rows; r++)
        tokens[r] = draw_row(logits + r * vocab, draws + r, vocab);
}

#endif

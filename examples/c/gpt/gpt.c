/* A GPT over characters, trained in plain C: where a transformer calls lnorm, and what its norms cost.
 *
 *     gpt [--norm lnorm|naive|both] [--steps N] [--check] TEXT
 *
 * --norm both, the default, trains two models side by side, from the same weights, on the same pieces of TEXT. All of
 * their arithmetic is the same but the norms: one has lnorm's, the other has the loops of naive_forward and
 * naive_backward. --check compares the gradients with finite differences. With -DGPT_F64 everything is in double. The
 * status is 0 if what the program shows is so: the loss fell, the two losses agree, the gradients are right.
 *
 * A stream of one row per character runs through the model, and each branch adds to it what it makes of a norm of it:
 *
 *     stream[0] = token + position
 *     y[i]      = norm(stream[i])
 *     stream[i] = branch(y[i - 1]) + stream[i - 1]    the branches: attention, mlp, attention, mlp, ...
 *     logits    = y[last] * transposed(token)
 *
 * So each sum is followed by its norm, and lnorm_add_forward does both. On the way back the gradient through a norm is
 * added to the one that comes along the stream, and lnorm_add_backward does both. */
#include <lnorm.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tgmath.h>
#include <time.h>

/* LOSS_BOUND: how far the two losses may be apart. CHECK_STEP: of the finite differences; CHECK_BOUND: their error. */
#ifdef GPT_F64
typedef double real;
static const lnorm_type TYPE = LNORM_F64;
static const double LOSS_BOUND = 1e-12, CHECK_STEP = 1e-5, CHECK_BOUND = 1e-6;
#else
typedef float real;
static const lnorm_type TYPE = LNORM_F32;
static const double LOSS_BOUND = 1e-5, CHECK_STEP = 1e-3, CHECK_BOUND = 5e-3;
#endif

#ifndef WIDTH
#define WIDTH 64 /* of the stream; any multiple of 32 */
#endif

enum {
    VOCAB = 96, /* printable ASCII, and the end of a line */
    END = VOCAB - 1,
    CONTEXT = 32, /* characters that are seen at once */
    ROWS = 16 * CONTEXT,
    HEADS = 4,
    HEAD = WIDTH / HEADS,
    HIDDEN = 4 * WIDTH,
    LAYERS = 2,
    NORMS = 2 * LAYERS + 1
};
static const double EPS = 1e-5;
static const char *const NAMES[] = {"lnorm", "naive"};

struct params {
    real token[VOCAB * WIDTH], position[CONTEXT * WIDTH];
    real gamma[NORMS][WIDTH], beta[NORMS][WIDTH];
    real qkv[LAYERS][WIDTH * 3 * WIDTH], qkv_bias[LAYERS][3 * WIDTH]; /* queries, keys, values */
    real out[LAYERS][WIDTH * WIDTH], out_bias[LAYERS][WIDTH];
    real up[LAYERS][WIDTH * HIDDEN], up_bias[LAYERS][HIDDEN];
    real down[LAYERS][HIDDEN * WIDTH], down_bias[LAYERS][WIDTH];
};

/* At first all are random numbers of this mean and standard deviation. */
#define TENSOR(name, mean, std)                                                                                        \
    {#name, offsetof(struct params, name) / sizeof(real), sizeof(((struct params *)0)->name) / sizeof(real), mean, std}
static const struct tensor {
    const char *name;
    size_t offset, count;
    double mean, std;
} tensors[] = {
    TENSOR(token, 0, 0.05), TENSOR(position, 0, 0.02), TENSOR(gamma, 1, 0),   TENSOR(beta, 0, 0),
    TENSOR(qkv, 0, 0.1),    TENSOR(qkv_bias, 0, 0),    TENSOR(out, 0, 0.02),  TENSOR(out_bias, 0, 0),
    TENSOR(up, 0, 0.1),     TENSOR(up_bias, 0, 0),     TENSOR(down, 0, 0.01), TENSOR(down_bias, 0, 0),
};
enum { TENSORS = sizeof tensors / sizeof *tensors };

struct batch { /* of pieces of CONTEXT characters; a target is the character that follows the input */
    unsigned char input[ROWS], target[ROWS];
};

struct model {
    struct params p, g, m, v; /* parameters, their gradients, and AdamW's two moments of these */

    /* Forward, kept for backward. */
    real stream[NORMS][ROWS * WIDTH], y[NORMS][ROWS * WIDTH], mean[NORMS][ROWS], rstd[NORMS][ROWS];
    real qkv[LAYERS][ROWS * 3 * WIDTH], weights[LAYERS][ROWS * HEADS * CONTEXT], mixed[LAYERS][ROWS * WIDTH];
    real hidden[LAYERS][ROWS * HIDDEN], active[LAYERS][ROWS * HIDDEN];
    real probs[ROWS * VOCAB];
    real branch[ROWS * WIDTH]; /* what is added to the stream next */

    /* Backward: gradients with respect to what they are named after. */
    real dstream[ROWS * WIDTH], dy[ROWS * WIDTH], dmixed[ROWS * WIDTH], dqkv[ROWS * 3 * WIDTH], dhidden[ROWS * HIDDEN];

    int naive;
    void *workspace;
    size_t workspace_size;
    clock_t time, norm_time;
};

static void fail(const char *what)
{
    fprintf(stderr, "gpt: %s\n", what);
    exit(EXIT_FAILURE);
}

static void *allocate(size_t size)
{
    void *memory = calloc(1, size ? size : 1);
    if (!memory) {
        fail("out of memory");
    }
    return memory;
}

/* xorshift64* (Marsaglia 2003, Vigna 2016), and from it a number in [0, 1). */
static double uniform(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (double)((*state * UINT64_C(2685821657736338717)) >> 11) / 9007199254740992.0;
}

/* ---- Norms ----------------------------------------------------------------------------------------------------- */

static void check(lnorm_status status)
{
    if (status != LNORM_OK) {
        fail(lnorm_status_text(status));
    }
}

static lnorm_problem norm_problem(size_t rows)
{
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    problem.x_type = TYPE;
    problem.outer = (int64_t)rows;
    problem.norm = WIDTH;
    problem.eps = EPS;
    return problem;
}

static void naive_forward(struct model *model, size_t norm, size_t rows, const real *bias, const real *residual,
                          size_t residual_rows)
{
    const real *gamma = model->p.gamma[norm], *beta = model->p.beta[norm];
    for (size_t r = 0; r < rows; r++) {
        const real *x = model->branch + r * WIDTH, *other = residual + r % residual_rows * WIDTH;
        real *restrict stream = model->stream[norm] + r * WIDTH, *restrict y = model->y[norm] + r * WIDTH;
        real sum = 0, squares = 0;
        for (size_t i = 0; i < WIDTH; i++) {
            stream[i] = x[i] + (bias ? bias[i] : 0) + other[i];
            sum += stream[i];
        }
        const real mean = sum / WIDTH;
        for (size_t i = 0; i < WIDTH; i++) {
            squares += (stream[i] - mean) * (stream[i] - mean);
        }
        const real rstd = 1 / sqrt(squares / WIDTH + (real)EPS);
        for (size_t i = 0; i < WIDTH; i++) {
            y[i] = (stream[i] - mean) * rstd * gamma[i] + beta[i];
        }
        model->mean[norm][r] = mean;
        model->rstd[norm][r] = rstd;
    }
}

static void naive_backward(struct model *model, size_t norm)
{
    const real *gamma = model->p.gamma[norm];
    real *restrict dgamma = model->g.gamma[norm], *restrict dbeta = model->g.beta[norm];
    for (size_t r = 0; r < ROWS; r++) {
        const real *dy = model->dy + r * WIDTH, *stream = model->stream[norm] + r * WIDTH;
        const real mean = model->mean[norm][r], rstd = model->rstd[norm][r];
        real *restrict dstream = model->dstream + r * WIDTH;
        real sum = 0, product = 0;
        for (size_t i = 0; i < WIDTH; i++) {
            const real xhat = (stream[i] - mean) * rstd;
            sum += dy[i] * gamma[i];
            product += dy[i] * gamma[i] * xhat;
            dgamma[i] += dy[i] * xhat;
            dbeta[i] += dy[i];
        }
        const real g_mean = sum / WIDTH, g_xhat_mean = product / WIDTH;
        for (size_t i = 0; i < WIDTH; i++) {
            const real dx = (dy[i] * gamma[i] - g_mean - (stream[i] - mean) * rstd * g_xhat_mean) * rstd;
            dstream[i] = norm + 1 < NORMS ? dstream[i] + dx : dx;
        }
    }
}

/* stream = branch + bias + residual, whose rows are used again and again, and y = its norm; bias may be NULL. */
static void norm_forward(struct model *model, size_t norm, size_t rows, const real *bias, const real *residual,
                         size_t residual_rows)
{
    const clock_t start = clock();
    if (model->naive) {
        naive_forward(model, norm, rows, bias, residual, residual_rows);
    } else {
        lnorm_problem problem = norm_problem(rows);
        problem.residual_rows = (int64_t)residual_rows;
        check(lnorm_add_forward(&problem, model->branch, residual, bias, model->p.gamma[norm], model->p.beta[norm],
                                model->stream[norm], model->y[norm], model->mean[norm], model->rstd[norm]));
    }
    model->norm_time += clock() - start;
}

/* From dy to dstream, which the last norm writes, as the stream ends there, and all others add to. */
static void norm_backward(struct model *model, size_t norm)
{
    const clock_t start = clock();
    if (model->naive) {
        naive_backward(model, norm);
    } else {
        const lnorm_problem problem = norm_problem(ROWS);
        check(lnorm_add_backward(&problem, model->dy, norm + 1 < NORMS ? model->dstream : NULL, model->stream[norm],
                                 model->mean[norm], model->rstd[norm], model->p.gamma[norm], model->dstream,
                                 model->g.gamma[norm], model->g.beta[norm], model->workspace, model->workspace_size));
    }
    model->norm_time += clock() - start;
}

/* ---- Matrices -------------------------------------------------------------------------------------------------- */

/* c += a * b, where c is rows x columns, a is rows x inner, b is inner x columns; a_row and b_row lead from one row to
 * the next, a_step and b_step from one element to the next, so that a and b may be transposed. c has no gaps. */
static void matmul(size_t rows, size_t columns, size_t inner, const real *a, size_t a_row, size_t a_step, const real *b,
                   size_t b_row, size_t b_step, real *c)
{
    enum { TILE = 32, DEPTH = 128 }; /* columns is always a multiple of TILE */
    real tile[DEPTH][TILE];
    for (size_t first = 0; first < inner; first += DEPTH) {
        const size_t depth = inner - first < DEPTH ? inner - first : DEPTH;
        for (size_t j = 0; j < columns; j += TILE) {
            for (size_t k = 0; k < depth; k++) {
                for (size_t t = 0; t < TILE; t++) {
                    tile[k][t] = b[(first + k) * b_row + (j + t) * b_step];
                }
            }
            for (size_t i = 0; i < rows; i++) {
                real sum[TILE] = {0};
                for (size_t k = 0; k < depth; k++) {
                    const real factor = a[i * a_row + (first + k) * a_step];
                    for (size_t t = 0; t < TILE; t++) {
                        sum[t] += factor * tile[k][t];
                    }
                }
                for (size_t t = 0; t < TILE; t++) {
                    c[i * columns + j + t] += sum[t];
                }
            }
        }
    }
}

/* y = x * w + bias, without bias where it is NULL */
static void linear_forward(size_t rows, size_t in, size_t out, const real *x, const real *w, const real *bias, real *y)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < out; i++) {
            y[r * out + i] = bias ? bias[i] : 0;
        }
    }
    matmul(rows, out, in, x, in, 1, w, out, 1, y);
}

static void linear_backward(size_t rows, size_t in, size_t out, const real *dy, const real *x, const real *w, real *dx,
                            real *dw, real *dbias)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < out; i++) {
            dbias[i] += dy[r * out + i];
        }
    }
    matmul(in, out, rows, x, 1, in, dy, out, 1, dw);
    memset(dx, 0, rows * in * sizeof(real));
    matmul(rows, in, out, dy, out, 1, w, 1, out, dx);
}

/* ---- Attention ------------------------------------------------------------------------------------------------- */

static real dot(const real *a, const real *b)
{
    real sum = 0;
    for (size_t i = 0; i < HEAD; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

static void add_scaled(real *sum, real factor, const real *a)
{
    for (size_t i = 0; i < HEAD; i++) {
        sum[i] += factor * a[i];
    }
}

/* Row r, head h of qkv: the query; the key is WIDTH further on, the value 2 * WIDTH. */
static size_t query(size_t r, size_t h)
{
    return r * 3 * WIDTH + h * HEAD;
}

static void softmax(size_t count, real *x)
{
    real largest = x[0], sum = 0;
    for (size_t i = 1; i < count; i++) {
        largest = x[i] > largest ? x[i] : largest;
    }
    for (size_t i = 0; i < count; i++) {
        x[i] = exp(x[i] - largest);
        sum += x[i];
    }
    for (size_t i = 0; i < count; i++) {
        x[i] /= sum;
    }
}

/* Each row looks at itself and at the rows before it in its sequence: mixed = softmax(query * keys) * values. */
static void attention_forward(size_t rows, const real *qkv, real *weights, real *mixed)
{
    const real scale = 1 / sqrt((real)HEAD);
    memset(mixed, 0, rows * WIDTH * sizeof(real));
    for (size_t r = 0; r < rows; r++) {
        const size_t first = r - r % CONTEXT, count = r - first + 1;
        for (size_t h = 0; h < HEADS; h++) {
            real *w = weights + (r * HEADS + h) * CONTEXT;
            for (size_t u = 0; u < count; u++) {
                w[u] = scale * dot(qkv + query(r, h), qkv + query(first + u, h) + WIDTH);
            }
            softmax(count, w);
            for (size_t u = 0; u < count; u++) {
                add_scaled(mixed + r * WIDTH + h * HEAD, w[u], qkv + query(first + u, h) + 2 * WIDTH);
            }
        }
    }
}

static void attention_backward(size_t rows, const real *dmixed, const real *qkv, const real *weights, real *dqkv)
{
    const real scale = 1 / sqrt((real)HEAD);
    memset(dqkv, 0, rows * 3 * WIDTH * sizeof(real));
    for (size_t r = 0; r < rows; r++) {
        const size_t first = r - r % CONTEXT, count = r - first + 1;
        for (size_t h = 0; h < HEADS; h++) {
            const real *w = weights + (r * HEADS + h) * CONTEXT, *d = dmixed + r * WIDTH + h * HEAD;
            real dw[CONTEXT], mean = 0;
            for (size_t u = 0; u < count; u++) {
                dw[u] = dot(d, qkv + query(first + u, h) + 2 * WIDTH);
                mean += w[u] * dw[u];
                add_scaled(dqkv + query(first + u, h) + 2 * WIDTH, w[u], d);
            }
            for (size_t u = 0; u < count; u++) {
                const real dscore = scale * w[u] * (dw[u] - mean);
                add_scaled(dqkv + query(r, h), dscore, qkv + query(first + u, h) + WIDTH);
                add_scaled(dqkv + query(first + u, h) + WIDTH, dscore, qkv + query(r, h));
            }
        }
    }
}

/* ---- The activation: GELU, x times the normal distribution's probability of less than x ------------------------- */

static real normal_below(real x)
{
    return (1 + erf(x * (real)0.70710678118654752)) / 2;
}

static void gelu_forward(size_t count, const real *x, real *y)
{
    for (size_t i = 0; i < count; i++) {
        y[i] = x[i] * normal_below(x[i]);
    }
}

/* In place: d comes in as the gradient of y. */
static void gelu_backward(size_t count, const real *x, real *d)
{
    for (size_t i = 0; i < count; i++) {
        const real density = (real)0.39894228040143268 * exp(-x[i] * x[i] / 2);
        d[i] *= normal_below(x[i]) + x[i] * density;
    }
}

/* ---- The model ------------------------------------------------------------------------------------------------- */

/* Leaves in probs what each row says about the character after it. */
static void forward(struct model *model, size_t rows, const unsigned char *input)
{
    const struct params *p = &model->p;
    for (size_t r = 0; r < rows; r++) {
        memcpy(model->branch + r * WIDTH, p->token + input[r] * WIDTH, WIDTH * sizeof(real));
    }
    norm_forward(model, 0, rows, NULL, p->position, CONTEXT);
    for (size_t l = 0; l < LAYERS; l++) {
        const size_t n = 2 * l; /* the norm that attention reads; the mlp reads the next */
        linear_forward(rows, WIDTH, 3 * WIDTH, model->y[n], p->qkv[l], p->qkv_bias[l], model->qkv[l]);
        attention_forward(rows, model->qkv[l], model->weights[l], model->mixed[l]);
        linear_forward(rows, WIDTH, WIDTH, model->mixed[l], p->out[l], NULL, model->branch);
        norm_forward(model, n + 1, rows, p->out_bias[l], model->stream[n], rows);

        linear_forward(rows, WIDTH, HIDDEN, model->y[n + 1], p->up[l], p->up_bias[l], model->hidden[l]);
        gelu_forward(rows * HIDDEN, model->hidden[l], model->active[l]);
        linear_forward(rows, HIDDEN, WIDTH, model->active[l], p->down[l], NULL, model->branch);
        norm_forward(model, n + 2, rows, p->down_bias[l], model->stream[n + 1], rows);
    }
    memset(model->probs, 0, rows * VOCAB * sizeof(real));
    matmul(rows, VOCAB, WIDTH, model->y[NORMS - 1], WIDTH, 1, p->token, 1, WIDTH, model->probs);
    for (size_t r = 0; r < rows; r++) {
        softmax(VOCAB, model->probs + r * VOCAB);
    }
}

/* Mean cross-entropy. */
static double loss_of(struct model *model, const struct batch *batch)
{
    double sum = 0;
    forward(model, ROWS, batch->input);
    for (size_t r = 0; r < ROWS; r++) {
        sum -= log((double)model->probs[r * VOCAB + batch->target[r]]);
    }
    return sum / (double)ROWS;
}

/* All gradients of the loss that forward ended with. */
static void backward(struct model *model, const struct batch *batch)
{
    const struct params *p = &model->p;
    struct params *g = &model->g;
    memset(g, 0, sizeof *g);

    real *dlogits = model->probs;
    for (size_t r = 0; r < ROWS; r++) {
        dlogits[r * VOCAB + batch->target[r]] -= 1;
    }
    for (size_t i = 0; i < ROWS * VOCAB; i++) {
        dlogits[i] /= (real)ROWS;
    }
    matmul(VOCAB, WIDTH, ROWS, dlogits, 1, VOCAB, model->y[NORMS - 1], WIDTH, 1, g->token);
    memset(model->dy, 0, sizeof model->dy);
    matmul(ROWS, WIDTH, VOCAB, dlogits, VOCAB, 1, p->token, WIDTH, 1, model->dy);
    norm_backward(model, NORMS - 1);

    for (size_t l = LAYERS; l-- > 0;) {
        const size_t n = 2 * l;
        linear_backward(ROWS, HIDDEN, WIDTH, model->dstream, model->active[l], p->down[l], model->dhidden, g->down[l],
                        g->down_bias[l]);
        gelu_backward(ROWS * HIDDEN, model->hidden[l], model->dhidden);
        linear_backward(ROWS, WIDTH, HIDDEN, model->dhidden, model->y[n + 1], p->up[l], model->dy, g->up[l],
                        g->up_bias[l]);
        norm_backward(model, n + 1);

        linear_backward(ROWS, WIDTH, WIDTH, model->dstream, model->mixed[l], p->out[l], model->dmixed, g->out[l],
                        g->out_bias[l]);
        attention_backward(ROWS, model->dmixed, model->qkv[l], model->weights[l], model->dqkv);
        linear_backward(ROWS, WIDTH, 3 * WIDTH, model->dqkv, model->y[n], p->qkv[l], model->dy, g->qkv[l],
                        g->qkv_bias[l]);
        norm_backward(model, n);
    }
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t i = 0; i < WIDTH; i++) {
            g->token[batch->input[r] * WIDTH + i] += model->dstream[r * WIDTH + i];
            g->position[r % CONTEXT * WIDTH + i] += model->dstream[r * WIDTH + i];
        }
    }
}

/* AdamW (Loshchilov, Hutter: Decoupled Weight Decay Regularization, 2019); only the matrices decay. */
static void update(struct model *model, size_t step, double rate)
{
    const real beta1 = (real)0.9, beta2 = (real)0.99, tiny = (real)1e-8;
    const real scale1 = 1 / (1 - pow(beta1, (real)step)), scale2 = 1 / (1 - pow(beta2, (real)step));
    real *p = (real *)&model->p, *m = (real *)&model->m, *v = (real *)&model->v;
    const real *g = (const real *)&model->g;
    for (size_t k = 0; k < TENSORS; k++) {
        const real decay = (real)(tensors[k].std > 0 ? 0.1 * rate : 0);
        for (size_t i = tensors[k].offset; i < tensors[k].offset + tensors[k].count; i++) {
            m[i] += (1 - beta1) * (g[i] - m[i]);
            v[i] += (1 - beta2) * (g[i] * g[i] - v[i]);
            p[i] -= decay * p[i] + (real)rate * (m[i] * scale1) / (sqrt(v[i] * scale2) + tiny);
        }
    }
}

static struct model *new_model(int naive)
{
    struct model *model = allocate(sizeof *model);
    const lnorm_problem problem = norm_problem(ROWS);
    check(lnorm_backward_workspace(&problem, &model->workspace_size));
    model->workspace = allocate(model->workspace_size);
    model->naive = naive;
    uint64_t state = 1;
    for (size_t k = 0; k < TENSORS; k++) {
        for (size_t i = 0; i < tensors[k].count; i++) {
            const double deviation = tensors[k].std * sqrt(12.0) * (uniform(&state) - 0.5);
            ((real *)&model->p)[tensors[k].offset + i] = (real)(tensors[k].mean + deviation);
        }
    }
    return model;
}

static void free_model(struct model *model)
{
    free(model->workspace);
    free(model);
}

/* ---- The program ----------------------------------------------------------------------------------------------- */

struct text {
    size_t length;
    unsigned char codes[1 << 20]; /* 0 .. VOCAB - 1 */
};

static void read_text(const char *path, struct text *text)
{
    FILE *file = fopen(path, "r");
    if (!file) {
        fail("the text cannot be read");
    }
    for (int c; text->length < sizeof text->codes && (c = getc(file)) != EOF;) {
        if (c != '\n' && (c < ' ' || c > '~')) {
            fail("the text must be printable ASCII");
        }
        text->codes[text->length++] = (unsigned char)(c == '\n' ? END : c - ' ');
    }
    fclose(file);
    if (text->length <= CONTEXT) {
        fail("the text is too short");
    }
}

static void draw_batch(const struct text *text, uint64_t *state, struct batch *batch)
{
    for (size_t r = 0; r < ROWS; r += CONTEXT) {
        const unsigned char *piece = text->codes + (size_t)(uniform(state) * (double)(text->length - CONTEXT));
        memcpy(batch->input + r, piece, CONTEXT);
        memcpy(batch->target + r, piece + 1, CONTEXT);
    }
}

/* The loss with factor * steps added to one tensor. Without training, v is free to keep what the parameters were. */
static double loss_beside(struct model *model, const struct tensor *tensor, real factor, const real *steps,
                          const struct batch *batch)
{
    model->v = model->p;
    for (size_t i = tensor->offset; i < tensor->offset + tensor->count; i++) {
        ((real *)&model->p)[i] += factor * steps[i];
    }
    const double loss = loss_of(model, batch);
    model->p = model->v;
    return loss;
}

/* No row may look at what comes after it: another last character changes the last row alone. */
static int check_causality(struct model *model, const struct batch *batch)
{
    real before[(CONTEXT - 1) * VOCAB];
    struct batch other = *batch;
    other.input[CONTEXT - 1] ^= 1;
    forward(model, CONTEXT, batch->input);
    memcpy(before, model->probs, sizeof before);
    forward(model, CONTEXT, other.input);
    const int failed = memcmp(before, model->probs, sizeof before) != 0;
    printf("%s: rows look %s\n", NAMES[model->naive], failed ? "ahead   WRONG" : "back only");
    return failed;
}

/* Moves each tensor's elements by a small step, each to a random side: the loss must change as the gradients say. */
static int check_model(const struct text *text, int naive)
{
    struct model *model = new_model(naive);
    real *p = (real *)&model->p, *steps = allocate(sizeof model->p);
    const real *g = (const real *)&model->g;
    uint64_t state = 2;
    struct batch batch;
    draw_batch(text, &state, &batch);
    int failed = check_causality(model, &batch);
    for (size_t i = 0; i < sizeof model->p / sizeof(real); i++) {
        p[i] += (real)(0.2 * uniform(&state) - 0.1); /* away from gamma = 1 and from biases of 0 */
        steps[i] = (real)(uniform(&state) < 0.5 ? -CHECK_STEP : CHECK_STEP);
    }
    loss_of(model, &batch);
    backward(model, &batch);

    printf("%s: gradients, and how finite differences differ\n", NAMES[naive]);
    for (size_t k = 0; k < TENSORS; k++) {
        const double above = loss_beside(model, &tensors[k], 1, steps, &batch);
        const double below = loss_beside(model, &tensors[k], -1, steps, &batch);
        double change = 0, squares = 0;
        for (size_t i = tensors[k].offset; i < tensors[k].offset + tensors[k].count; i++) {
            change += (double)g[i] * (double)steps[i];
            squares += (double)g[i] * (double)g[i];
        }
        const double size = sqrt(squares), error = fabs((above - below) / 2 - change) / (CHECK_STEP * size);
        printf("%12s %10.4f %10.1e%s\n", tensors[k].name, size, error, error <= CHECK_BOUND ? "" : "   WRONG");
        failed |= !(error <= CHECK_BOUND);
    }
    free(steps);
    free_model(model);
    return failed;
}

/* Goes on from "The" to the end of the line. */
static void print_sample(struct model *model, uint64_t *state)
{
    unsigned char line[4 * CONTEXT] = {END, 'T' - ' ', 'h' - ' ', 'e' - ' '};
    printf("\nThe");
    for (size_t length = 4; length < sizeof line; length++) {
        const size_t begin = length < CONTEXT ? 0 : length - CONTEXT;
        size_t next;
        forward(model, CONTEXT, line + begin); /* what comes after the last character is not looked at */
        const real *probs = model->probs + (length - 1 - begin) * VOCAB;
        do { /* by the square of its probability, so that rare ones stay rare */
            double left = uniform(state);
            for (next = 0; next + 1 < VOCAB && (left -= (double)probs[next]) >= 0; next++) {
            }
        } while (uniform(state) > (double)probs[next]);
        if (next == END) {
            break;
        }
        line[length] = (unsigned char)next;
        putchar((int)next + ' ');
    }
    putchar('\n');
}

/* Trains models first .. last of NAMES. Returns 0 if the loss fell (20 steps are enough to see it), and the two losses
 * were the same but for rounding. */
static int train(const struct text *text, int first, int last, size_t steps)
{
    struct model *model[2] = {NULL, NULL};
    double loss[2] = {0, 0}, loss_at_first = 0, largest = 0;
    uint64_t state = 3;
    printf("  step");
    for (int i = first; i <= last; i++) {
        model[i] = new_model(i);
        printf("  loss: %s", NAMES[i]);
    }
    printf(first < last ? "  difference\n" : "\n");

    for (size_t step = 1; step <= steps; step++) {
        const double part = (double)step / (double)steps, rate = 0.004 * (part < 0.1 ? 10 * part : (1 - part) / 0.9);
        struct batch batch;
        draw_batch(text, &state, &batch);
        for (int turn = first; turn <= last; turn++) {
            const int i = step % 2 ? turn : first + last - turn; /* neither is always first */
            const clock_t start = clock();
            loss[i] = loss_of(model[i], &batch);
            backward(model[i], &batch);
            update(model[i], step, rate);
            model[i]->time += clock() - start;
        }
        const double difference = fabs(loss[last] - loss[first]);
        largest = difference <= largest ? largest : difference; /* NaN too */
        loss_at_first = step == 1 ? loss[first] : loss_at_first;
        if (step == 1 || step % (steps < 10 ? 1 : steps / 10) == 0) {
            printf("%6zu %12.6f", step, loss[first]);
            printf(first < last ? " %12.6f %11.1e\n" : "\n", loss[last], difference);
        }
    }
    if (first < last) {
        printf("largest difference %.1e\n", largest);
    }

    printf("\n%21s  in norms\n", "seconds");
    for (int i = first; i <= last; i++) {
        const double all = (double)model[i]->time / CLOCKS_PER_SEC,
                     norms = (double)model[i]->norm_time / CLOCKS_PER_SEC;
        printf("%13s %7.2f %9.3f = %.2f %%\n", NAMES[i], all, norms, 100 * norms / all);
    }
    if (first < last) {
        printf("naive / lnorm %7.3f %9.3f\n", (double)model[1]->time / (double)model[0]->time,
               (double)model[1]->norm_time / (double)model[0]->norm_time);
    }
    print_sample(model[first], &state);
    for (int i = first; i <= last; i++) {
        free_model(model[i]);
    }
    const int fell = steps < 20 || loss[last] < 0.8 * loss_at_first;
    return !(fell && largest <= LOSS_BOUND);
}

int main(int argc, char **argv)
{
    static struct text text;
    const char *path = NULL;
    int first = 0, last = 1, checking = 0, failed = 0;
    long steps = 400;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--check")) {
            checking = 1;
        } else if (!strcmp(argv[i], "--steps") && (steps = strtol(value, NULL, 10)) > 0) {
            i++;
        } else if (!strcmp(argv[i], "--norm") && (!strcmp(value, "lnorm") || !strcmp(value, "naive"))) {
            first = last = !strcmp(argv[++i], "naive");
        } else if (!strcmp(argv[i], "--norm") && !strcmp(value, "both")) {
            first = 0, last = 1, i++;
        } else if (argv[i][0] != '-' && !path) {
            path = argv[i];
        } else {
            path = NULL;
            break;
        }
    }
    if (!path) {
        fail("usage: gpt [--norm lnorm|naive|both] [--steps N] [--check] TEXT");
    }
    read_text(path, &text);
    if (!checking) {
        return train(&text, first, last, (size_t)steps);
    }
    for (int i = first; i <= last; i++) {
        failed |= check_model(&text, i);
    }
    return failed;
}

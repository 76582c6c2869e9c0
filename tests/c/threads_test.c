/* lnorm_threads_test [ROUNDS]: many threads over one library. Whatever the others do, lnorm_set_isa too, a call gives
 * the bits that it gives alone: with a hook that starts threads itself, and where it is the first of the process. */
#include "test_support.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

enum { THREADS = 100, RACERS = 8, MOST_ELEMENTS = 70000, MOST_ROWS = 5000, MOST_NORM = 1000 };

typedef struct shape {
    int64_t outer, norm, inner;
} shape;

static const shape shapes[] = {{40, 300, 1}, {90, 768, 1}, {2, 70, 33}, {5000, 5, 1}};

enum { SHAPES = (int)(sizeof shapes / sizeof shapes[0]) };

static float x[MOST_ELEMENTS], dy[MOST_ELEMENTS], weight[MOST_NORM];

typedef struct results {
    float y[MOST_ELEMENTS], dx[MOST_ELEMENTS], mean[MOST_ROWS], rstd[MOST_ROWS], dgamma[MOST_NORM], dbeta[MOST_NORM];
} results;

static results *alone; /* of each shape; shared with the processes that follow */

static bool compute(const shape *s, lnorm_parallel_for hook, results *to)
{
    size_t size = 0, calls = 0;
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    problem.outer = s->outer;
    problem.norm = s->norm;
    problem.inner = s->inner;
    problem.eps = 1e-5;
    problem.parallel_for = hook;
    problem.parallel_context = &calls;
    memset(to, 0, sizeof *to);
    bool done = lnorm_forward(&problem, x, weight, NULL, to->y, to->mean, to->rstd) == LNORM_OK &&
                lnorm_backward_workspace(&problem, &size) == LNORM_OK;
    void *const workspace = test_allocate(size);
    done = done && lnorm_backward(&problem, dy, x, to->mean, to->rstd, weight, to->dx, to->dgamma, to->dbeta, workspace,
                                  size) == LNORM_OK;
    free(workspace);
    return done;
}

/* ---- Threads that compute, every third with a choice of the set of its own ---- */

static void wait_microseconds(long count)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000 * count}, NULL);
}

/* Instead of the C library's. The library asks for LNORM_ISA, and chooses; so all threads are at it at once. */
char *getenv(const char *name)
{
    (void)name;
    wait_microseconds(1000);
    return NULL;
}

static atomic_bool begin; /* for all threads at once */
static size_t calls;      /* of each thread */

typedef struct worker {
    pthread_t thread;
    size_t index;
    bool changes_set, passed;
} worker;

static size_t count_sets(void)
{
    size_t count = 0;
    while (lnorm_available_isa(count)) {
        count++;
    }
    return count;
}

static void *work(void *argument)
{
    worker *const self = argument;
    results *const got = test_allocate(sizeof *got);
    while (!atomic_load(&begin)) {
        sched_yield();
    }
    self->passed = lnorm_isa() != NULL;
    for (size_t i = self->index; i < self->index + calls; i++) {
        const results *const expected = &alone[i % SHAPES];
        const bool set = !self->changes_set || /* to each, and by NULL back to the best */
                         lnorm_set_isa(lnorm_available_isa(i % (count_sets() + 1))) == LNORM_OK;
        self->passed = compute(&shapes[i % SHAPES], i % 2 ? run_threads : NULL, got) && set && self->passed &&
                       memcmp(got, expected, sizeof *got) == 0;
    }
    free(got);
    return NULL;
}

/* The calling thread sets `name` meanwhile, or nothing. */
static void run_workers(size_t count, bool change_sets, const char *name)
{
    static worker workers[THREADS];
    atomic_store(&begin, false);
    for (size_t i = 0; i < count; i++) {
        workers[i].index = i;
        workers[i].changes_set = change_sets && i % 3 == 0;
        start_thread(&workers[i].thread, work, &workers[i]);
    }
    atomic_store(&begin, true);
    if (name) {
        wait_microseconds(500);
        CHECK(lnorm_set_isa(name) == LNORM_OK);
    }
    for (size_t i = 0; i < count; i++) {
        pthread_join(workers[i].thread, NULL);
        CHECK(workers[i].passed);
    }
}

/* ---- First calls: each in a new process, as the library remembers which set it chose ---- */

static void compute_alone(size_t round)
{
    (void)round;
    for (int i = 0; i < SHAPES; i++) {
        CHECK(compute(&shapes[i], NULL, &alone[i]));
    }
}

/* Either all threads choose the same set, or the one that is set meanwhile stays. */
static void race(size_t round)
{
    const char *const name = round % 2 ? "scalar" : NULL;
    calls = 1;
    run_workers(RACERS, false, name);
    CHECK(strcmp(lnorm_isa(), name ? name : lnorm_available_isa(0)) == 0);
}

static void run_in_process(void (*run)(size_t round), size_t round)
{
    int status = -1;
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        run(round);
        exit(test_failures ? EXIT_FAILURE : EXIT_SUCCESS);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

int main(int argc, char **argv)
{
    const size_t rounds = argc > 1 ? (size_t)atoi(argv[1]) : 100;
    uint64_t random = 1;
    fill_values(LNORM_F32, x, MOST_ELEMENTS, 0.0, 1.0, &random);
    fill_values(LNORM_F32, dy, MOST_ELEMENTS, 0.0, 1.0, &random);
    fill_values(LNORM_F32, weight, MOST_NORM, 0.5, 1.0, &random);
    alone = mmap(NULL, SHAPES * sizeof *alone, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!CHECK(alone != MAP_FAILED)) {
        return test_result("threads_test");
    }
    run_in_process(compute_alone, 0);
    for (size_t round = 0; round < rounds; round++) {
        run_in_process(race, round);
    }
    calls = 1 + rounds / 10;
    run_workers(THREADS, true, NULL);
    return test_result("threads_test");
}

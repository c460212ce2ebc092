// As much of CUDA as kernels/lrc_kernels/gpu/*.cu need, on the host: a thread is a fiber.
//
// Fibers run in order until each waits at a barrier, so that a missing one shows as a wrong result
// more often than not. THREADS is that of a block; blocks run one after the other.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <ucontext.h>
#include <vector>

using std::max;
using std::min;
typedef unsigned int word;

struct Dimension {
    int x;
};
struct uint2 {
    word x, y;
};
static Dimension threadIdx, blockIdx, gridDim, blockDim{THREADS};

#define __device__ static
#define __global__
#define __shared__ static
#define __align__(n) alignas(n)
#define __launch_bounds__(n)
#define __restrict__

static int max(word a, int b) { return (int)std::max(a, (word)b); }
static uint2 make_uint2(word x, word y) { return {x, y}; }
static int __float2int_rn(float x) { return (int)std::nearbyint(x); }
static float __int_as_float(int bits)
{
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
static word __byte_perm(word a, word b, word order)
{
    if (order != 0x7632)
        std::abort();
    return a >> 16 | (b & 0xffff0000u);
}
static word __vminu2(word a, word b)
{
    return std::min(a >> 16, b >> 16) << 16 | std::min(a & 0xffff, b & 0xffff);
}
static int atomicAdd(int* place, int value)
{
    const int before = *place;
    *place += value;
    return before;
}

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(1 << 16);
    bool done;
};
struct Barrier {
    int waiting = 0, round = 0;
};
static Fiber fibers[THREADS];
static ucontext_t scheduler;
static Barrier block_barrier, warp_barriers[(THREADS + 31) / 32];
static word exchanged[THREADS];
static std::function<void()> body;

static void wait(Barrier& barrier, int count)
{
    const int round = barrier.round, me = threadIdx.x;
    if (++barrier.waiting == count) {
        barrier.waiting = 0;
        barrier.round++;
    }
    while (barrier.round == round) {
        swapcontext(&fibers[me].context, &scheduler);
        threadIdx.x = me;
    }
}

static void __syncthreads() { wait(block_barrier, THREADS); }

static word __shfl_xor_sync(word, word value, int away)
{
    Barrier& warp = warp_barriers[threadIdx.x / 32];
    exchanged[threadIdx.x] = value;
    wait(warp, 32);
    const word found = exchanged[threadIdx.x ^ away];
    wait(warp, 32);
    return found;
}

static void enter()
{
    const int me = threadIdx.x;
    body();
    fibers[me].done = true;
    swapcontext(&fibers[me].context, &scheduler);
}

static void launch(int blocks, std::function<void()> kernel)
{
    body = kernel;
    gridDim.x = blocks;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) {
        for (Fiber& fiber : fibers) {
            getcontext(&fiber.context);
            fiber.done = false;
            fiber.context.uc_stack.ss_sp = fiber.stack.data();
            fiber.context.uc_stack.ss_size = fiber.stack.size();
            fiber.context.uc_link = &scheduler;
            makecontext(&fiber.context, enter, 0);
        }
        for (bool left = true; left;) {
            left = false;
            for (int i = 0; i < THREADS; i++)
                if (!fibers[i].done) {
                    left = true;
                    threadIdx.x = i;
                    swapcontext(&scheduler, &fibers[i].context);
                }
        }
    }
}

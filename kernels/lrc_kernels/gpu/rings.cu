// Nearest paths of tail-biting trellises, and rounding with them column by column.
//
// The arithmetic is that of lrc_kernels/trellis_fixed.py, integer by integer; floats are rounded
// after every operation (--fmad=false), in the order of lrc/quant/ldlq.py.
//
// One block searches a ring of 256 weights: a thread has groups THREADS apart, so that loads of
// predecessors and stores of costs are of neighbours. Constants come from the compiler's command
// line: BITS, STATE_BITS, PERIOD, DOUBLINGS, THREADS, STEP, and whether costs (SHARED_COSTS) and
// choices (SHARED_BACK) fit into shared memory or lie in `work`.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define RING 256
#define SEAM 48
#define STATES (1 << STATE_BITS)
#define GROUPS (STATES >> BITS)
#define WAYS (1 << BITS)
#define EACH ((GROUPS + THREADS - 1) / THREADS)
#define WARPS (THREADS / 32)
#define ALL 0xffffffffu

// Choices of eight steps of a group lie together, FIELD bits each.
#if BITS == 2
#define FIELD 2
typedef u16 Choices;
#else
#define FIELD 4
typedef u32 Choices;
#endif

#define COSTS_BYTES (2 * STATES * sizeof(u16))
#define BACK_BYTES (RING / 8 * GROUPS * sizeof(Choices))

struct Scratch {
    u8* work;
    short z[RING];
    u16 path[RING];
    float error[RING];
    float gain[16];
    u32 least[WARPS];
    int shared_bits;
};

extern __shared__ __align__(16) unsigned char dynamic[];

__device__ void lay_out(Scratch& scratch, u8* work)
{
    if (threadIdx.x == 0)
        scratch.work = work + blockIdx.x * (COSTS_BYTES + BACK_BYTES);
    __syncthreads();
}

// Costs (2, STATES).
__device__ u16* costs_of(const Scratch& scratch)
{
    return (u16*)(SHARED_COSTS ? dynamic : scratch.work);
}

// Choices (RING / 8, GROUPS).
__device__ Choices* back_of(const Scratch& scratch)
{
    u8* shared = dynamic + (SHARED_COSTS ? COSTS_BYTES : 0);
    return (Choices*)(SHARED_BACK ? shared : scratch.work + COSTS_BYTES);
}

__device__ u32 least_of_warp(u32 value)
{
    for (int away = 16; away; away >>= 1)
        value = min(value, __shfl_xor_sync(ALL, value, away));
    return value;
}

__device__ u32 least_of_block(const Scratch& scratch)
{
    const int lane = threadIdx.x & 31;
    return least_of_warp(lane < WARPS ? scratch.least[lane] : ALL);
}

// The squared difference, of which the upper half counts; linear where doublings saturate.
__device__ u32 distance(int value, int z)
{
    const int twice = max(min((value - z) * (1 << DOUBLINGS), 32767), -32768);
    const u32 square = twice * twice;
    if (!DOUBLINGS)
        return square;
    const int first = max(min(value - z, 32767), -32768);
    return square + ((u32)max(abs(first) - (32767 >> DOUBLINGS), 0) << 16);
}

// Costs of two neighbours: of their group's best, twice, and distances, saturated.
__device__ u32 two_costs(u32 best, u32 values, int z)
{
    const u32 low = distance((short)(values & 0xffff), z), high = distance((int)values >> 16, z);
    const u32 upper = __byte_perm(low, high, 0x7632);
    return __vminu2(best, ~upper) + upper;
}

// `count` (a multiple of eight) steps from weight `start` (cyclic, the last of eight) down; costs
// end where they began. What is to be subtracted from all costs is when they are next read.
__device__ void search(Scratch& scratch, const short* __restrict__ values, int start, int count)
{
    const int lane = threadIdx.x & 31;
    u16* const costs = costs_of(scratch);
    for (int i = 0, eight = start / 8; i < count / 8; i++, eight--) {
        eight &= RING / 8 - 1;
        u32 choices[EACH];
#pragma unroll
        for (int e = 0; e < EACH; e++)
            choices[e] = 0;
#pragma unroll
        for (int s = 7; s >= 0; s--) {
            const u16* from = costs + (s & 1 ? 0 : STATES);
            u16* to = costs + (s & 1 ? STATES : 0);
            const int z = scratch.z[8 * eight + s];
            const u32 lower = s == 0 ? least_of_block(scratch) : 0;
            u32 least = ALL;
#pragma unroll
            for (int e = 0; e < EACH; e++) {
                const int j = threadIdx.x + e * THREADS;
                if (GROUPS % THREADS && j >= GROUPS)
                    break;
                u32 best = ALL;
#pragma unroll
                for (int way = 0; way < WAYS; way++)
                    best = min(best, ((from[way * GROUPS + j] - lower) & ~(WAYS - 1)) | way);
                choices[e] = choices[e] << FIELD | (best & (WAYS - 1));
                best &= ~(WAYS - 1);
                best |= best << 16;
                const u32* found = (const u32*)(values + (s & (PERIOD - 1)) * STATES) + j * WAYS / 2;
                uint2* target = (uint2*)(to + j * WAYS);
#pragma unroll
                for (int four = 0; four < WAYS / 4; four++) {
                    const u32 a = two_costs(best, found[2 * four], z);
                    const u32 b = two_costs(best, found[2 * four + 1], z);
                    target[four] = make_uint2(a, b);
                    if (s == 1)
                        least = __vminu2(least, __vminu2(a, b));
                }
            }
            if (s == 1) {
                least = least_of_warp(min(least & 0xffff, least >> 16));
                if (lane == 0)
                    scratch.least[threadIdx.x / 32] = least;
            }
            __syncthreads();
        }
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int j = threadIdx.x + e * THREADS;
            if (GROUPS % THREADS == 0 || j < GROUPS)
                back_of(scratch)[eight * GROUPS + j] = choices[e];
        }
    }
    __syncthreads();
}

__device__ int before(const Scratch& scratch, int t, int state)
{
    const int shared = state >> BITS;
    const u32 choices = back_of(scratch)[t / 8 * GROUPS + shared];
    return (choices >> (t % 8 * FIELD) & (WAYS - 1)) * GROUPS + shared;
}

// scratch.z to scratch.path, by all threads of the block, which have met after scratch.z was written.
__device__ void nearest_ring(Scratch& scratch, const short* __restrict__ values)
{
    u16* const costs = costs_of(scratch);
    for (int s = threadIdx.x; s < STATES; s += THREADS)
        costs[s] = 0;
    __syncthreads();
    search(scratch, values, SEAM - 1, 2 * SEAM);
    u32 key = ALL;
    for (int s = threadIdx.x; s < STATES; s += THREADS)
        key = min(key, (u32)costs[s] << 16 | s);
    key = least_of_warp(key);
    if ((threadIdx.x & 31) == 0)
        scratch.least[threadIdx.x / 32] = key;
    __syncthreads();
    int state = least_of_block(scratch) & 0xffff;
    if (threadIdx.x == 0) {
        for (int t = RING - SEAM; t < RING - 1; t++)
            state = before(scratch, t, state);
        scratch.shared_bits = state >> BITS;
    }
    __syncthreads();
    const int shared = scratch.shared_bits;
    for (int s = threadIdx.x; s < STATES; s += THREADS)
        costs[s] = (s & (GROUPS - 1)) == shared ? 0 : 65535;
    __syncthreads();
    search(scratch, values, RING - 1, RING);
    if (threadIdx.x == 0) {
        int best = shared;
        for (int way = 1; way < WAYS; way++)
            if (costs[way * GROUPS + shared] < costs[best])
                best = way * GROUPS + shared;
        for (int t = 0; t < RING; t++) {
            scratch.path[t] = best;
            best = before(scratch, t, best);
        }
    }
    __syncthreads();
}

__device__ short fixed(float z)
{
    const float limit = 32767.0f / STEP;
    return (short)__float2int_rn(fminf(fmaxf(z, -limit), limit) * STEP);
}

// Z f32 (rings, 256) to states u16 (rings, 256).
extern "C" __global__ void __launch_bounds__(THREADS)
encode_rings(const float* Z, const short* values, int rings, unsigned char* work, u16* states)
{
    __shared__ Scratch scratch;
    lay_out(scratch, work);
    for (int ring = blockIdx.x; ring < rings; ring += gridDim.x) {
        for (int t = threadIdx.x; t < RING; t += THREADS)
            scratch.z[t] = fixed(Z[(size_t)ring * RING + t]);
        __syncthreads();
        nearest_ring(scratch, values);
        for (int t = threadIdx.x; t < RING; t += THREADS)
            states[(size_t)ring * RING + t] = scratch.path[t];
    }
}

// Round the columns of a panel from the last to the first, each corrected by the errors so far.
//
// Matrices are stored by columns: W, states, values and error (n, m), of which columns `start` to
// `start + width - 1` are read and written, target (width, m), which is used up; feedback (width,
// width), row a what column a's error adds to others. scales (m) or (1).
extern "C" __global__ void __launch_bounds__(THREADS)
ldlq_column_panel(const float* W, float* target, const float* feedback, const float* scales,
                  int scale_step, const short* values_fixed, const float* levels, int m, int start,
                  int width, unsigned char* work, u16* states, float* values, float* error)
{
    __shared__ Scratch scratch;
    lay_out(scratch, work);
    const int r = threadIdx.x & (RING - 1), part = threadIdx.x / RING;
    for (int band = blockIdx.x; band < m / RING; band += gridDim.x) {
        const int row = band * RING + r;
        const float scale = scales[row * scale_step];
        for (int a = width - 1; a >= 0; a--) {
            const size_t at = (size_t)(start + a) * m + row;
            if (part == 0)
                scratch.z[r] = fixed(scale != 0 ? target[(size_t)a * m + row] / scale : 0.0f);
            __syncthreads();
            nearest_ring(scratch, values_fixed);
            if (part == 0) {
                const float value = levels[(r & (PERIOD - 1)) * STATES + scratch.path[r]] * scale;
                states[at] = scratch.path[r];
                values[at] = value;
                error[at] = scratch.error[r] = W[at] - value;
            }
            __syncthreads();
            for (int c = part; c < a; c += THREADS / RING)
                target[(size_t)c * m + row] += scratch.error[r] * feedback[a * width + c];
            __syncthreads();
        }
    }
}

// The order of NumPy's pairwise sum of 256 floats; to all threads.
__device__ float sum_of_ring(Scratch& scratch)
{
    if (threadIdx.x < 16) {
        const float* half = scratch.error + threadIdx.x / 8 * 128 + threadIdx.x % 8;
        float sum = half[0];
        for (int i = 8; i < 128; i += 8)
            sum += half[i];
        scratch.gain[threadIdx.x] = sum;
    }
    __syncthreads();
    const float* g = scratch.gain;
    const float first = ((g[0] + g[1]) + (g[2] + g[3])) + ((g[4] + g[5]) + (g[6] + g[7]));
    const float second = ((g[8] + g[9]) + (g[10] + g[11])) + ((g[12] + g[13]) + (g[14] + g[15]));
    return first + second;
}

// One sweep of coordinate descent over a panel: a ring moves where that lowers the loss.
//
// As above; gradient (width, m) is (W - Q) H of the panel, metric (width, width) H's diagonal block,
// inverse (n) one over H's diagonal. `moved` counts the rings that did.
extern "C" __global__ void __launch_bounds__(THREADS)
polish_column_panel(float* gradient, const float* metric, const float* inverse,
                    const float* scales, int scale_step, const short* values_fixed,
                    const float* levels, int m, int start, int width, unsigned char* work,
                    u16* states, float* values, float* error, int* moved)
{
    __shared__ Scratch scratch;
    lay_out(scratch, work);
    const int r = threadIdx.x & (RING - 1), part = threadIdx.x / RING;
    for (int band = blockIdx.x; band < m / RING; band += gridDim.x) {
        const int row = band * RING + r;
        const float scale = scales[row * scale_step];
        for (int a = width - 1; a >= 0; a--) {
            const size_t at = (size_t)(start + a) * m + row;
            const float g = gradient[(size_t)a * m + row], old = values[at];
            if (part == 0) {
                const float wanted = old + g * inverse[start + a];
                scratch.z[r] = fixed(scale != 0 ? wanted / scale : 0.0f);
            }
            __syncthreads();
            nearest_ring(scratch, values_fixed);
            const float value = levels[(r & (PERIOD - 1)) * STATES + scratch.path[r]] * scale;
            const float delta = value - old;
            if (part == 0)
                scratch.error[r] = (delta * metric[a * width + a] - 2.0f * g) * delta;
            __syncthreads();
            if (sum_of_ring(scratch) < 0) {
                if (part == 0) {
                    states[at] = scratch.path[r];
                    values[at] = value;
                    error[at] -= delta;
                }
                for (int c = part; c < width; c += THREADS / RING)
                    gradient[(size_t)c * m + row] -= delta * metric[a * width + c];
                if (threadIdx.x == 0)
                    atomicAdd(moved, 1);
            }
            __syncthreads();
        }
    }
}

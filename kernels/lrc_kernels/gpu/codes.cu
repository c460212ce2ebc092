// Lattice points, levels, packed bits, trellis words and Hadamard transforms: one thread an item.
//
// Each is the arithmetic of the file of the same kernel under lrc_kernels/cpu/, operation by
// operation (--fmad=false), so that codes are the same.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

__device__ long long item() { return (long long)blockIdx.x * blockDim.x + threadIdx.x; }

struct Scored {
    float score, bound;
    int orbit;
};

__device__ void sort_pair(float* a, int i, int j)
{
    const float p = a[i], q = a[j];
    a[i] = p > q ? p : q;
    a[j] = p > q ? q : p;
}

// Best of the seven orbits under one shift; see cpu/encode/lattice.py.
__device__ Scored score_orbits(const float* x, float shift, float offset)
{
    const int network[19][2] = {{0, 1}, {2, 3}, {4, 5}, {6, 7}, {0, 2}, {1, 3}, {4, 6},
                                {5, 7}, {1, 2}, {5, 6}, {0, 4}, {1, 5}, {2, 6}, {3, 7},
                                {2, 4}, {3, 5}, {1, 2}, {3, 4}, {5, 6}};
    float a[8];
    int odd = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float y = x[i] - shift;
        a[i] = y < 0 ? -y : y;
        odd ^= y < 0;
    }
#pragma unroll
    for (int step = 0; step < 19; step++)
        sort_pair(a, network[step][0], network[step][1]);
    float total = a[0] + a[1] + a[2] + a[3];
    total += a[4] + a[5] + a[6] + a[7];
    total += offset;
    const float repair = 2 * a[7];
    const float even_total = total - (odd ? repair : 0.0f), odd_total = total - (odd ? 0.0f : repair);
    const float top = 2 * a[0], top1 = top + 2 * a[1], top2 = top1 + 2 * a[2];
    const float top3 = top2 + 2 * a[3];
    const float scores[7] = {even_total - 2,        odd_total + top - 4,        even_total + top1 - 6,
                             odd_total + top2 - 8,  even_total + top3 - 10,
                             even_total + top + top - 8, odd_total + top + top1 - 10};
    Scored best = {scores[0], odd_total + top3 + 2 * a[4] - 12, 0};
#pragma unroll
    for (int orbit = 1; orbit < 7; orbit++)
        if (scores[orbit] > best.score) {
            best.score = scores[orbit];
            best.orbit = orbit;
        }
    return best;
}

// Code of the best row of squared norm 12 if it beats `best`, else -1.
__device__ int scan_wide(const float* x, float best, const long long* triples)
{
    int code = -1;
    for (int minus = 0; minus < 2; minus++) {
        const float shift = minus ? -0.25f : 0.25f;
        float a[8], total = 0, sum = 0;
        int signs = 0, odd = 0;
        for (int i = 0; i < 8; i++) {
            float y = x[i] - shift;
            sum += x[i];
            if (y < 0) {
                signs |= 1 << i;
                odd ^= 1;
                y = -y;
            }
            a[i] = y;
            total += y;
        }
        const float base = 3 * total + 2 * shift * sum - 12;
        for (int index = 0; index < 29; index++) {
            const int i = triples[3 * index], j = triples[3 * index + 1], k = triples[3 * index + 2];
            float fresh = base - 2 * (a[i] + a[j] + a[k]);
            if (fresh <= best)
                continue;
            int flips = signs;
            if (!odd) {
                float cheapest = __int_as_float(0x7f800000);  // infinity
                int place = 0;
                for (int c = 0; c < 8; c++) {
                    const float cost = (c == i || c == j || c == k ? 0.5f : 1.5f) * a[c];
                    if (cost < cheapest) {
                        cheapest = cost;
                        place = c;
                    }
                }
                fresh -= 4 * cheapest;
                flips ^= 1 << place;
            }
            if (fresh > best) {
                best = fresh;
                code = (227 + index) << 8 | (flips & 254) | minus;
            }
        }
    }
    return code;
}

// Places under the chosen shift, ranked by size, to a row of the table and signs.
__device__ int assemble(const float* x, int minus, int orbit, const u8* row_index)
{
    const float shift = minus ? -0.25f : 0.25f;
    float a[8];
    int signs = 0, odd = 0;
    for (int i = 0; i < 8; i++) {
        const float y = x[i] - shift;
        signs |= (y < 0) << i;
        odd ^= y < 0;
        a[i] = y < 0 ? -y : y;
    }
    const bool five = orbit > 4;
    const int large = five ? orbit - 4 : orbit, threes = five ? orbit - 5 : orbit;
    int key = 0;
    for (int i = 0; i < 8; i++) {
        int rank = 0;
        for (int j = 0; j < 8; j++)
            rank += j < i ? a[j] >= a[i] : a[j] > a[i];
        key += (rank < large ? 1 << i : 0) + (five && rank == 0 ? 256 * (i + 1) : 0);
        if (rank == 7)
            signs ^= ((threes ^ odd) & 1) << i;
    }
    return row_index[key] << 8 | (signs & 254) | minus;
}

extern "C" __global__ void encode_e8p(const float* z, const u8* row_index, const long long* triples,
                                      long long count, u16* codes)
{
    const long long n = item();
    if (n >= count)
        return;
    float x[8], offset = 0;
    for (int i = 0; i < 8; i++) {
        x[i] = z[8 * n + i];
        offset += 0.5f * x[i];
    }
    const Scored plus = score_orbits(x, 0.25f, offset), minus = score_orbits(x, -0.25f, -offset);
    const bool second = minus.score > plus.score;
    const float best = second ? minus.score : plus.score;
    const float wide = minus.bound > plus.bound ? minus.bound : plus.bound;
    int code = wide > best ? scan_wide(x, best, triples) : -1;
    if (code < 0)
        code = assemble(x, second, second ? minus.orbit : plus.orbit, row_index);
    codes[n] = code;
}

extern "C" __global__ void encode_e81b(const float* z, long long count, u8* codes)
{
    const long long n = item();
    if (n >= count)
        return;
    float a[8], total = 0;
    int signs = 0, odd = 0, first = 0, second = 0, last = 0;
    for (int i = 0; i < 8; i++) {
        float y = z[8 * n + i];
        if (y < 0) {
            signs |= 1 << i;
            odd ^= 1;
            y = -y;
        }
        a[i] = y;
        total += y;
        if (i == 0)
            continue;
        if (y > a[first]) {
            second = first;
            first = i;
        } else if (second == first || y > a[second])
            second = i;
        if (y < a[last])
            last = i;
    }
    float best = 0, fresh = 2 * (a[first] + a[second]) - 2;
    int code = 0;
    if (fresh > best) {
        best = fresh;
        const int i = min(first, second), j = max(first, second);
        code = 1 + 4 * (i * (15 - i) / 2 + j - i - 1) + 2 * (signs >> i & 1) + (signs >> j & 1);
    }
    fresh = total - 2;
    if (odd)
        fresh -= 2 * a[last];
    if (fresh > best) {
        best = fresh;
        code = 113 + ((signs ^ (odd << last)) >> 1);
    }
    const int place = first == 7 && signs >> 7 & 1 ? second : first;
    if (4 * a[place] - 4 > best)
        code = 241 + 2 * place + (signs >> place & 1);
    codes[n] = code;
}

// Midpoints of the levels are f64, in which they are exact.
extern "C" __global__ void nearest_level(const float* z, const double* midpoints, int midpoint_count,
                                         long long count, u8* codes)
{
    const long long n = item();
    if (n >= count)
        return;
    int low = 0, high = midpoint_count;
    while (low < high) {
        const int middle = (low + high) >> 1;
        if (z[n] > midpoints[middle])
            low = middle + 1;
        else
            high = middle;
    }
    codes[n] = low;
}

// One thread a byte of the words (rows, bytes) of codes (rows, n).
extern "C" __global__ void pack_bits(const u8* codes, int bits, int n, int bytes, long long count,
                                     u8* words)
{
    const long long at = item();
    if (at >= count)
        return;
    const u8* row = codes + at / bytes * n;
    const int start = (int)(at % bytes) * 8;
    u32 found = 0;
    for (int k = start / bits; k < n && k * bits < start + 8; k++) {
        const int shift = k * bits - start;
        found |= shift < 0 ? row[k] >> -shift : (u32)row[k] << shift;
    }
    words[at] = found;
}

// One thread a code of (rows, n).
extern "C" __global__ void unpack_bits(const u8* words, int bits, int n, int bytes, long long count,
                                       u8* codes)
{
    const long long at = item();
    if (at >= count)
        return;
    const u8* row = words + at / n * bytes;
    const int start = (int)(at % n) * bits, byte = start >> 3;
    const u32 two = row[byte] | (byte + 1 < bytes ? (u32)row[byte + 1] << 8 : 0);
    codes[at] = two >> (start & 7) & ((1 << bits) - 1);
}

// One thread a weight of (bands * rows, n); `words` a band are those of its tiles.
extern "C" __global__ void decode_trellis(const u16* words, const float* levels, int bits,
                                          int state_bits, int rows, int n, int band_words,
                                          long long count, float* out)
{
    const long long at = item();
    if (at >= count)
        return;
    const int row = (int)(at / n), column = (int)(at % n);
    const int weight = column * rows + row % rows, tile = weight / 256, bit = weight % 256 * bits;
    const u16* own = words + (long long)(row / rows) * band_words + tile * 16 * bits;
    u32 stream = 0;
    for (int i = 0; i < 2; i++) {
        const int chunk = (bit / 16 + i) % (16 * bits);
        stream |= (u32)own[chunk % bits * 16 + chunk / bits] << (16 * i);
    }
    out[at] = levels[stream >> (bit & 15) & ((1 << state_bits) - 1)];
}

// One thread a pair of work (rows, 2 * pairs), `half` apart: one stage of the transform.
template <typename Float>
__device__ void butterfly(Float* work, int half, long long count)
{
    const long long n = item();
    if (n >= count)
        return;
    Float* at = work + n / half * 2 * half + n % half;
    const Float p = at[0], q = at[half];
    at[0] = p + q;
    at[half] = p - q;
}

extern "C" __global__ void butterfly_f32(float* work, int half, long long count)
{
    butterfly(work, half, count);
}

extern "C" __global__ void butterfly_f64(double* work, int half, long long count)
{
    butterfly(work, half, count);
}

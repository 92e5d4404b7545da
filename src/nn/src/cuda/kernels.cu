// Kernels of the operators that stock candle composes badly. One thread computes one value; no shared memory and no
// atomics, so results do not depend on scheduling, and a host compiler can run the same source over the grid
// (tests/cuda_kernels.rs). Activations are [N, H, W, C], neighbouring threads are neighbouring channels.

#define GRID_STRIDE(i, n)                                                                     \
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < (n);             \
         i += (long long)gridDim.x * blockDim.x)

// y [n, ho, wo, c] of x [n, h, w, c] and weights [c, 1, k, k]; padding d (k - 1) / 2.
extern "C" __global__ void depthwise_forward(const float *x, const float *w, float *y, int n, int h, int wd, int c, int k,
                                             int s, int d) {
    int ho = (h - 1) / s + 1, wo = (wd - 1) / s + 1, pad = d * (k - 1) / 2;
    GRID_STRIDE(i, (long long)n * ho * wo * c) {
        int ch = (int)(i % c), ox = (int)(i / c % wo), oy = (int)(i / c / wo % ho);
        long long image = i / c / wo / ho;
        float sum = 0.0f;
        for (int ky = 0; ky < k; ky++) {
            int iy = oy * s + ky * d - pad;
            if (iy < 0 || iy >= h) continue;
            for (int kx = 0; kx < k; kx++) {
                int ix = ox * s + kx * d - pad;
                if (ix < 0 || ix >= wd) continue;
                sum += x[((image * h + iy) * wd + ix) * c + ch] * w[(ch * k + ky) * k + kx];
            }
        }
        y[i] = sum;
    }
}

// dx [n, h, w, c] of g [n, ho, wo, c] and the weights.
extern "C" __global__ void depthwise_input_gradient(const float *g, const float *w, float *dx, int n, int h, int wd, int c,
                                                    int k, int s, int d) {
    int ho = (h - 1) / s + 1, wo = (wd - 1) / s + 1, pad = d * (k - 1) / 2;
    GRID_STRIDE(i, (long long)n * h * wd * c) {
        int ch = (int)(i % c), ix = (int)(i / c % wd), iy = (int)(i / c / wd % h);
        long long image = i / c / wd / h;
        float sum = 0.0f;
        for (int ky = 0; ky < k; ky++) {
            int ys = iy + pad - ky * d, oy = ys / s;
            if (ys < 0 || ys % s != 0 || oy >= ho) continue;
            for (int kx = 0; kx < k; kx++) {
                int xs = ix + pad - kx * d, ox = xs / s;
                if (xs < 0 || xs % s != 0 || ox >= wo) continue;
                sum += g[((image * ho + oy) * wo + ox) * c + ch] * w[(ch * k + ky) * k + kx];
            }
        }
        dx[i] = sum;
    }
}

// Part p of the weight gradient, [parts, k k, c], sums output rows p, p + parts, ...
extern "C" __global__ void depthwise_weight_parts(const float *x, const float *g, float *parts_out, int n, int h, int wd,
                                                  int c, int k, int s, int d, int parts) {
    int ho = (h - 1) / s + 1, wo = (wd - 1) / s + 1, pad = d * (k - 1) / 2;
    GRID_STRIDE(i, (long long)parts * k * k * c) {
        int ch = (int)(i % c), tap = (int)(i / c % (k * k)), part = (int)(i / c / (k * k));
        int ky = tap / k, kx = tap % k;
        float sum = 0.0f;
        for (long long row = part; row < (long long)n * ho; row += parts) {
            long long image = row / ho;
            int iy = (int)(row % ho) * s + ky * d - pad;
            if (iy < 0 || iy >= h) continue;
            for (int ox = 0; ox < wo; ox++) {
                int ix = ox * s + kx * d - pad;
                if (ix < 0 || ix >= wd) continue;
                sum += x[((image * h + iy) * wd + ix) * c + ch] * g[(row * wo + ox) * c + ch];
            }
        }
        parts_out[i] = sum;
    }
}

// dw [c, 1, k, k] of the parts.
extern "C" __global__ void depthwise_weight_sum(const float *parts_in, float *dw, int c, int taps, int parts) {
    GRID_STRIDE(i, (long long)c * taps) {
        int tap = (int)(i % taps);
        long long ch = i / taps;
        float sum = 0.0f;
        for (int p = 0; p < parts; p++) sum += parts_in[((long long)p * taps + tap) * c + ch];
        dw[i] = sum;
    }
}

// Numbers of the activations, as in cuda/mod.rs.
enum { RELU, RELU6, HARD_SWISH, SILU, SIGMOID, HARD_SIGMOID };

static __device__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

static __device__ float hard_sigmoid(float x) { return x <= -3.0f ? 0.0f : x >= 3.0f ? 1.0f : x / 6.0f + 0.5f; }

extern "C" __global__ void activation_forward(const float *x, float *y, int kind, long long n) {
    GRID_STRIDE(i, n) {
        float v = x[i];
        switch (kind) {
        case RELU: y[i] = v > 0.0f ? v : 0.0f; break;
        case RELU6: y[i] = v <= 0.0f ? 0.0f : v >= 6.0f ? 6.0f : v; break;
        case HARD_SWISH: y[i] = v * hard_sigmoid(v); break;
        case SILU: y[i] = v * sigmoid(v); break;
        case SIGMOID: y[i] = sigmoid(v); break;
        default: y[i] = hard_sigmoid(v);
        }
    }
}

// Slopes at kinks are 0, as in PyTorch.
extern "C" __global__ void activation_backward(const float *x, const float *g, float *dx, int kind, long long n) {
    GRID_STRIDE(i, n) {
        float v = x[i], s = sigmoid(v), inside = v > -3.0f && v < 3.0f ? 1.0f : 0.0f, slope;
        switch (kind) {
        case RELU: slope = v > 0.0f ? 1.0f : 0.0f; break;
        case RELU6: slope = v > 0.0f && v < 6.0f ? 1.0f : 0.0f; break;
        case HARD_SWISH: slope = hard_sigmoid(v) + inside * v / 6.0f; break;
        case SILU: slope = s * (1.0f + v * (1.0f - s)); break;
        case SIGMOID: slope = s * (1.0f - s); break;
        default: slope = inside / 6.0f;
        }
        dx[i] = g[i] * slope;
    }
}

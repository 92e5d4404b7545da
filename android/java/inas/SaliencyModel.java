package inas;

import java.nio.ByteBuffer;

/**
 * A saliency network that gives each pixel of a photo or camera frame a value of 0 (background) to 255 (salient).
 *
 * <p>Loads the native library {@code inas_c}. Buffers must be direct and are read from index 0; the planes of Android's
 * {@code Image} are. What is wrong with a model, a size or a buffer is thrown as a {@link RuntimeException}. Methods may
 * be called from any thread and wait for each other.
 */
public final class SaliencyModel implements AutoCloseable {
    static {
        System.loadLibrary("inas_c");
    }

    private static final int RGBA8 = 1;
    private static final int NV21 = 2;
    private static final int YUV420 = 3;

    private long handle;

    /** Loads an ONNX file's bytes, to run with {@code threads} threads. */
    public SaliencyModel(byte[] onnx, int threads) {
        this(onnx, threads, 0, 0);
    }

    /** Loads a model of open size, to run at {@code width} x {@code height} px. */
    public SaliencyModel(byte[] onnx, int threads, int width, int height) {
        if (onnx == null) {
            throw new NullPointerException("onnx");
        }
        handle = nativeLoad(onnx, threads, width, height);
    }

    /** Width of the network's input, px. */
    public synchronized int inputWidth() {
        return (int) (nativeInputSize(open()) >>> 32);
    }

    /** Height of the network's input, px. */
    public synchronized int inputHeight() {
        return (int) nativeInputSize(open());
    }

    /** Runs the network {@code runs} times: the first inferences are slower than the rest. */
    public synchronized void warmUp(int runs) {
        nativeWarmUp(open(), runs);
    }

    /** Steadies masks of a video: the part (0 up to, not including, 1) that the frames before have in each mask. */
    public synchronized void setSmoothing(float weight) {
        nativeSetSmoothing(open(), weight);
    }

    /**
     * The mask of a frame as Android's camera gives it ({@code ImageFormat.YUV_420_888}).
     *
     * @param rotation degrees clockwise that make the frame upright, as {@code ImageInfo.getRotationDegrees()} says
     * @param mask takes width x height bytes, lying as the frame does
     * @return milliseconds of the inference alone
     */
    public synchronized double maskYuv420(int width, int height, int rotation, ByteBuffer y, int yRowStride,
            int yPixelStride, ByteBuffer u, int uRowStride, int uPixelStride, ByteBuffer v, int vRowStride,
            int vPixelStride, ByteBuffer mask) {
        return nativeMask(open(), YUV420, width, height, rotation, y, yRowStride, yPixelStride, u, uRowStride,
                uPixelStride, v, vRowStride, vPixelStride, writable(mask), width);
    }

    /** The mask of a frame in NV21: brightness, then V and U in turn. */
    public synchronized double maskNv21(int width, int height, int rotation, ByteBuffer y, int yRowStride,
            ByteBuffer vu, int vuRowStride, ByteBuffer mask) {
        return nativeMask(open(), NV21, width, height, rotation, y, yRowStride, 1, vu, vuRowStride, 2, null, 0, 0,
                writable(mask), width);
    }

    /** The mask of red, green, blue and an ignored byte a pixel, as {@code Bitmap.copyPixelsToBuffer} gives them. */
    public synchronized double maskRgba(int width, int height, int rotation, ByteBuffer pixels, int rowStride,
            ByteBuffer mask) {
        return nativeMask(open(), RGBA8, width, height, rotation, pixels, rowStride, 4, null, 0, 0, null, 0, 0,
                writable(mask), width);
    }

    /** Frees the native model; it cannot be used afterwards. */
    @Override
    public synchronized void close() {
        nativeFree(handle);
        handle = 0;
    }

    private long open() {
        if (handle == 0) {
            throw new IllegalStateException("the model is closed");
        }
        return handle;
    }

    private static ByteBuffer writable(ByteBuffer mask) {
        if (mask != null && mask.isReadOnly()) {
            throw new IllegalArgumentException("the mask's buffer is read-only");
        }
        return mask;
    }

    private static native long nativeLoad(byte[] onnx, int threads, int width, int height);

    private static native void nativeFree(long handle);

    private static native long nativeInputSize(long handle);

    private static native void nativeWarmUp(long handle, int runs);

    private static native void nativeSetSmoothing(long handle, float weight);

    private static native double nativeMask(long handle, int format, int width, int height, int rotation,
            ByteBuffer first, int firstRow, int firstPixel, ByteBuffer second, int secondRow, int secondPixel,
            ByteBuffer third, int thirdRow, int thirdPixel, ByteBuffer mask, int maskRow);
}

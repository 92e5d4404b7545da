import inas.SaliencyModel;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.Callable;

/** Everything that a program can do wrong must be an exception with words. */
public final class Misuse {
    private static void refused(String words, Callable<?> call) {
        try {
            call.call();
        } catch (Exception e) {
            if (e.getMessage() == null || !e.getMessage().contains(words)) {
                throw new AssertionError("expected \"" + words + "\", got " + e, e);
            }
            return;
        }
        throw new AssertionError("not refused: " + words);
    }

    public static void main(String[] args) throws Exception {
        byte[] onnx = Files.readAllBytes(Path.of(args[0]));
        ByteBuffer pixels = ByteBuffer.allocateDirect(4 * 8 * 6);
        ByteBuffer mask = ByteBuffer.allocateDirect(8 * 6);
        ByteBuffer heap = ByteBuffer.allocate(4 * 8 * 6);
        refused("onnx", () -> new SaliencyModel(null, 1));
        refused("cannot load", () -> new SaliencyModel(new byte[0], 1));
        refused("cannot load", () -> new SaliencyModel(java.util.Arrays.copyOf(onnx, 1000), 1));
        refused("threads", () -> new SaliencyModel(onnx, -1));
        SaliencyModel model = new SaliencyModel(onnx, 2);
        model.maskRgba(8, 6, 0, pixels, 32, mask);
        model.maskYuv420(8, 6, 270, pixels, 8, 1, pixels, 8, 2, pixels, 8, 2, mask);
        model.maskNv21(8, 6, 90, pixels, 8, pixels, 8, mask);
        refused("RGBA buffer needs", () -> model.maskRgba(8, 7, 0, pixels, 32, mask));
        refused("mask needs", () -> model.maskNv21(8, 7, 0, pixels, 8, pixels, 8, mask));
        refused("VU plane needs", () -> model.maskNv21(8, 6, 0, pixels, 8, mask, 40, mask));
        refused("1 to", () -> model.maskRgba(0, 6, 0, pixels, 32, mask));
        refused("width", () -> model.maskRgba(-8, 6, 0, pixels, 32, mask));
        refused("rotation", () -> model.maskRgba(8, 6, 45, pixels, 32, mask));
        refused("row stride", () -> model.maskRgba(8, 6, 0, pixels, 31, mask));
        refused("row stride", () -> model.maskRgba(8, 6, 0, pixels, -32, mask));
        refused("plane is null", () -> model.maskRgba(8, 6, 0, null, 32, mask));
        refused("mask is null", () -> model.maskRgba(8, 6, 0, pixels, 32, null));
        refused("no direct buffer", () -> model.maskRgba(8, 6, 0, heap, 32, mask));
        refused("read-only", () -> model.maskRgba(8, 6, 0, pixels, 32, mask.asReadOnlyBuffer()));
        refused("smoothing", () -> { model.setSmoothing(1.5f); return null; });
        refused("runs", () -> { model.warmUp(-1); return null; });
        model.close();
        model.close();
        refused("closed", () -> model.maskRgba(8, 6, 0, pixels, 32, mask));
        System.out.println("all refused");
    }
}

import inas.SaliencyModel;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;

/** The mask of a file of RGBA bytes: java Mask MODEL.onnx PIXELS.rgba WIDTH HEIGHT ROTATION MASK.grey */
public final class Mask {
    public static void main(String[] args) throws IOException {
        int width = Integer.parseInt(args[2]);
        int height = Integer.parseInt(args[3]);
        byte[] rgba = Files.readAllBytes(Path.of(args[1]));
        ByteBuffer pixels = ByteBuffer.allocateDirect(rgba.length);
        pixels.put(rgba);
        ByteBuffer mask = ByteBuffer.allocateDirect(width * height);
        try (SaliencyModel model = new SaliencyModel(Files.readAllBytes(Path.of(args[0])), 1)) {
            model.warmUp(2);
            double ms = model.maskRgba(width, height, Integer.parseInt(args[4]), pixels, 4 * width, mask);
            System.out.printf("%d x %d px network, %.2f ms%n", model.inputWidth(), model.inputHeight(), ms);
        }
        byte[] grey = new byte[width * height];
        mask.get(grey);
        Files.write(Path.of(args[5]), grey);
    }
}

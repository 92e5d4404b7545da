#!/usr/bin/env python3
"""Makes the small image set under data/: composites with exact masks, and four free photos.

Objects (with alpha) and backgrounds come from freely licensed packages, which are fetched by name with pip, npm and
apt-get (a Debian machine is assumed). The same seed and the same package versions give the same files:

    python3 -m venv mini-venv && mini-venv/bin/pip install pillow==13.0.0 numpy==2.3.4
    mini-venv/bin/python scripts/make-mini-set.py [--out data] [--cache DIR] [--sheet contact.png]

Validation uses objects and backgrounds that training lacks. data/LICENSES.md is written along.
"""

import argparse
import math
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

SEED = 20260601
SIDE = 160
TRAIN, VAL = 60, 20
JPEG_QUALITY = 90
EMOJI = "@lobehub/fluent-emoji-3d@1.1.0"
SKIMAGE = "scikit-image==0.26.0"
SKLEARN = "scikit-learn==1.9.1"
WALLPAPERS = "lomiri-wallpapers-16.04"

CC0 = "CC0-1.0"
BY4 = "CC-BY-4.0"
BY2 = "CC-BY-2.0"
PD = "public domain"

# name: (package, file, crop as fractions left top right bottom, tint or None, author, licence)
BACKGROUNDS = {
    "train": {
        "aitzgorri": (WALLPAPERS, "aitzgorri_by_Aitzol_Berasategi.jpg", (0, 0, 1, 1), None, "Aitzol Berasategi", BY4),
        "life": (WALLPAPERS, "life_by_Aitzol_Berasategi.jpg", (0, 0, 1, 1), None, "Aitzol Berasategi", BY4),
        "sunset": (WALLPAPERS, "sunset_by_Aitzol_Berasategi.jpg", (0, 0.55, 0.62, 1), None, "Aitzol Berasategi", BY4),
        "friends": (WALLPAPERS, "friends_by_Aitzol_Berasategi.jpg", (0.5, 0, 1, 0.42), None, "Aitzol Berasategi", BY4),
        "concrete": (WALLPAPERS, "Picture_0B_by_freespace.jpg", (0, 0.35, 0.22, 1), None, 'Trevor "Freespace"', BY4),
        "seeding": (WALLPAPERS, "seeding_by_Clements_Engelhardt.jpg", (0.36, 0.5, 1, 1), None, "Clemens Engelhardt", CC0),
        "china": (SKLEARN, "china.jpg", (0.66, 0, 1, 1), None, "danielbuechele", BY2),
        "grass": (SKIMAGE, "grass.png", (0, 0, 1, 1), (0.62, 0.86, 0.38), "linolafett", CC0),
        "gravel": (SKIMAGE, "gravel.png", (0, 0, 1, 1), (0.98, 0.90, 0.78), "CC0Textures", CC0),
    },
    "val": {
        "picosdeeuropa": (WALLPAPERS, "picosdeeuropa_by_Aitzol_Berasategi.jpg", (0, 0, 1, 1), None, "Aitzol Berasategi", BY4),
        "flower": (SKLEARN, "flower.jpg", (0, 0, 0.27, 1), None, "vultilion", BY2),
        "brick": (SKIMAGE, "brick.png", (0, 0, 1, 1), (1.0, 0.74, 0.60), "CC0Textures", CC0),
        "wood": (SKIMAGE, "coffee.png", (0.76, 0, 1, 0.36), None, "Rachel Michetti", CC0),
        "sky": (SKIMAGE, "rocket.jpg", (0.36, 0, 0.68, 0.27), None, "SpaceX", PD),
    },
}

# Code points of the emoji used; the file may carry a variation selector.
OBJECTS = {
    "train": """1f402 1f404 1f405 1f407 1f408 1f40a 1f40b 1f40c 1f40d 1f40e 1f40f 1f410 1f411 1f413 1f415 1f416 1f418
        1f419 1f41b 1f41d 1f41e 1f420 1f422 1f424 1f427 1f42a 1f42c 1f986 1f989 1f98b 1f98e 1f992 1f34a 1f34b 1f34c
        1f34d 1f353 1f955 1f950 1f354 1f382 1f335 1f33b 1f344 1f333 1f697 1f68c 1f69c 1f6b2 1f681 1f4f7 1f392 1f3b8
        1f9f8 26bd 1f6cb 2615 1f45f""",
    "val": """1f403 1f406 1f412 1f41f 1f421 1f985 1f988 1f98c 1f98f 1f993 1f994 1f99c 1f34e 1f349 1f966 1f355 1f337
        1f334 1f682 1f6f5 26f5 1f3ba 23f0 1fa91""",
}

PHOTOS = {
    "astronaut": (SKIMAGE, "astronaut.png", "NASA (Eileen Collins)", PD),
    "chelsea": (SKIMAGE, "chelsea.png", "Stefan van der Walt", CC0),
    "coffee": (SKIMAGE, "coffee.png", "Rachel Michetti", CC0),
    "rocket": (SKIMAGE, "rocket.jpg", "SpaceX", PD),
}


def run(*command, cwd):
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def fetch(cache):
    """Fetches and unpacks the four packages into cache/; returns the folder of each."""
    cache.mkdir(parents=True, exist_ok=True)
    folders = {}
    for package in (SKIMAGE, SKLEARN, EMOJI, WALLPAPERS):
        folder = cache / package.replace("/", "_").replace("@", "_")
        folders[package] = folder
        if folder.exists():
            continue
        with tempfile.TemporaryDirectory(dir=cache) as work:
            if "==" in package:
                run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", package, cwd=work)
                zipfile.ZipFile(next(Path(work).glob("*.whl"))).extractall(Path(work) / "out")
            elif package == EMOJI:
                run("npm", "pack", "--silent", package, cwd=work)
                tarfile.open(next(Path(work).glob("*.tgz"))).extractall(Path(work) / "out", filter="data")
            else:
                run("apt-get", "download", "-q", package, cwd=work)
                run("dpkg-deb", "-x", str(next(Path(work).glob("*.deb"))), "out", cwd=work)
            shutil.move(Path(work) / "out", folder)
    return folders


def find(folders, package, name):
    found = sorted(folders[package].rglob(name))
    if not found:
        sys.exit(f"{package} has no {name}")
    return found[0]


def load_background(folders, spec):
    package, name, (left, top, right, bottom), tint, _, _ = spec
    image = Image.open(find(folders, package, name)).convert("RGB")
    w, h = image.size
    image = image.crop((int(left * w), int(top * h), int(right * w), int(bottom * h)))
    if min(image.size) > 900:
        scale = 900 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    if tint:
        pixels = np.asarray(image, dtype=np.float32) * np.array(tint, dtype=np.float32)
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return image


def load_object(folders, code):
    assets = next(folders[EMOJI].rglob("assets"))
    for name in (f"{code}.webp", f"{code}-fe0f.webp"):
        if (assets / name).exists():
            return Image.open(assets / name).convert("RGBA")
    sys.exit(f"{EMOJI} has no {code}")


def premultiplied(image):
    rgba = np.asarray(image, dtype=np.float32) / 255
    rgba = rgba.copy()
    rgba[..., :3] *= rgba[..., 3:]
    return [Image.fromarray(np.ascontiguousarray(rgba[..., c])) for c in range(4)]


def transformed(image, rng, target):
    """Flips, turns and scales an object to about `target` pixels of area; premultiplied float RGBA array."""
    planes = premultiplied(image)
    if rng.random() < 0.5:
        planes = [p.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for p in planes]
    angle = rng.uniform(-25, 25)
    planes = [p.rotate(angle, Image.Resampling.BICUBIC, expand=True) for p in planes]
    alpha = np.asarray(planes[3])
    ys, xs = np.nonzero(alpha > 0.02)
    box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
    scale = math.sqrt(target / float((alpha >= 0.5).sum()))
    scale = min(scale, 0.98 * SIDE / max(box[2] - box[0], box[3] - box[1]))
    size = (max(1, round((box[2] - box[0]) * scale)), max(1, round((box[3] - box[1]) * scale)))
    planes = [np.asarray(p.crop(box).resize(size, Image.Resampling.LANCZOS)) for p in planes]
    rgba = np.clip(np.stack(planes, axis=-1), 0, 1)
    rgba[..., :3] = np.minimum(rgba[..., :3], rgba[..., 3:])
    return rgba


def blurred(plane, radius):
    image = Image.fromarray(np.clip(plane * 255, 0, 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255


def background_crop(image, rng):
    shortest = min(image.size)
    side = round(rng.uniform(0.55, 1.0) * shortest)
    x, y = rng.randint(0, image.width - side), rng.randint(0, image.height - side)
    crop = image.crop((x, y, x + side, y + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.4:
        crop = crop.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.8)))
    pixels = np.asarray(crop, dtype=np.float32) / 255
    return np.clip(pixels * rng.uniform(0.85, 1.12) + rng.uniform(-0.04, 0.04), 0, 1)


def harmonised(rgba, canvas, rng):
    """Moves the object's brightness, colour and contrast part of the way to the background's."""
    alpha = rgba[..., 3:]
    colour = rgba[..., :3] / np.maximum(alpha, 1e-3)
    weight = alpha / alpha.sum()
    mean, around = (colour * weight).sum((0, 1)), canvas.mean((0, 1))
    amount = rng.uniform(0.1, 0.35)
    colour = (colour - mean) * rng.uniform(0.8, 1.05) + mean + amount * (around - mean)
    light = np.linspace(rng.uniform(0.8, 1.0), rng.uniform(1.0, 1.1), colour.shape[1])[None, :, None]
    if rng.random() < 0.5:
        light = light[:, ::-1]
    return np.concatenate([np.clip(colour * light, 0, 1) * alpha, alpha], axis=-1).astype(np.float32)


def paste(canvas, mask, rgba, at, rng):
    """Puts one object onto the canvas (in place), with a soft shadow in most cases."""
    layer = np.zeros((SIDE, SIDE, 4), dtype=np.float32)
    h, w = rgba.shape[:2]
    layer[at[1] : at[1] + h, at[0] : at[0] + w] = rgba
    if rng.random() < 0.65:
        dx, dy = rng.randint(-7, 7), rng.randint(2, 8)
        shadow = np.roll(layer[..., 3], (dy, dx), (0, 1))
        if dy > 0:
            shadow[:dy] = 0
        if dx > 0:
            shadow[:, :dx] = 0
        elif dx < 0:
            shadow[:, dx:] = 0
        shadow = blurred(shadow, rng.uniform(2.5, 6.0)) * rng.uniform(0.25, 0.5)
        canvas *= 1 - shadow[..., None]
    canvas *= 1 - layer[..., 3:]
    canvas += layer[..., :3]
    mask |= layer[..., 3] >= 0.5


def compose(objects, background, area, rng, noise):
    """One composite: 8-bit image and boolean mask. Two objects share the area and do not overlap."""
    canvas = background_crop(background, rng)
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    share = [1.0] if len(objects) == 1 else [0.55, 0.45]
    taken = np.zeros((SIDE, SIDE), dtype=bool)
    for image, part in zip(objects, share):
        rgba = transformed(image, rng, area * part * SIDE * SIDE)
        h, w = rgba.shape[:2]
        for _ in range(60):
            # near the middle more often than near the border, as photographers do
            x = round((SIDE - w) * rng.betavariate(2, 2))
            y = round((SIDE - h) * rng.betavariate(2, 2))
            if not (taken[y : y + h, x : x + w] & (rgba[..., 3] > 0.02)).any():
                break
        else:
            continue
        taken[y : y + h, x : x + w] |= rgba[..., 3] > 0.02
        paste(canvas, mask, harmonised(rgba, canvas, rng), (x, y), rng)
    pixels = np.clip(canvas, 0, 1) * 255
    image = Image.fromarray(np.rint(pixels).astype(np.uint8))
    if rng.random() < 0.6:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.25, 0.6)))
    grain = noise.normal(0, rng.uniform(0.5, 3.5), (SIDE, SIDE, 1)) + noise.normal(0, 0.8, (SIDE, SIDE, 3))
    pixels = np.asarray(image, dtype=np.float32) + grain
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)), mask


def make_split(split, count, folders, out, used, seed):
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    codes = OBJECTS[split].split()
    rng.shuffle(codes)
    objects = [load_object(folders, code) for code in codes]
    names = list(BACKGROUNDS[split])
    grounds = {name: load_background(folders, BACKGROUNDS[split][name]) for name in names}
    lines, areas, step = [], [], 0
    for i in range(count):
        name = names[i % len(names)]
        number = 2 if rng.random() < 0.18 else 1
        chosen = [objects[(step + k) % len(objects)] for k in range(number)]
        step += number
        # areas spread evenly on a logarithmic scale over the split, in mixed order
        place = ((i * 37) % count + rng.random()) / count
        area = 0.055 * (0.5 / 0.055) ** place
        image, mask = compose(chosen, grounds[name], area, rng, noise)
        stem = f"{split}_{i:02}"
        image.save(out / "mini" / "images" / f"{stem}.jpg", quality=JPEG_QUALITY, optimize=True)
        Image.fromarray(mask).save(out / "mini" / "masks" / f"{stem}.png", optimize=True)
        lines.append(f"images/{stem}.jpg masks/{stem}.png\n")
        areas.append(float(mask.mean()))
        used.setdefault(name, []).append(stem)
    (out / "mini" / f"{split}.lst").write_text("".join(lines))
    print(f"{split}: {count} pairs, object area {min(areas):.3f} to {max(areas):.3f}, median {sorted(areas)[count // 2]:.3f}")


def make_photos(folders, out):
    for name, (package, file, _, _) in PHOTOS.items():
        image = Image.open(find(folders, package, file)).convert("RGB")
        image.info.clear()
        if max(image.size) > 640:
            image.thumbnail((640, 640), Image.Resampling.LANCZOS)
        image.save(out / "photos" / f"{name}.jpg", quality=88, optimize=True)


def write_licences(out, used):
    lines = [
        "# Where the images come from",
        "",
        "Written by `scripts/make-mini-set.py`, which also holds the exact package versions.",
        "",
        "## Composites (`mini/`)",
        "",
        f"Objects: Fluent emoji 3D (npm `{EMOJI.rsplit('@', 1)[0]}`), MIT, copyright Microsoft Corporation (drawings) and",
        "LobeHub (package). They were turned, flipped, scaled, recoloured and shaded. The masks are their alpha channels.",
        "",
        "Backgrounds (cropped, scaled, flipped, some blurred or tinted, with noise added):",
        "",
        "| background | author | licence | from package | file there | in images |",
        "|---|---|---|---|---|---|",
    ]
    for split in BACKGROUNDS.values():
        for name, (package, file, _, _, author, licence) in split.items():
            stems = used[name]
            kind, numbers = stems[0].split("_")[0], " ".join(s.split("_")[1] for s in stems)
            lines.append(f"| {name} | {author} | {licence} | {package} | {file} | {kind}: {numbers} |")
    lines += [
        "",
        "`china.jpg` and `flower.jpg` are Flickr photos 6061409035 of user danielbuechele and 6056698931 of user vultilion (the",
        "README beside the latter names danielbuechele for both).",
        "",
        "## Photos (`photos/`)",
        "",
        "Saved anew as JPEG, otherwise unchanged.",
        "",
        "| photo | author | licence | from package |",
        "|---|---|---|---|",
    ]
    for name, (package, _, author, licence) in PHOTOS.items():
        lines.append(f"| {name}.jpg | {author} | {licence} | {package} |")
    lines += [
        "",
        "Each licence of a photo in scikit-image is stated in the documentation of its loader (`skimage.data`), those of the",
        "wallpapers in the Debian package's copyright file, those of scikit-learn's in the README beside the photos.",
        "",
        "## Licence texts",
        "",
        "* CC0-1.0: https://creativecommons.org/publicdomain/zero/1.0/",
        "* CC-BY-4.0: https://creativecommons.org/licenses/by/4.0/",
        "* CC-BY-2.0: https://creativecommons.org/licenses/by/2.0/",
        "* MIT (the emoji):",
        "",
        MIT,
    ]
    (out / "LICENSES.md").write_text("\n".join(lines))


MIT = """  Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
  documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
  rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
  persons to whom the Software is furnished to do so, subject to the following conditions:

  The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
  Software.

  THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
  WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
  COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
  OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def contact_sheet(out, path):
    """All pairs side by side, for looking at."""
    pairs = [(split, line.split()) for split in ("train", "val") for line in open(out / "mini" / f"{split}.lst")]
    columns, cell = 8, 2 * SIDE + 6
    rows = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (columns * cell, rows * (SIDE + 4)), (40, 0, 60))
    for i, (_, (image, mask)) in enumerate(pairs):
        x, y = i % columns * cell, i // columns * (SIDE + 4)
        sheet.paste(Image.open(out / "mini" / image), (x, y))
        sheet.paste(Image.open(out / "mini" / mask).convert("RGB"), (x + SIDE, y))
    sheet.save(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "data")
    parser.add_argument("--cache", type=Path, help="keep the fetched packages here (default: a temporary folder)")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    for folder in ("mini/images", "mini/masks", "photos"):
        shutil.rmtree(options.out / folder, ignore_errors=True)
        (options.out / folder).mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        folders = fetch((options.cache or Path(temporary)).resolve())
        used = {}
        make_split("train", TRAIN, folders, options.out, used, options.seed)
        make_split("val", VAL, folders, options.out, used, options.seed + 1)
        make_photos(folders, options.out)
    write_licences(options.out, used)
    if options.sheet:
        contact_sheet(options.out, options.sheet)


if __name__ == "__main__":
    main()

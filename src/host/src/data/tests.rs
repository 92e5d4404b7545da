use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::plan::plan;
use super::*;

fn mini(list: &str) -> Vec<Sample> {
    read_list(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/mini").join(list), None).unwrap()
}

/// A folder of its own for each test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("inas-data-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn epoch(options: &LoaderOptions, samples: Vec<Sample>, number: u64, px: impl Fn(usize) -> u32) -> Vec<Batch> {
    let loader = Loader::new(samples, options.clone()).unwrap();
    let epoch = loader.epoch(number, |index| Some(px(index)));
    assert_eq!(epoch.batches(), loader.batches());
    epoch.collect::<Result<Vec<_>>>().unwrap()
}

#[test]
fn mini_set_is_whole_exact_and_split() {
    let (train, val) = (mini("train.lst"), mini("val.lst"));
    assert_eq!((train.len(), val.len()), (60, 20));
    for sample in train.iter().chain(&val) {
        let (photo, label) = decode::decode_pair(sample).unwrap();
        assert_eq!((photo.dimensions(), label.dimensions()), ((160, 160), (160, 160)));
        assert!(label.as_raw().iter().all(|v| [0, 255].contains(v)));
        let white: usize = label.as_raw().iter().map(|v| usize::from(*v == 255)).sum();
        let share = white as f64 / (160.0 * 160.0);
        assert!((0.05..=0.5).contains(&share), "{} {share}", sample.label.display());
    }
}

#[test]
fn list_skips_comments_and_honours_the_root() {
    let folder = Folder::new("list");
    folder.write("a.jpg", "");
    folder.write("a.png", "");
    let list = folder.write("x.lst", "\u{feff}# head\r\n\r\n  a.jpg\ta.png \r\n");
    let wanted = vec![Sample { image: folder.0.join("a.jpg"), label: folder.0.join("a.png"), line: 3 }];
    assert_eq!(read_list(&list, None).unwrap(), wanted);
    assert_eq!(read_list(&list, Some(&folder.0)).unwrap(), wanted);
    let error = read_list(&list, Some(Path::new("/nowhere"))).unwrap_err().to_string();
    assert!(error.contains("x.lst:3: no such file: /nowhere/a.jpg"), "{error}");
}

#[test]
fn list_errors_name_file_and_line() {
    let folder = Folder::new("list-errors");
    let list = folder.write("x.lst", "# c\n\nonly-one\n");
    let error = read_list(&list, None).unwrap_err().to_string();
    assert!(error.contains("x.lst:3: ") && error.contains("got 1 fields"), "{error}");
    let list = folder.write("x.lst", "# nothing\n");
    assert!(matches!(read_list(&list, None).unwrap_err(), DataError::Empty { path: Some(_) }));
    let error = read_list(&folder.0.join("absent.lst"), None).unwrap_err().to_string();
    assert!(error.contains("absent.lst"), "{error}");
}

/// A JPEG of 40 x 24 pixels, the left half white.
fn jpeg() -> Vec<u8> {
    let photo = image::RgbImage::from_fn(40, 24, |x, _| image::Rgb([u8::from(x < 20) * 255; 3]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    photo.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

#[test]
fn photos_are_turned_upright() {
    let name = Path::new("photo");
    let lying = decode_upright(&jpeg(), name, 960).unwrap();
    assert_eq!(lying.dimensions(), (40, 24));
    // Orientation 6 of an EXIF segment: to be turned clockwise by a quarter.
    let exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let mut tagged = jpeg();
    let segment = [&[0xff, 0xe1, 0, exif.len() as u8 + 2], exif.as_slice()].concat();
    drop(tagged.splice(2..2, segment));
    let upright = decode_upright(&tagged, name, 960).unwrap();
    assert_eq!(upright, image::imageops::rotate90(&lying));
    assert!(upright.get_pixel(12, 2).0[0] > 200 && upright.get_pixel(12, 37).0[0] < 50);
    let error = decode_upright(&tagged, name, 959).unwrap_err().to_string();
    assert!(error.contains("photo has 40 x 24 pixels"), "{error}");
}

#[test]
fn photos_that_are_cut_off_are_refused() {
    let (name, whole) = (Path::new("photo"), jpeg());
    for len in 0..whole.len() {
        let error = decode_upright(&whole[..len], name, 960).unwrap_err().to_string();
        assert!(error.contains("PNG or JPEG"), "{len} bytes: {error}");
    }
    // Cameras put films and previews behind the end.
    assert!(decode_upright(&[whole.as_slice(), &whole[..90]].concat(), name, 960).is_ok());
    let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/photos");
    for photo in std::fs::read_dir(photos).unwrap() {
        let photo = photo.unwrap().path();
        assert_eq!(
            decode_upright(&std::fs::read(&photo).unwrap(), name, 1 << 30).unwrap(),
            decode_photo(&photo).unwrap()
        );
    }
}

#[test]
fn batches_hold_what_the_files_hold() {
    let samples = mini("val.lst");
    let options = LoaderOptions { batch: 3, ..LoaderOptions::default() };
    let batches = epoch(&options, samples.clone(), 0, |_| 96);
    assert_eq!(batches.iter().map(|b| b.n).collect::<Vec<_>>(), [3, 3, 3, 3, 3, 3, 2]);
    let paths: Vec<PathBuf> = batches.iter().flat_map(|b| b.paths.clone()).collect();
    assert_eq!(paths, samples.iter().map(|s| s.image.clone()).collect::<Vec<_>>());
    let photo = decode_photo(&samples[4].image).unwrap();
    let label = decode_label(&samples[4].label).unwrap();
    let (image_len, label_len) = (96 * 96 * 3, 96 * 96);
    assert_eq!(batches[1].images[image_len..2 * image_len], inas_runtime::preprocess::photo_to_nhwc(&photo, 96));
    assert_eq!(batches[1].labels[label_len..2 * label_len], inas_runtime::preprocess::label_to_nhwc(&label, 96));
}

#[test]
fn equal_seeds_give_equal_batches_on_any_number_of_threads() {
    let changed = LoaderOptions { flip: true, least_area: 0.6, paste: 0.5, colour: 0.3, ..LoaderOptions::default() };
    let options = LoaderOptions { batch: 7, seed: 5, shuffle: true, ..changed };
    let scales = |step: usize| [48, 64, 32][step % 3];
    let first = epoch(&options, mini("train.lst"), 2, scales);
    assert_eq!(first.iter().map(|b| b.px).take(4).collect::<Vec<_>>(), [48, 64, 32, 48]);
    for (workers, prefetch, cache_bytes) in [(1, 1, 0), (3, 2, 50_000), (16, 1, 1 << 30)] {
        let other = LoaderOptions { workers, prefetch, cache_bytes, ..options.clone() };
        assert!(epoch(&other, mini("train.lst"), 2, scales) == first, "{workers} threads");
    }
}

/// Property: order and flips are a function of seed and epoch, every epoch is a permutation, and other seeds differ.
#[test]
fn order_depends_on_the_seed_only() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..200 {
        let samples = rng.random_range(20..300);
        let options = LoaderOptions {
            batch: rng.random_range(1..40),
            seed: rng.random(),
            shuffle: true,
            flip: true,
            paste: 0.5,
            colour: 0.2,
            ..LoaderOptions::default()
        };
        let number = rng.random_range(0..1000);
        let draws = plan(samples, &options, number);
        let threads = LoaderOptions {
            workers: rng.random_range(1..9),
            prefetch: rng.random_range(1..9),
            cache_bytes: rng.random_range(0..9),
            ..options.clone()
        };
        assert_eq!(plan(samples, &threads, number), draws);
        let flat: Vec<_> = draws.concat();
        assert_eq!(flat.iter().map(|place| place.sample.sample).collect::<BTreeSet<_>>(), (0..samples).collect());
        assert_eq!(flat.len(), samples);
        // The batch size cuts the order, it does not change it.
        assert_eq!(plan(samples, &LoaderOptions { batch: 1, ..options.clone() }, number).concat(), flat);
        assert_ne!(plan(samples, &options, number + 1).concat(), flat);
        let dropping = LoaderOptions { drop_last: true, ..options.clone() };
        let whole = plan(samples, &dropping, number);
        assert_eq!(whole, draws[..samples / options.batch]);
    }
}

#[test]
fn flips_mirror_image_and_label_together() {
    let samples = mini("val.lst");
    let plain = LoaderOptions { batch: 20, seed: 9, ..LoaderOptions::default() };
    let flipped = LoaderOptions { flip: true, ..plain.clone() };
    let (a, b) = (epoch(&plain, samples.clone(), 0, |_| 33), epoch(&flipped, samples, 0, |_| 33));
    let mirrored = |values: &[f32], channels: usize| -> Vec<f32> {
        values
            .chunks(33 * channels)
            .flat_map(|row| row.chunks(channels).rev().flatten().copied().collect::<Vec<_>>())
            .collect()
    };
    let mut flips = 0;
    for i in 0..20 {
        let (image, label) = (i * 33 * 33 * 3..(i + 1) * 33 * 33 * 3, i * 33 * 33..(i + 1) * 33 * 33);
        if a[0].images[image.clone()] == b[0].images[image.clone()] {
            assert_eq!(a[0].labels[label.clone()], b[0].labels[label]);
        } else {
            flips += 1;
            assert_eq!(mirrored(&a[0].images[image.clone()], 3), b[0].images[image]);
            assert_eq!(mirrored(&a[0].labels[label.clone()], 1), b[0].labels[label]);
        }
    }
    assert!((3..=17).contains(&flips), "{flips}");
}

#[test]
fn corrupt_file_is_named_and_ends_the_epoch() {
    let folder = Folder::new("corrupt");
    let mut samples = mini("val.lst");
    samples[3].image = folder.write("broken.jpg", b"\xff\xd8\xff\xe0 no more");
    let options = LoaderOptions { batch: 2, ..LoaderOptions::default() };
    let results: Vec<Result<Batch>> = Loader::new(samples, options).unwrap().epoch(0, |_| Some(32)).collect();
    assert_eq!(results.len(), 2);
    let error = results[1].as_ref().unwrap_err();
    let DataError::Line { line: 4, source } = error else { panic!("{error}") };
    assert!(matches!(**source, DataError::Decode { .. }) && error.to_string().contains("broken.jpg"), "{error}");
}

#[test]
fn mismatched_pairs_and_zero_options_are_refused() {
    let folder = Folder::new("mismatch");
    let label = folder.0.join("wide.png");
    image::GrayImage::new(20, 10).save(&label).unwrap();
    let samples = vec![Sample { image: mini("val.lst")[0].image.clone(), label, line: 0 }];
    let loader = Loader::new(samples.clone(), LoaderOptions::default()).unwrap();
    let error = loader.epoch(0, |_| Some(32)).next().unwrap().unwrap_err().to_string();
    assert!(error.contains("is 160x160") && error.ends_with("wide.png is 20x10"), "{error}");
    assert!(matches!(loader.epoch(0, |_| Some(0)).next().unwrap().unwrap_err(), DataError::Zero { .. }));
    assert!(Loader::new(samples, LoaderOptions { batch: 0, ..LoaderOptions::default() }).is_err());
    assert!(Loader::<Sample>::new(Vec::new(), LoaderOptions::default()).is_err());
}

#[test]
fn dropping_an_epoch_early_does_not_hang_and_the_cache_keeps_its_limit() {
    let limit = 5 * 32 * 32 * 4;
    let options = LoaderOptions { batch: 1, workers: 3, prefetch: 1, cache_bytes: limit, ..LoaderOptions::default() };
    let loader = Loader::new(mini("train.lst"), options).unwrap();
    let mut epoch = loader.epoch(0, |_| Some(32));
    epoch.next().unwrap().unwrap();
    drop(epoch);
    assert_eq!(loader.epoch(1, |_| Some(32)).count(), 60);
    assert_eq!(loader.cached_bytes(), limit);
}

#[test]
fn an_epoch_may_have_no_batch() {
    let options = LoaderOptions { batch: 99, drop_last: true, ..LoaderOptions::default() };
    assert!(epoch(&options, mini("val.lst"), 0, |_| 32).is_empty());
}

#[test]
fn parts_lie_inside_and_are_large_enough() {
    let options = LoaderOptions { least_area: 0.35, seed: 3, ..LoaderOptions::default() };
    let places = plan(4000, &options, 0).concat();
    let mut areas = Vec::new();
    for place in &places {
        let [left, top, width, height] = place.sample.crop.unwrap().pixels(200);
        assert!(left + width <= 200 && top + height <= 200 && width > 0 && height > 0);
        areas.push(f64::from(width * height) / 40_000.0);
    }
    // A ratio that would reach over the edge is cut off, which takes some area.
    assert!(areas.iter().all(|a| *a > 0.33));
    assert!(areas.iter().any(|a| *a < 0.4) && areas.iter().any(|a| *a > 0.95));
}

#[test]
fn a_part_shows_photo_and_label_alike() {
    let sample = mini("train.lst").swap_remove(0);
    let options = LoaderOptions { least_area: 0.3, flip: true, batch: 1, ..LoaderOptions::default() };
    // The label as photo: what is shown of both must be the same picture.
    let twin = Sample { image: sample.label.clone(), ..sample };
    for number in 0..8 {
        let batch = epoch(&options, vec![twin.clone()], number, |_| 64).swap_remove(0);
        let bright = normalised_white();
        let alike = batch.images.chunks(3).zip(&batch.labels).filter(|(rgb, l)| (rgb[0] > bright / 2.0) == (**l > 0.5));
        assert!(alike.count() > 64 * 64 * 97 / 100);
    }
}

/// The first channel of a white pixel.
fn normalised_white() -> f32 {
    let mut white = [0.0; 3];
    inas_runtime::preprocess::normalise_into(&[255; 3], &mut white);
    white[0]
}

#[test]
fn classes_are_folders_in_the_order_of_their_names() {
    let root = tempfile::tempdir().unwrap();
    let photo = mini("train.lst")[0].image.clone();
    for name in ["zebra/1.jpg", "ant/b.JPG", "ant/a.jpg", "ant/notes.txt"] {
        let file = root.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::copy(&photo, file).unwrap();
    }
    let (photos, names) = read_classes(root.path()).unwrap();
    assert_eq!(names, ["ant", "zebra"]);
    let found: Vec<_> = photos.iter().map(|p| (p.image.file_name().unwrap().to_str().unwrap(), p.class)).collect();
    assert_eq!(found, [("a.jpg", 0), ("b.JPG", 0), ("1.jpg", 1)]);
    let loader = Loader::new(photos, LoaderOptions { batch: 2, ..LoaderOptions::default() }).unwrap();
    let batches: Vec<_> = loader.epoch(0, |_| Some(32)).map(Result::unwrap).collect();
    assert_eq!(batches.iter().flat_map(|b| b.labels.clone()).collect::<Vec<_>>(), [0.0, 0.0, 1.0]);

    std::fs::create_dir(root.path().join("empty")).unwrap();
    assert!(read_classes(root.path()).unwrap_err().to_string().contains("empty"));
    let error = read_classes(&root.path().join("zebra")).unwrap_err().to_string();
    assert!(error.contains("one folder a class"), "{error}");
}

//! Files of pictures.

use std::path::{Path, PathBuf};

use super::{Dataset, Source};
use crate::{Error, Result};

/// Side of a CIFAR picture, px.
const CIFAR_PX: usize = 32;

fn bad(path: &Path, reason: impl Into<String>) -> Error {
    Error::File { path: path.to_owned(), reason: reason.into() }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| bad(path, e.to_string()))
}

/// CIFAR's binary files, one after the other: records of 3073 bytes with ten classes, or of 3074 bytes with a hundred
/// (a coarse label before the fine one).
///
/// # Errors
/// When a file cannot be read or is not made of such records.
pub fn cifar(paths: &[PathBuf], classes: usize) -> Result<Dataset> {
    let labels = match classes {
        10 => 1,
        100 => 2,
        n => return Err(Error::Config(format!("CIFAR has 10 or 100 classes, not {n}"))),
    };
    let plane = CIFAR_PX * CIFAR_PX;
    let record = labels + 3 * plane;
    let (mut pixels, mut classes_of) = (Vec::new(), Vec::new());
    for path in paths {
        let bytes = read(path)?;
        let (whole, rest) = (bytes.len() / record, bytes.len() % record);
        if bytes.is_empty() {
            return Err(bad(path, "is empty"));
        }
        if rest != 0 {
            let other = bytes.len() % (3 * plane + 3 - labels) == 0;
            let guess = if other { "is it the other CIFAR?" } else { "is it cut short?" };
            return Err(bad(path, format!("{whole} pictures of {record} bytes and {rest} bytes more; {guess}")));
        }
        for (i, record) in bytes.chunks_exact(record).enumerate() {
            let label = record[labels - 1];
            if usize::from(label) >= classes {
                return Err(bad(path, format!("picture {i} has label {label}, there are {classes} classes")));
            }
            classes_of.push(u32::from(label));
            let planes = &record[labels..];
            pixels.extend((0..plane).flat_map(|i| [planes[i], planes[plane + i], planes[2 * plane + i]]));
        }
    }
    Ok(Dataset { px: CIFAR_PX, classes, source: Source::Memory(pixels), labels: classes_of })
}

/// The `idx` files of (Fashion-)MNIST, unpacked: gray pictures are made three equal channels and, if smaller, centred
/// in 32 px.
///
/// # Errors
/// When a file cannot be read or is no such file.
pub fn idx(images: &Path, labels: &Path) -> Result<Dataset> {
    let field = |path: &Path, bytes: &[u8], i: usize| -> Result<usize> {
        let four = bytes.get(4 * i..4 * i + 4).and_then(|b| <[u8; 4]>::try_from(b).ok());
        four.map(|b| u32::from_be_bytes(b) as usize).ok_or_else(|| bad(path, "is cut short"))
    };
    let (pictures, classes) = (read(images)?, read(labels)?);
    for (path, bytes, magic) in [(images, &pictures, 0x803), (labels, &classes, 0x801)] {
        if bytes.starts_with(&[0x1f, 0x8b]) {
            return Err(bad(path, "is packed: unpack it with gunzip"));
        }
        if field(path, bytes, 0)? != magic {
            return Err(bad(path, format!("is no idx file of kind {magic:#x}")));
        }
    }
    let (n, h, w) = (field(images, &pictures, 1)?, field(images, &pictures, 2)?, field(images, &pictures, 3)?);
    if pictures.len() != 16 + n * h * w || classes.len() != 8 + n || field(labels, &classes, 1)? != n {
        return Err(bad(images, format!("{n} pictures of {h} x {w} and their labels do not fit the files' lengths")));
    }
    let px = h.max(w).max(CIFAR_PX);
    let (top, left) = ((px - h) / 2, (px - w) / 2);
    let mut pixels = vec![0; n * px * px * 3];
    for (picture, gray) in pixels.chunks_exact_mut(px * px * 3).zip(pictures[16..].chunks_exact(h * w)) {
        for (i, v) in gray.iter().enumerate() {
            let at = ((top + i / w) * px + left + i % w) * 3;
            picture[at..at + 3].fill(*v);
        }
    }
    let labels: Vec<u32> = classes[8..].iter().map(|l| u32::from(*l)).collect();
    let classes = labels.iter().max().map_or(0, |m| *m as usize + 1).max(10);
    Ok(Dataset { px, classes, source: Source::Memory(pixels), labels })
}

/// A folder with a folder of images for each class, classes in the order of their names, for batches of `px` by `px`.
/// The files are read when their turn comes.
///
/// # Errors
/// When the folder holds no such images.
pub fn folder(dir: &Path, px: usize) -> Result<Dataset> {
    let list = |dir: &Path| -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(dir).map_err(|e| bad(dir, e.to_string()))?;
        let mut paths: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
        paths.sort();
        Ok(paths)
    };
    let classes: Vec<PathBuf> = list(dir)?.into_iter().filter(|p| p.is_dir()).collect();
    let (mut files, mut labels) = (Vec::new(), Vec::new());
    for (label, class) in classes.iter().enumerate() {
        let extensions = ["png", "jpg", "jpeg"];
        let known = |p: &PathBuf| {
            let extension = p.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
            extension.is_some_and(|e| extensions.contains(&e.as_str()))
        };
        let images: Vec<PathBuf> = list(class)?.into_iter().filter(known).collect();
        labels.extend(std::iter::repeat_n(label as u32, images.len()));
        files.extend(images);
    }
    if files.is_empty() {
        return Err(bad(dir, "holds no folders with images (one folder a class, .png or .jpg)"));
    }
    Ok(Dataset { px, classes: classes.len(), source: Source::Files(files), labels })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Augment;

    /// The pixels of picture `index`.
    fn picture(set: &Dataset, index: usize) -> &[u8] {
        let Source::Memory(pixels) = &set.source else { panic!("in memory") };
        &pixels[index * set.px * set.px * 3..]
    }

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn cifar_records() {
        let mut record = vec![7u8];
        record.extend((0..3072u32).map(|i| (i / 1024 * 50 + i % 1024 % 32) as u8));
        let one = file(&record);
        let set = cifar(&[one.path().into(), one.path().into()], 10).unwrap();
        assert_eq!((set.len(), set.labels[1], set.px), (2, 7, 32));
        assert_eq!(picture(&set, 1)[3 * 33..3 * 33 + 3], [1, 51, 101]);
        let error = cifar(&[one.path().into()], 100).unwrap_err().to_string();
        assert!(error.contains("other CIFAR"), "{error}");
        let refused = |bytes: &[u8]| cifar(&[file(bytes).path().into()], 10).unwrap_err().to_string();
        let (short, none) = (refused(&[&record[..], &record[..9]].concat()), refused(&[]));
        assert!(short.contains("1 pictures of 3073 bytes and 9 bytes more; is it cut short"), "{short}");
        assert!(none.ends_with("is empty"), "{none}");
        let good = record.clone();
        record[0] = 10;
        let label = refused(&[good, record.clone()].concat());
        assert!(label.contains("picture 1 has label 10"), "{label}");
        record.insert(0, 3);
        assert_eq!(cifar(&[file(&record).path().into()], 100).unwrap().labels, [10]);
    }

    #[test]
    fn idx_pictures_are_centred() {
        let mut images = [0x803u32, 2, 2, 2].iter().flat_map(|v| v.to_be_bytes()).collect::<Vec<u8>>();
        images.extend([1, 2, 3, 4, 5, 6, 7, 8]);
        let mut labels = [0x801u32, 2].iter().flat_map(|v| v.to_be_bytes()).collect::<Vec<u8>>();
        labels.extend([9, 0]);
        let set = idx(file(&images).path(), file(&labels).path()).unwrap();
        assert_eq!((set.px, set.classes, set.labels.clone()), (32, 10, vec![9, 0]));
        assert_eq!(picture(&set, 1)[(15 * 32 + 15) * 3..][..6], [5, 5, 5, 6, 6, 6]);
        assert!(idx(file(&images[..20]).path(), file(&labels).path()).is_err());
        let packed = idx(file(&[0x1f, 0x8b, 8, 0]).path(), file(&labels).path()).unwrap_err();
        assert!(packed.to_string().contains("gunzip"));
    }

    #[test]
    fn folders_are_classes() {
        let dir = tempfile::tempdir().unwrap();
        for (class, value) in [("cat", 10), ("dog", 200)] {
            std::fs::create_dir(dir.path().join(class)).unwrap();
            let image = image::RgbImage::from_pixel(20, 10, image::Rgb([value, 0, 1]));
            image.save(dir.path().join(class).join("a.png")).unwrap();
        }
        let set = folder(dir.path(), 8).unwrap();
        assert_eq!((set.len(), set.classes, set.labels.clone()), (2, 2, vec![0, 1]));
        let batch =
            set.batch(&[1], crate::data::Normalise { mean: [0.0; 3], std: [1.0; 3] }, Augment::NONE, 0).unwrap();
        let values: Vec<f32> = batch.images.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(values[..3], [200.0 / 255.0, 0.0, 1.0 / 255.0]);
        assert!(folder(&dir.path().join("cat"), 8).is_err());
    }
}

//! Small trees in the datasets' layouts, made by code.
#![allow(dead_code, clippy::print_stderr)]

use std::fs;
use std::path::{Path, PathBuf};

use dml_data::ImagePipeline;
use dml_data::splits::{MsvdLists, VOC_CLASSES};
use image::{Rgb, RgbImage};
use tempfile::TempDir;

/// A pipeline for the small photographs of these trees.
pub(crate) fn small() -> ImagePipeline {
    ImagePipeline { short_side: 16, crop: 12, ..ImagePipeline::default() }
}

/// An image without symmetry; `resize.py` has the same formula.
pub(crate) fn photo(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(7 * x + 3 * y) % 256, x * y % 256, (x * x + 5 * y) % 256].map(|value| value as u8))
    })
}

/// `VOC<year>` with three images: flags 1 for class i % 20, 0 for class i + 1, -1 for the others.
pub(crate) fn voc(devkit: &Path, year: u16) {
    let root = devkit.join(format!("VOC{year}"));
    let main = root.join("ImageSets/Main");
    fs::create_dir_all(&main).unwrap();
    fs::create_dir_all(root.join("JPEGImages")).unwrap();
    let ids = ["000005", "000009", "000026"];
    fs::write(main.join("train.txt"), ids.map(|id| format!("{id}\n")).concat()).unwrap();
    for (c, class) in VOC_CLASSES.iter().enumerate() {
        // Right-aligned flags and CRLF, as copies of the devkit have them.
        let flag = |i: usize| {
            if c == i {
                " 1"
            } else if c == i + 1 {
                " 0"
            } else {
                "-1"
            }
        };
        let lines: String = ids.iter().enumerate().map(|(i, id)| format!("{id} {}\r\n", flag(i))).collect();
        fs::write(main.join(format!("{class}_train.txt")), lines).unwrap();
    }
    for (i, id) in ids.iter().enumerate() {
        photo(20 + i as u32, 18).save(root.join(format!("JPEGImages/{id}.jpg"))).unwrap();
    }
}

/// Two training images with two captions each; a third that has captions only and is in no split.
pub(crate) fn flickr8k(dir: &Path) {
    let images = dir.join("Flicker8k_Dataset");
    fs::create_dir_all(&images).unwrap();
    for name in ["1_a.jpg", "2_b.jpg"] {
        photo(18, 24).save(images.join(name)).unwrap();
    }
    fs::write(dir.join("Flickr_8k.trainImages.txt"), "2_b.jpg\n1_a.jpg\n").unwrap();
    let tokens = "1_a.jpg#1\t A second sentence .\n1_a.jpg#0\tA dog runs .\n2_b.jpg#0\tA cat sleeps .\n\
                  2_b.jpg#1\tThe cat is asleep\n3_c.jpg.1#0\tNobody has seen this .\n";
    fs::write(dir.join("Flickr8k.token.txt"), tokens).unwrap();
}

/// A new folder with these files.
pub(crate) fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

/// The folder that DML_REAL_DATA names.
pub(crate) fn real_data() -> Option<PathBuf> {
    let folder = std::env::var_os("DML_REAL_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("left out, as DML_REAL_DATA does not name a folder with real data");
    }
    folder
}

/// Videos and sentences of each part.
pub(crate) fn sentences(lists: &MsvdLists) -> [(usize, usize); 3] {
    [&lists.train, &lists.val, &lists.test]
        .map(|part| (part.len(), part.iter().map(|(_, sentences)| sentences.len()).sum()))
}

//! VOC and Flickr8k trees, right and wrong.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::small;
use dml_data::splits::VOC_CLASSES;
use dml_data::{Dataset, Flickr8k, ImagePipeline, Labels, View, Voc};
use tempfile::TempDir;

fn read(dataset: &dyn Dataset, index: usize, view: View) -> dml_data::Result<Vec<f32>> {
    let mut out = vec![f32::NAN; dataset.input_shape().iter().product()];
    dataset.read(index, view, &mut out).map(|()| out)
}

/// Opens the VOC tree after this change to it.
fn voc_after(change: impl Fn(&Path)) -> dml_data::Result<Voc> {
    let dir = TempDir::new().unwrap();
    common::voc(dir.path(), 2007);
    change(&dir.path().join("VOC2007"));
    let voc = Voc::open(dir.path(), None, "train", small())?;
    read(&voc, 1, View::evaluation()).map(|_| voc)
}

fn flickr8k_after(change: impl Fn(&Path)) -> dml_data::Result<Flickr8k> {
    let dir = TempDir::new().unwrap();
    common::flickr8k(dir.path());
    change(dir.path());
    let flickr8k = Flickr8k::open(dir.path(), "train", small())?;
    read(&flickr8k, 1, View::evaluation()).map(|_| flickr8k)
}

/// The error's text has all of these parts.
fn check_error<T>(result: dml_data::Result<T>, parts: &[&str]) {
    let message = result.err().expect("an error").to_string();
    for part in parts {
        assert!(message.contains(part), "\"{message}\" does not say \"{part}\"");
    }
}

fn write(path: impl AsRef<Path>, text: &str) {
    fs::write(path, text).unwrap();
}

fn edit(path: impl AsRef<Path>, from: &str, to: &str) {
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from));
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn voc_reads_flags_and_images() {
    let voc = voc_after(|_| ()).unwrap();
    assert_eq!((voc.name(), voc.len(), voc.input_shape()), ("VOC2007 train", 3, &[3, 12, 12][..]));
    assert_eq!((voc.id(1), voc.group(1)), ("000009".into(), 1));
    let Labels::MultiLabel { names, flags } = voc.labels() else { panic!("{:?}", voc.labels()) };
    assert_eq!(names, &VOC_CLASSES);
    for (i, row) in flags.iter().enumerate() {
        let expected: Vec<i8> = (0..20)
            .map(|c| {
                if c == i {
                    1
                } else if c == i + 1 {
                    0
                } else {
                    -1
                }
            })
            .collect();
        assert_eq!(row, &expected, "image {i}");
    }
}

#[test]
fn voc_finds_its_folder() {
    let dir = TempDir::new().unwrap();
    let devkit = dir.path().join("VOCdevkit");
    common::voc(&devkit, 2007);
    for start in [dir.path(), &devkit, &devkit.join("VOC2007")] {
        for year in [None, Some(2007)] {
            let voc = Voc::open(start, year, "train", small()).unwrap();
            assert_eq!(voc.name(), "VOC2007 train");
        }
        check_error(
            Voc::open(start, Some(2012), "train", small()),
            &["VOC2012", &start.display().to_string()],
        );
    }
    common::voc(&devkit, 2012);
    check_error(Voc::open(dir.path(), None, "train", small()), &["VOC2007", "VOC2012", "say which"]);
    assert_eq!(Voc::open(dir.path(), Some(2012), "train", small()).unwrap().name(), "VOC2012 train");
    check_error(Voc::open(&devkit.join("VOC2007"), None, "val", small()), &["val.txt", "No such file"]);
}

#[test]
fn voc_refuses_wrong_files() {
    let cat = "ImageSets/Main/cat_train.txt";
    let check = |change: &dyn Fn(&Path), parts: &[&str]| check_error(voc_after(change), parts);
    let text = |text: &'static str| move |root: &Path| write(root.join(cat), text);
    check(&text(""), &[cat, "empty"]);
    check(&text("\n\n"), &[cat, "empty"]);
    check(&text("000005 1\n000009\n000026 1\n"), &[cat, "line 2", "\"000009\""]);
    check(&text("000005 1\n000009 1 1\n000026 1\n"), &[cat, "line 2", "\"000009 1 1\""]);
    check(&text("000005 1\n\n000009 1\n000026 1\n"), &[cat, "line 2"]);
    check(&text("000005 1\n000009 2\n000026 1\n"), &[cat, "line 2", "flag 2"]);
    check(&text("000005 1\n000026 1\n000009 1\n"), &[cat, "line 2", "000026", "000009"]);
    check(&text("000005 1\n000009 1\n"), &[cat, "2 lines", "3 images"]);
    check(&text("000005 1\n000009 1\n000026 1\n000031 1\n"), &[cat, "4 lines", "3 images"]);
    check(&|root| fs::remove_file(root.join(cat)).unwrap(), &[cat, "No such file"]);
    let list = "ImageSets/Main/train.txt";
    check(&|root| write(root.join(list), ""), &[list, "empty"]);
    check(&|root| write(root.join(list), "000005\n000009 1\n000026\n"), &[list, "line 2", "\"000009 1\""]);
    check(&|root| write(root.join(list), "000005\n000009\n000005\n"), &[list, "line 3", "twice"]);
}

#[test]
fn voc_names_the_image_that_is_missing_or_corrupt() {
    let image = "JPEGImages/000009.jpg";
    check_error(
        voc_after(|root| fs::remove_file(root.join(image)).unwrap()),
        &["train.txt, line 2", "000009", image],
    );
    check_error(voc_after(|root| write(root.join(image), "no image at all")), &[image, "decoded"]);
    check_error(voc_after(|root| write(root.join(image), "")), &[image, "decoded"]);
    let shorten = |to: &dyn Fn(usize) -> usize| {
        let cut = |root: &Path| {
            let bytes = fs::read(root.join(image)).unwrap();
            fs::write(root.join(image), &bytes[..to(bytes.len())]).unwrap();
        };
        check_error(voc_after(cut), &[image]);
    };
    shorten(&|n| n / 4);
    shorten(&|n| n - n / 8);
    shorten(&|n| n - 2);
    check_error(
        voc_after(|root| {
            let mut bytes = fs::read(root.join(image)).unwrap();
            // The header stays; the tables and the scan are overwritten.
            let end = bytes.len() - 2;
            bytes[20..end].fill(0x55);
            fs::write(root.join(image), bytes).unwrap();
        }),
        &[image, "decoded"],
    );
}

#[test]
fn flickr8k_reads_captions_in_order() {
    let check = |flickr8k: Flickr8k| {
        let name = (flickr8k.name(), flickr8k.len(), flickr8k.input_shape());
        assert_eq!(name, ("Flickr8k train", 2, &[3, 12, 12][..]));
        assert_eq!(flickr8k.id(0), "2_b.jpg");
        let of: Vec<Vec<String>> =
            [["A cat sleeps .", "The cat is asleep"], ["A dog runs .", "A second sentence ."]]
                .map(|captions| captions.map(String::from).to_vec())
                .to_vec();
        assert_eq!(flickr8k.labels(), &Labels::Captions { of });
    };
    check(flickr8k_after(|_| ()).unwrap());
    check(
        flickr8k_after(|dir| edit(dir.join("Flickr8k.token.txt"), "1_a.jpg#1", "image\tcaption\n1_a.jpg#1"))
            .unwrap(),
    );
    check(flickr8k_after(|dir| edit(dir.join("Flickr8k.token.txt"), "\n", "\r\n")).unwrap());
    check(
        flickr8k_after(|dir| fs::rename(dir.join("Flicker8k_Dataset"), dir.join("Images")).unwrap()).unwrap(),
    );
}

#[test]
fn flickr8k_refuses_wrong_files() {
    let check = |change: &dyn Fn(&Path), parts: &[&str]| check_error(flickr8k_after(change), parts);
    let tokens = "Flickr8k.token.txt";
    let list = "Flickr_8k.trainImages.txt";
    // A caption without its image, and an image without a caption.
    let image = "Flicker8k_Dataset/1_a.jpg";
    check(&|dir| fs::remove_file(dir.join(image)).unwrap(), &["Images.txt, line 2", "1_a.jpg", image]);
    check(
        &|dir| edit(dir.join(tokens), "1_a", "1_z"),
        &["Images.txt, line 2", "1_a.jpg", "no caption", tokens],
    );
    check(&|dir| write(dir.join(image), "\u{1}"), &[image, "decoded"]);
    check(
        &|dir| fs::remove_dir_all(dir.join("Flicker8k_Dataset")).unwrap(),
        &["no folder Flicker8k_Dataset"],
    );
    check(&|dir| write(dir.join(tokens), ""), &[tokens, "empty"]);
    check(&|dir| write(dir.join(list), " \n"), &[list, "empty"]);
    for wrong in
        ["1_a.jpg 0\tA dog .", "1_a.jpg#0 A dog .", "1_a.jpg#x\tA dog .", "1_a.jpg#0\t  ", "", "#0\tA dog ."]
    {
        let change = |dir: &Path| edit(dir.join(tokens), "1_a.jpg#0\tA dog runs .", wrong);
        check(&change, &[tokens, "line 2", wrong.trim()]);
    }
    check(&|dir| edit(dir.join(tokens), "2_b.jpg#1", "2_b.jpg#0"), &[tokens, "line 4", "twice"]);
    check(&|dir| fs::write(dir.join(tokens), b"1_a.jpg#0\t\xff").unwrap(), &[tokens, "UTF-8"]);
    let dir = TempDir::new().unwrap();
    check_error(Flickr8k::open(dir.path(), "val", small()), &["train, dev and test", "val"]);
}

#[test]
fn fingerprint_changes_with_the_data() {
    let plain = voc_after(|_| ()).unwrap();
    let same = voc_after(|_| ()).unwrap();
    // The folder is gone by now: the files count as empty in both.
    assert_eq!(plain.fingerprint(), same.fingerprint());

    let dir = TempDir::new().unwrap();
    common::voc(dir.path(), 2007);
    let root = dir.path().join("VOC2007");
    let open = |pipeline| Voc::open(dir.path(), None, "train", pipeline).unwrap().fingerprint();
    let mut seen = vec![open(small())];
    assert_eq!(open(small()), seen[0]);
    seen.push(open(ImagePipeline { mean: 126.0, ..small() }));
    edit(root.join("ImageSets/Main/cow_train.txt"), "000009 -1", "000009 1");
    seen.push(open(small()));
    let mut photo = fs::read(root.join("JPEGImages/000026.jpg")).unwrap();
    let middle = photo.len() / 2;
    photo[middle] ^= 1;
    fs::write(root.join("JPEGImages/000026.jpg"), photo).unwrap();
    seen.push(open(small()));
    let distinct: std::collections::HashSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "{seen:?}");
}

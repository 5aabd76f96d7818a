//! Small datasets made by code, in the layouts in which they are published.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use dml_data::splits::VOC_CLASSES;
use image::{Rgb, RgbImage};

/// What can go wrong while a tree is made.
pub type Made = io::Result<()>;

/// Writes a file below folders that are made where they are missing.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> Made {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, content)
}

/// A video of 75 frames, whose look depends on `seed`; from it come a clip at an interval of 150 and two at one of 24.
///
/// # Errors
/// If ffmpeg fails.
pub fn video(path: &Path, seed: usize) -> Made {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let picture = ["testsrc2", "smptebars", "rgbtestsrc", "yuvtestsrc"][seed % 4];
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i"])
        .arg(format!("{picture}=size={}x120:rate=25", 160 + 2 * (seed % 7)))
        .args(["-frames:v", "75", "-c:v", "mpeg4", "-q:v", "5", "-f", "avi", "-y"])
        .arg(format!("file:{}", path.display()))
        .status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("ffmpeg: {status}"))) }
}

/// UCF101 with two classes of four videos; each split has three of each for training. `make` makes a video.
///
/// # Errors
/// If a file cannot be made.
pub fn ucf101(root: &Path, make: &mut dyn FnMut(&Path, usize) -> Made) -> Made {
    // The published class list writes the second name with a small s, and the files with a capital one.
    let classes = [("Archery", "Archery"), ("HandstandPushups", "HandStandPushups")];
    let lists = root.join("ucfTrainTestlist");
    write(&lists.join("classInd.txt"), "1 Archery\r\n2 HandstandPushups\r\n")?;
    let name = |class: usize, group: usize| {
        let (folder, file) = classes[class];
        format!("{folder}/v_{file}_g{group:02}_c01.avi")
    };
    for class in 0..2 {
        for group in 1..=4 {
            make(&root.join("UCF-101").join(name(class, group)), 2 * group + class)?;
        }
    }
    for split in 1..=3 {
        let (mut train, mut test) = (String::new(), String::new());
        for class in 0..2 {
            for group in 1..=4 {
                match group == split {
                    true => test += &format!("{}\r\n", name(class, group)),
                    false => train += &format!("{} {}\r\n", name(class, group), class + 1),
                }
            }
        }
        write(&lists.join(format!("trainlist0{split}.txt")), train)?;
        write(&lists.join(format!("testlist0{split}.txt")), test)?;
    }
    Ok(())
}

/// HMDB51 with two classes of four videos: two for training, one for testing, one unused in each split.
///
/// # Errors
/// If a file cannot be made.
pub fn hmdb51(root: &Path, make: &mut dyn FnMut(&Path, usize) -> Made) -> Made {
    for (class, name) in ["clap", "climb_stairs"].into_iter().enumerate() {
        let videos = ["#20_(Rhythm)_[HD];-)", "b&w", "c;d", "plain"]
            .map(|start| format!("{start}_{name}_u_nm_np1_fr_goo_0.avi"));
        for (number, video) in videos.iter().enumerate() {
            make(&root.join("hmdb51").join(name).join(video), 2 * number + class)?;
        }
        for split in 1..=3 {
            let flags = [1, 2, 1, 0];
            let line = |(i, video): (usize, &String)| format!("{video} {} \n", flags[(i + split) % 4]);
            let lines: String = videos.iter().enumerate().map(line).collect();
            let list = format!("testTrainMulti_7030_splits/{name}_test_split{split}.txt");
            write(&root.join(list), lines)?;
        }
    }
    Ok(())
}

/// YouTube2Text with six videos, four of the training part, one each for validation and test, two sentences each.
///
/// # Errors
/// If a file cannot be made.
pub fn youtube2text(root: &Path, make: &mut dyn FnMut(&Path, usize) -> Made) -> Made {
    let (mut mapping, mut sentences) = (String::new(), String::new());
    for (number, place) in [1, 2, 3, 1200, 1300, 1970].into_iter().enumerate() {
        let id = format!("-aB_{number}xyz_{}_{}", 3 * number, 3 * number + 9);
        make(&root.join(format!("YouTubeClips/{id}.avi")), number)?;
        mapping += &format!("{id} vid{place}\n");
        sentences +=
            &format!("{id} a person does thing number {number}\n{id} somebody is busy with {number}\n");
    }
    write(&root.join("youtube_mapping.txt"), mapping)?;
    write(&root.join("AllVideoDescriptions.txt"), sentences)
}

/// A photograph whose look depends on `seed`.
fn photo(path: &Path, seed: u32) -> Made {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let pixel = |x: u32, y: u32| Rgb([(x * 3 + seed * 40) as u8, (y * 5) as u8, (x + y + seed * 7) as u8]);
    RgbImage::from_fn(300 + seed % 5, 280, pixel).save(path).map_err(io::Error::other)
}

/// A year of PASCAL VOC with eight images for training and four for validation; image i has class i mod 20, and the next
/// one as difficult.
///
/// # Errors
/// If a file cannot be made.
pub fn voc(devkit: &Path, year: u16) -> Made {
    let root = devkit.join(format!("VOC{year}"));
    let ids: Vec<String> = (0..12).map(|n| format!("{year}_{n:06}")).collect();
    for (id, n) in ids.iter().zip(0..) {
        photo(&root.join(format!("JPEGImages/{id}.jpg")), n)?;
    }
    for (split, part) in [("train", &ids[..8]), ("val", &ids[8..]), ("trainval", &ids[..])] {
        let main = root.join("ImageSets/Main");
        write(
            &main.join(format!("{split}.txt")),
            part.iter().map(|id| format!("{id}\n")).collect::<String>(),
        )?;
        for (c, class) in VOC_CLASSES.iter().enumerate() {
            let flag = |id: &String| match ids.iter().position(|other| other == id) {
                Some(n) if n % 20 == c => " 1",
                Some(n) if (n + 1) % 20 == c => " 0",
                _ => "-1",
            };
            let lines: String = part.iter().map(|id| format!("{id} {}\n", flag(id))).collect();
            write(&main.join(format!("{class}_{split}.txt")), lines)?;
        }
    }
    Ok(())
}

/// Flickr8k with eight images for training and four for validation, two captions each, and the captioned image that is
/// missing everywhere.
///
/// # Errors
/// If a file cannot be made.
pub fn flickr8k(root: &Path) -> Made {
    let names: Vec<String> = (0..12).map(|n| format!("{}_{n:x}.jpg", 1000 + n)).collect();
    let mut captions = String::from("2258277193_586949ec62.jpg.1#0\tNobody has seen this .\n");
    for (name, n) in names.iter().zip(0..) {
        photo(&root.join("Flicker8k_Dataset").join(name), 20 + n)?;
        captions +=
            &format!("{name}#0\tA dog does thing number {n} .\n{name}#1\tNumber {n} is done by a dog .\n");
    }
    write(&root.join("Flickr8k.token.txt"), captions)?;
    for (split, part) in [("train", &names[..8]), ("dev", &names[8..])] {
        let lines: String = part.iter().map(|name| format!("{name}\n")).collect();
        write(&root.join(format!("Flickr_8k.{split}Images.txt")), lines)?;
    }
    Ok(())
}

use std::path::Path;

use crate::Result;
use crate::text::{lines, names, wrong};

/// The twenty classes of PASCAL VOC, in the devkit's order.
pub const VOC_CLASSES: [&str; 20] = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];

/// Reads the images of one split of PASCAL VOC with a flag for each of [`VOC_CLASSES`], in the order of the list.
/// `root` is the folder of a year, such as `VOC2012`.
///
/// `ImageSets/Main/<split>.txt` has an id a line, `ImageSets/Main/<class>_<split>.txt` lines `<id> <flag>` in the same
/// order, with any white space between. Flag 1: an object of the class is there; −1: none; 0: all that are there are
/// marked difficult.
///
/// # Errors
/// If a file is missing or a line is not as above; the error names the file and the line.
pub fn voc(root: &Path, split: &str) -> Result<Vec<(String, Vec<i8>)>> {
    let main = root.join("ImageSets").join("Main");
    let ids = names(&main.join(format!("{split}.txt")))?;
    let mut flags = vec![Vec::with_capacity(VOC_CLASSES.len()); ids.len()];
    for class in VOC_CLASSES {
        let path = main.join(format!("{class}_{split}.txt"));
        for (row, flag) in flags.iter_mut().zip(read_flags(&path, &ids)?) {
            row.push(flag);
        }
    }
    Ok(ids.into_iter().zip(flags).collect())
}

fn read_flags(path: &Path, ids: &[String]) -> Result<Vec<i8>> {
    let lines = lines(path)?;
    let mut flags = Vec::with_capacity(ids.len());
    for ((number, line), id) in lines.iter().zip(ids) {
        let fail = |problem| Err(wrong(path, Some(*number), problem));
        let words: Vec<&str> = line.split_whitespace().collect();
        let [given, flag] = words[..] else {
            return fail(format!("expected an image id and a flag, found \"{line}\""));
        };
        if given != id {
            return fail(format!("{given} where the split's list has {id}"));
        }
        flags.push(match flag {
            "1" => 1,
            "0" => 0,
            "-1" => -1,
            _ => return fail(format!("flag {flag} is none of 1, 0 and -1")),
        });
    }
    if lines.len() != ids.len() {
        let problem = format!("{} lines, but the split lists {} images", lines.len(), ids.len());
        return Err(wrong(path, None, problem));
    }
    Ok(flags)
}

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::text::{lines, wrong};
use crate::{DataError, Result};

/// The folder of UCF101's lists.
pub const UCF101_LISTS: &str = "ucfTrainTestlist";
/// The folder of HMDB51's lists.
pub const HMDB51_LISTS: &str = "testTrainMulti_7030_splits";

/// The classes and the three splits of UCF101 or HMDB51.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassLists {
    /// Class names, in the order of their numbers.
    pub names: Vec<String>,
    /// Splits 1, 2 and 3.
    pub splits: [ClassSplit; 3],
}

/// One split. A video is `<class>/<file>`, with its class from 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassSplit {
    /// Training videos.
    pub train: Vec<(String, u32)>,
    /// Test videos.
    pub test: Vec<(String, u32)>,
    /// Videos that this split leaves out (HMDB51).
    pub unused: Vec<(String, u32)>,
}

impl ClassLists {
    /// Every video of any split with its class, in the order of the names.
    pub fn videos(&self) -> Vec<(String, u32)> {
        let parts =
            |split: &ClassSplit| [&split.train, &split.test, &split.unused].map(Clone::clone).concat();
        let videos: BTreeMap<_, _> = self.splits.iter().flat_map(parts).collect();
        videos.into_iter().collect()
    }
}

/// Reads UCF101's lists, from the folder `ucfTrainTestlist` or from the one that holds it.
///
/// `classInd.txt` numbers the classes from 1, `trainlist0<split>.txt` has a path and that number, `testlist0<split>.txt`
/// the path alone; the class of a test video is its folder. Copies write `HandstandPushups` with a small or a capital s
/// in folder or file name (the published videos as `HandstandPushups/v_HandStandPushups_…`): names here follow
/// `classInd.txt` in both, so look for the file without regard to case.
///
/// # Errors
/// If a file is missing; if the numbers are not 1, 2, 3 …; if a path is not `<class>/v_<class>_g<GG>_c<CC>.avi`, its
/// number is not that of its folder, or it is twice in a split.
pub fn ucf101(dir: &Path) -> Result<ClassLists> {
    let dir = &within(dir, UCF101_LISTS);
    let path = dir.join("classInd.txt");
    let mut names: Vec<String> = Vec::new();
    for (number, line) in lines(&path)? {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [index, name] = words[..] else {
            let problem = format!("expected a number and a class, found \"{line}\"");
            return Err(wrong(&path, Some(number), problem));
        };
        if index.parse() != Ok(names.len() + 1) {
            let problem = format!("class {name} has number {index} where {} follows", names.len() + 1);
            return Err(wrong(&path, Some(number), problem));
        }
        if names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(wrong(&path, Some(number), format!("the class {name} is there twice")));
        }
        names.push(name.into());
    }
    let classes: HashMap<String, u32> = names.iter().map(|name| name.to_ascii_lowercase()).zip(0..).collect();
    let mut splits: [ClassSplit; 3] = Default::default();
    for (split, number) in splits.iter_mut().zip(1..) {
        let mut seen = HashSet::new();
        split.train =
            ucf101_list(&dir.join(format!("trainlist0{number}.txt")), true, &names, &classes, &mut seen)?;
        split.test =
            ucf101_list(&dir.join(format!("testlist0{number}.txt")), false, &names, &classes, &mut seen)?;
    }
    Ok(ClassLists { names, splits })
}

/// Reads HMDB51's lists, from the folder `testTrainMulti_7030_splits` or from the one that holds it.
///
/// Each class has `<class>_test_split<1, 2, 3>.txt` with lines `<file>.avi <flag>`: 1 is a training video, 2 a test
/// video, 0 one that the split leaves out. The classes are numbered in the order of their names. File names hold
/// characters such as `#`, `&`, `(`, `;` and `[`, but no spaces.
///
/// # Errors
/// If the folder cannot be read or has another `.txt` file, if a class lacks a split, if a line is not as above, or if a
/// file is listed twice, in two classes, or not in all splits of its class.
pub fn hmdb51(dir: &Path) -> Result<ClassLists> {
    let dir = &within(dir, HMDB51_LISTS);
    let names = hmdb51_classes(dir)?;
    let mut splits: [ClassSplit; 3] = Default::default();
    let mut class_of: HashMap<String, u32> = HashMap::new();
    for (name, class) in names.iter().zip(0..) {
        let mut of_class: Option<HashSet<String>> = None;
        for (split, number) in splits.iter_mut().zip(1..) {
            let path = dir.join(format!("{name}_test_split{number}.txt"));
            let mut files = HashSet::new();
            for (line, text) in lines(&path)? {
                let fail = |problem: String| Err(wrong(&path, Some(line), problem));
                let words: Vec<&str> = text.split_whitespace().collect();
                let [file, flag] = words[..] else {
                    return fail(format!("expected a file and a flag, found \"{text}\""));
                };
                if !file.ends_with(".avi") || file.contains(['/', '\\']) {
                    return fail(format!("{file} is no name of an .avi file"));
                }
                if !files.insert(file.to_owned()) {
                    return fail(format!("{file} is listed twice"));
                }
                if *class_of.entry(file.into()).or_insert(class) != class {
                    return fail(format!("{file} is listed under another class too"));
                }
                let part = match flag {
                    "0" => &mut split.unused,
                    "1" => &mut split.train,
                    "2" => &mut split.test,
                    _ => return fail(format!("flag {flag} is none of 0, 1 and 2")),
                };
                part.push((format!("{name}/{file}"), class));
            }
            if of_class.get_or_insert_with(|| files.clone()) != &files {
                let problem = format!("it lists other files than {name}_test_split1.txt");
                return Err(wrong(&path, None, problem));
            }
        }
    }
    Ok(ClassLists { names, splits })
}

/// The folder of this name, where `dir` is not it.
fn within(dir: &Path, name: &str) -> PathBuf {
    let inner = dir.join(name);
    if inner.is_dir() { inner } else { dir.into() }
}

fn ucf101_list(
    path: &Path,
    labelled: bool,
    names: &[String],
    classes: &HashMap<String, u32>,
    seen: &mut HashSet<String>,
) -> Result<Vec<(String, u32)>> {
    let mut videos = Vec::new();
    for (number, line) in lines(path)? {
        let fail = |problem: String| Err(wrong(path, Some(number), problem));
        let words: Vec<&str> = line.split_whitespace().collect();
        let (video, label) = match words[..] {
            [video, label] if labelled => (video, Some(label)),
            [video] if !labelled => (video, None),
            _ if labelled => return fail(format!("expected a path and a number, found \"{line}\"")),
            _ => return fail(format!("expected a path alone, found \"{line}\"")),
        };
        let Some((folder, file)) = video.split_once('/') else {
            return fail(format!("{video} has no folder"));
        };
        let Some(&class) = classes.get(&folder.to_ascii_lowercase()) else {
            return fail(format!("the folder {folder} is no class of classInd.txt"));
        };
        let name = &names[class as usize];
        let Some(take) = ucf101_take(file, name) else {
            return fail(format!("{file} is not v_{name}_g<GG>_c<CC>.avi"));
        };
        if label.is_some_and(|label| label.parse() != Ok(class + 1)) {
            return fail(format!("number {} where {folder} is {}", label.unwrap_or_default(), class + 1));
        }
        let id = format!("{name}/v_{name}{take}");
        if !seen.insert(id.clone()) {
            return fail(format!("{video} is twice in this split"));
        }
        videos.push((id, class));
    }
    Ok(videos)
}

/// `_g<GG>_c<CC>.avi`, if the rest of the file name is `v_<class>`.
fn ucf101_take<'a>(file: &'a str, class: &str) -> Option<&'a str> {
    let rest = file.strip_prefix("v_")?;
    let (name, take) = rest.split_at_checked(class.len())?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    let (group, clip) = take.strip_prefix("_g")?.strip_suffix(".avi")?.split_once("_c")?;
    (name.eq_ignore_ascii_case(class) && digits(group) && digits(clip)).then_some(take)
}

fn hmdb51_classes(dir: &Path) -> Result<Vec<String>> {
    let io = |source| DataError::Io { path: dir.into(), source };
    let mut found: BTreeMap<String, HashSet<String>> = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let name = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".txt") else { continue };
        let Some((class, split)) = stem.rsplit_once("_test_split") else {
            return Err(wrong(&dir.join(&name), None, "its name is not <class>_test_split<1, 2 or 3>.txt"));
        };
        found.entry(class.into()).or_default().insert(split.into());
    }
    for (class, splits) in &found {
        if *splits != HashSet::from(["1", "2", "3"].map(String::from)) {
            let problem = format!("{class} has not the splits 1, 2 and 3 but {splits:?}");
            return Err(wrong(dir, None, problem));
        }
    }
    if found.is_empty() {
        return Err(wrong(dir, None, "no <class>_test_split<1, 2 or 3>.txt is here"));
    }
    Ok(found.into_keys().collect())
}

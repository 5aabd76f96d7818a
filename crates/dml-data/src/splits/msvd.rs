use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde::Deserialize;

use crate::text::{lines, wrong};
use crate::{DataError, Result};

/// Captions of one clip after the other: the clip's id and its sentences.
pub type Captioned = Vec<(String, Vec<String>)>;

/// YouTube2Text (MSVD) with its standard split: `vid1` to `vid1200` of `youtube_mapping.txt` are for training, `vid1201`
/// to `vid1300` for validation, the others for testing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MsvdLists {
    /// Training clips, in the order of their numbers.
    pub train: Captioned,
    /// Validation clips.
    pub val: Captioned,
    /// Test clips.
    pub test: Captioned,
    /// Clips of the mapping that have no sentence. They are in no part.
    pub uncaptioned: Vec<String>,
    /// How many sentences belong to clips that the mapping has not. They are left out.
    pub unmapped: usize,
}

/// A clip's id, `<video>_<start>_<end>`; the video's own name may have `_` and `-` too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClipId<'a> {
    /// YouTube's id of the video.
    pub video: &'a str,
    /// First second.
    pub start: u32,
    /// Last second.
    pub end: u32,
}

impl<'a> ClipId<'a> {
    /// Splits an id from its right end; none if it is not one.
    pub fn parse(id: &'a str) -> Option<Self> {
        let (rest, end) = id.rsplit_once('_')?;
        let (video, start) = rest.rsplit_once('_')?;
        let (start, end) = (start.parse().ok()?, end.parse().ok()?);
        (!video.is_empty() && start < end).then_some(Self { video, start, end })
    }
}

/// Which sentences of `video_corpus.csv` to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sources {
    /// All English ones.
    #[default]
    All,
    /// Those that somebody checked (`clean`, not `unverified`).
    Clean,
}

/// Reads `youtube_mapping.txt` and the sentences beside it: `AllVideoDescriptions.txt`, or all English ones of
/// `video_corpus.csv` where that is missing.
///
/// # Errors
/// Those of [`descriptions`] and [`video_corpus`]; if the mapping has a line that is not `<clip> vid<number>` (LF or
/// CRLF, with or without an end of the last line), or a clip or number twice.
pub fn msvd(dir: &Path) -> Result<MsvdLists> {
    let clips = mapping(&dir.join("youtube_mapping.txt"))?;
    let published = dir.join("AllVideoDescriptions.txt");
    let mut captions = if published.is_file() {
        descriptions(&published)?
    } else {
        video_corpus(&dir.join("video_corpus.csv"), Sources::All)?
    };
    let mut lists = MsvdLists::default();
    for (number, id) in clips {
        let Some(sentences) = captions.remove(&id) else {
            lists.uncaptioned.push(id);
            continue;
        };
        let part = match number {
            ..=1200 => &mut lists.train,
            1201..=1300 => &mut lists.val,
            _ => &mut lists.test,
        };
        part.push((id, sentences));
    }
    lists.unmapped = captions.values().map(Vec::len).sum();
    Ok(lists)
}

/// Reads `AllVideoDescriptions.txt`: lines `<clip> <sentence>`, split at the first space; empty lines and lines that
/// begin with `#` are left out.
///
/// # Errors
/// If the file cannot be read or is not UTF-8, if a clip is not `<video>_<start>_<end>`, or if a line has no sentence.
pub fn descriptions(path: &Path) -> Result<HashMap<String, Vec<String>>> {
    let mut captions: HashMap<String, Vec<String>> = HashMap::new();
    for (number, line) in lines(path)? {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fail = |problem: String| Err(wrong(path, Some(number), problem));
        let (clip, sentence) = line.split_once(' ').unwrap_or((&line, ""));
        if ClipId::parse(clip).is_none() {
            return fail(format!("expected <video>_<start>_<end> and a sentence, found \"{line}\""));
        }
        let sentence = plain(sentence);
        if sentence.is_empty() {
            return fail(format!("{clip} has no sentence here"));
        }
        captions.entry(clip.into()).or_default().push(sentence);
    }
    Ok(captions)
}

/// Reads the English sentences of the original corpus, `video_corpus.csv`. Columns are found by their names, in any
/// order and among others. White space in a sentence (line breaks too, which some have) becomes single spaces, byte
/// order marks are dropped, and a sentence of which nothing is left is left out.
///
/// # Errors
/// If the file cannot be read or lacks one of the columns VideoID, Start, End, Source, Language and Description; if a
/// record has another number of fields or a source other than `clean` and `unverified`.
pub fn video_corpus(path: &Path, sources: Sources) -> Result<HashMap<String, Vec<String>>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Record {
        #[serde(rename = "VideoID")]
        video: String,
        start: u32,
        end: u32,
        source: String,
        language: String,
        description: String,
    }
    let text = std::fs::read(path).map_err(|source| DataError::Io { path: path.into(), source })?;
    let mut captions: HashMap<String, Vec<String>> = HashMap::new();
    for record in csv::Reader::from_reader(&*text).deserialize() {
        let record: Record = record.map_err(|e| {
            let line = e.position().map(|position| position.line() as usize);
            wrong(path, line, format!("no record of the corpus: {e}"))
        })?;
        let clip = format!("{}_{}_{}", record.video, record.start, record.end);
        if !["clean", "unverified"].contains(&record.source.as_str()) {
            let problem = format!("a sentence of {clip} has the source \"{}\"", record.source);
            return Err(wrong(path, None, problem));
        }
        let sentence = plain(&record.description);
        let wanted = sources == Sources::All || record.source == "clean";
        if record.language == "English" && wanted && !sentence.is_empty() {
            captions.entry(clip).or_default().push(sentence);
        }
    }
    Ok(captions)
}

/// The sentence with single spaces and without byte order marks.
fn plain(sentence: &str) -> String {
    sentence.replace('\u{feff}', " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The clips in the order of their numbers.
fn mapping(path: &Path) -> Result<BTreeMap<u32, String>> {
    let mut clips = BTreeMap::new();
    let mut seen = HashSet::new();
    for (number, line) in lines(path)? {
        let fail = |problem: String| Err(wrong(path, Some(number), problem));
        let entry = line.split_once(' ').and_then(|(clip, vid)| {
            ClipId::parse(clip)?;
            Some((clip, vid.strip_prefix("vid")?.parse::<u32>().ok().filter(|&vid| vid > 0)?))
        });
        let Some((clip, vid)) = entry else {
            return fail(format!("expected <video>_<start>_<end> vid<number>, found \"{line}\""));
        };
        if !seen.insert(clip.to_owned()) || clips.insert(vid, clip.to_owned()).is_some() {
            return fail(format!("{clip} or vid{vid} is there twice"));
        }
    }
    Ok(clips)
}

//! Decoding what was found, in order, into shards.

use std::collections::HashSet;
use std::path::Path;

use dml_data::shards::{Sample, Writer, escape};
use serde_json::{Value, json};

use crate::clips::clips;
use crate::event::{Event, Run};
use crate::layout::{self, Found, Item};
use crate::manifest::{Manifest, Name};
use crate::ordered::in_order;
use crate::photos::photo;
use crate::pipeline::{Options, Settings, Summary};
use crate::video::{Ffmpeg, Unreadable};
use crate::{PrepareError, Result};

/// Makes the samples of videos or images.
pub(crate) struct Decoder<'a> {
    pub(crate) ffmpeg: Option<&'a Ffmpeg>,
    pub(crate) settings: &'a Settings,
    pub(crate) run: Run<'a>,
}

impl Decoder<'_> {
    /// The samples of one video or image.
    fn samples(&self, name: Name, item: &Item) -> std::result::Result<Vec<Sample>, Unreadable> {
        let meta = |numbers: Option<&[u32]>| {
            let mut meta = item.meta.clone();
            meta.insert("source".into(), json!(name));
            meta.insert("video".into(), json!(item.id));
            if let Some(numbers) = numbers {
                meta.insert("frames".into(), json!(numbers));
            }
            Value::Object(meta)
        };
        match (self.settings, self.ffmpeg) {
            (Settings::Clips(sampling), Some(ffmpeg)) => {
                let clips = clips(ffmpeg, &item.path, sampling, self.run.stop)?.into_iter().enumerate();
                Ok(clips
                    .map(|(number, clip)| Sample {
                        key: format!("{}_{number:04}", escape(&item.id)),
                        meta: meta(Some(&clip.numbers)),
                        frames: clip.frames,
                    })
                    .collect())
            }
            (Settings::Images { short_side, quality }, _) => {
                let frame = photo(&item.path, *short_side, *quality)?;
                Ok(vec![Sample { key: escape(&item.id), frames: vec![frame], meta: meta(None) }])
            }
            (Settings::Clips(_), None) => {
                Err(PrepareError::Ffmpeg("ffmpeg was not looked for".into()).into())
            }
        }
    }
}

/// Decodes what is not stored yet, of all or of the part that is asked for, and finishes the set or the part.
///
/// # Errors
/// If it is interrupted, if a file cannot be written, or if more could not be decoded than is borne.
pub(crate) fn decode(
    manifest: &Manifest,
    options: &Options,
    dir: &Path,
    found: &Found,
    decoder: &Decoder<'_>,
    differences: Vec<String>,
) -> Result<Summary> {
    let (name, run) = (manifest.name, decoder.run);
    let (items, prefix) = match options.part {
        Some(part) => (&found.items[part.range(found.items.len())], part.prefix(name)),
        None => (&found.items[..], name.to_string()),
    };
    let (mut writer, keys) = Writer::resume(&dir.join("shards"), &prefix, options.shards)?;
    let kept: HashSet<&str> = keys.iter().map(String::as_str).collect();
    let todo = remaining(name, items, &keys);
    let before = items.len() - todo.len();
    if !kept.is_empty() {
        run.note(format!("{name}: {before} of {} are done; continuing", items.len()));
    }
    run.send(Event::Started {
        what: format!("decoding {name}"),
        of: Some(items.len() as u64),
        bytes: false,
        from: before as u64,
    });
    let mut samples = kept.len();
    let mut failures: Vec<(String, String)> = Vec::new();
    let work = |number: usize| {
        if run.stopped() {
            Err(PrepareError::Interrupted.into())
        } else {
            decoder.samples(name, &items[todo[number]])
        }
    };
    in_order(todo.len(), options.jobs, work, |number, decoded| {
        run.check()?;
        match decoded {
            Ok(decoded) => {
                for sample in decoded.iter().filter(|sample| !kept.contains(sample.key.as_str())) {
                    writer.append(sample)?;
                    samples += 1;
                }
            }
            Err(Unreadable::Video(reason)) => {
                let id = items[todo[number]].id.clone();
                run.send(Event::LeftOut { id: id.clone(), reason: reason.clone() });
                failures.push((id, reason));
                bearable(&failures, found.items.len(), options.failures)?;
            }
            Err(Unreadable::Other(error)) => return Err(error),
        }
        run.send(Event::Advanced((before + number + 1) as u64));
        Ok(())
    })?;
    run.send(Event::Finished);
    if samples == 0 && options.part.is_none() {
        let first = failures.first().map(|(id, reason)| format!("{id}: {reason}")).unwrap_or_default();
        let (failed, of) = (failures.len(), items.len());
        return Err(PrepareError::Failures { failed, of, percent: options.failures, first });
    }
    let summary = Summary { samples, items: items.len() - failures.len(), failures, differences };
    let metadata = json!({
        "dataset": name,
        "title": manifest.title,
        "licence": manifest.licence,
        "citation": manifest.citation,
        "made_by": concat!("dml-prepare ", env!("CARGO_PKG_VERSION")),
        "ffmpeg": decoder.ffmpeg.map(Ffmpeg::version),
        "settings": decoder.settings,
        "counts": found.counts,
        "list_counts": layout::counts(name, dir)?,
        "samples": summary.samples,
        "items": summary.items,
        "failures": summary.failures,
        "differences": summary.differences,
    });
    match options.part {
        Some(_) => writer.finish_part(metadata)?,
        None => writer.finish(metadata)?,
    }
    Ok(summary)
}

/// The numbers of the items whose samples are not all stored. The last one that is stored may be stored in part; one
/// without a sample failed, and fails again with the same reason.
fn remaining(name: Name, items: &[Item], keys: &[String]) -> Vec<usize> {
    let owner = |key: &str| match name.is_video() {
        true => key.rsplit_once('_').map_or(key, |(video, _)| video).to_owned(),
        false => key.to_owned(),
    };
    let last = keys.last().map(|key| owner(key));
    let stored: HashSet<String> = keys.iter().map(|key| owner(key)).collect();
    let open = |item: &Item| {
        let key = escape(&item.id);
        !stored.contains(&key) || (name.is_video() && last.as_ref() == Some(&key))
    };
    (0..items.len()).filter(|&number| open(&items[number])).collect()
}

/// An error if so many failures of so many videos or images are more than is borne.
pub(crate) fn bearable(failures: &[(String, String)], of: usize, percent: f64) -> Result<()> {
    let failed = failures.len();
    if failed as f64 * 100.0 <= percent * of as f64 {
        return Ok(());
    }
    let first = failures.first().map(|(id, reason)| format!("{id}: {reason}")).unwrap_or_default();
    Err(PrepareError::Failures { failed, of, percent, first })
}

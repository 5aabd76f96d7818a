//! Preparing a dataset in parts, such as by the jobs of an array on a shared file system.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use dml_data::shards;
use serde_json::{Value, json};

use crate::manifest::Name;
use crate::pipeline::{Summary, summary_of};
use crate::{PrepareError, Result};

/// One of the parts that a dataset's videos or images are divided into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartOf {
    /// Which, from 1.
    pub number: usize,
    /// Of how many.
    pub of: usize,
}

impl PartOf {
    /// The part's things of `len`. The parts follow each other and differ by one at most.
    pub(crate) fn range(self, len: usize) -> Range<usize> {
        len * (self.number - 1) / self.of..len * self.number / self.of
    }

    /// What the part's shards begin with.
    pub(crate) fn prefix(self, name: Name) -> String {
        format!("{name}-part{}of{}", self.number, self.of)
    }

    /// All parts of the same division.
    pub(crate) fn all(self) -> impl Iterator<Item = Self> {
        (1..=self.of).map(move |number| Self { number, of: self.of })
    }
}

impl fmt::Display for PartOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.number, self.of)
    }
}

impl FromStr for PartOf {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let numbers =
            text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            _ => Err("a part is NUMBER/OF, from 1/OF to OF/OF, such as 3/8".into()),
        }
    }
}

/// What is there of a division.
pub(crate) enum Parts {
    /// The parts that are not finished.
    Missing(Vec<usize>),
    /// All are: the metadata of each.
    Whole(Vec<Value>),
}

/// Looks which parts of a division are finished, and whether they were made alike.
pub(crate) fn look(dir: &Path, name: Name, part: PartOf, settings: &Value) -> Result<Parts> {
    let (mut missing, mut whole) = (Vec::new(), Vec::new());
    for other in part.all() {
        match shards::part(&dir.join("shards"), &other.prefix(name))? {
            None => missing.push(other.number),
            Some(metadata) if metadata["settings"] == *settings => whole.push(metadata),
            Some(metadata) => {
                let then = &metadata["settings"];
                let problem = format!(
                    "part {other} was prepared with {then} and now {settings} is asked for; remove the folder to \
                     prepare it anew"
                );
                return Err(PrepareError::Prepared { path: dir.into(), problem });
            }
        }
    }
    Ok(if missing.is_empty() { Parts::Whole(whole) } else { Parts::Missing(missing) })
}

/// An error if shards of another division are here, or of a preparation that was not divided.
pub(crate) fn check_division(dir: &Path, name: Name, part: Option<PartOf>) -> Result<()> {
    let ours = |file: &str| match part {
        Some(part) => part.all().any(|part| {
            file.strip_prefix(&part.prefix(name)).is_some_and(|rest| rest.starts_with(['-', '.']))
        }),
        None => !file.starts_with(&format!("{name}-part")),
    };
    for path in crate::locate::entries(&dir.join("shards")) {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        if !ours(&file) {
            let problem = format!(
                "{file} is of a preparation that was divided otherwise; go on as it was begun, or remove the folder \
                 shards"
            );
            return Err(PrepareError::Prepared { path: dir.into(), problem });
        }
    }
    Ok(())
}

/// What all parts hold together.
pub(crate) fn summed(dir: &Path, parts: &[Value], differences: Vec<String>) -> Result<Summary> {
    let damaged = || PrepareError::Prepared {
        path: dir.into(),
        problem: "a part's metadata is not ours; remove the folder shards".into(),
    };
    let mut whole = Summary { samples: 0, items: 0, failures: vec![], differences };
    for part in parts {
        let Summary { samples, items, failures, .. } = summary_of(part).ok_or_else(damaged)?;
        whole.samples += samples;
        whole.items += items;
        whole.failures.extend(failures);
    }
    Ok(whole)
}

/// Makes the set of its parts, which are all finished.
pub(crate) fn merge(dir: &Path, name: Name, part: PartOf, parts: &[Value], whole: &Summary) -> Result<()> {
    let mut metadata = parts.first().cloned().unwrap_or_default();
    metadata["samples"] = json!(whole.samples);
    metadata["items"] = json!(whole.items);
    metadata["failures"] = json!(whole.failures);
    metadata["differences"] = json!(whole.differences);
    let prefixes: Vec<String> = part.all().map(|part| part.prefix(name)).collect();
    Ok(shards::merge(&dir.join("shards"), &prefixes, metadata)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_numbered_from_1() {
        let check = |text: &str, expected: Option<(usize, usize)>| {
            let part = text.parse::<PartOf>().ok();
            assert_eq!(part.map(|part| (part.number, part.of)), expected, "{text}");
        };
        check("1/1", Some((1, 1)));
        check("3/8", Some((3, 8)));
        for text in ["0/8", "9/8", "1", "1/0", "a/b", "-1/2"] {
            check(text, None);
        }
        let ranges: Vec<_> = PartOf { number: 1, of: 3 }.all().map(|part| part.range(10)).collect();
        assert_eq!(ranges, [0..3, 3..6, 6..10]);
    }
}

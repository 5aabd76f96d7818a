//! Event files that TensorBoard shows: records of a length and its checksum, an `Event` message in Protocol Buffers, and
//! its checksum (tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use dml_train::Event;
use prost::Message;

/// Writes scalars by optimiser step.
pub(crate) struct TensorBoard {
    file: BufWriter<File>,
    step: i64,
    failed: Option<std::io::Error>,
}

#[derive(Clone, PartialEq, Message)]
struct EventMessage {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    Session(Session),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// The session's status; 1 is its start, at which TensorBoard forgets later steps of earlier files.
#[derive(Clone, PartialEq, Message)]
struct Session {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl TensorBoard {
    /// A new file in the run's folder, beside those of the processes that have worked on the run before.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let name = format!("events.out.tfevents.{:010.0}.{}", now(), std::process::id());
        let path = folder.join(name);
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        let mut new = Self { file: BufWriter::new(file), step: 0, failed: None };
        new.put(What::FileVersion("brain.Event:2".into()));
        Ok(new)
    }

    /// Adds what an event has of scalars. The first failure is told at [`TensorBoard::close`].
    pub(crate) fn write(&mut self, event: &Event) {
        match event {
            Event::Started { done, .. } => {
                self.step = *done as i64;
                self.put(What::Session(Session { status: 1 }));
            }
            Event::Step { terms, weights, .. } => {
                self.step += 1;
                let terms = terms.iter().map(|(name, &value)| (format!("loss/{name}"), value));
                self.scalars(terms.chain(weights.iter().map(|(name, &w)| (format!("weight/{name}"), w))));
            }
            Event::Evaluated { scores, epochs, .. } => {
                let scores = scores.iter().map(|score| {
                    let (eval, measure, protocol) = (&score.eval, &score.measure, &score.protocol);
                    (format!("{eval}/{measure} ({protocol})"), score.value)
                });
                self.scalars(scores.chain([("run/epochs".to_string(), *epochs)]));
                self.flush();
            }
            Event::Drift { dataset, task, kl, cosine, .. } => {
                let kl = kl.map(|kl| (format!("drift/{task} on {dataset}: KL"), kl));
                self.scalars(kl.into_iter().chain([(format!("drift/{task} on {dataset}: cosine"), *cosine)]));
            }
            Event::GradientCosine { pairs, .. } => {
                self.scalars(pairs.iter().map(|(pair, &value)| (format!("gradient cosine/{pair}"), value)));
            }
            Event::PhaseFinished { samples_per_second, peak_memory, .. } => {
                let memory =
                    peak_memory.map(|bytes| ("run/peak memory in MiB".into(), bytes as f64 / 1048576.0));
                self.scalars(
                    [("run/samples per second".into(), *samples_per_second)].into_iter().chain(memory),
                );
            }
            Event::Saving { .. } | Event::Finished { .. } => self.flush(),
            _ => {}
        }
    }

    pub(crate) fn close(mut self) -> Result<()> {
        self.flush();
        match self.failed {
            Some(error) => Err(error).context("writing the TensorBoard events"),
            None => Ok(()),
        }
    }

    fn scalars(&mut self, values: impl IntoIterator<Item = (String, f64)>) {
        let scalar = |(tag, value)| Scalar { tag, simple_value: Some(value as f32) };
        self.put(What::Summary(Summary { value: values.into_iter().map(scalar).collect() }));
    }

    fn put(&mut self, what: What) {
        let event = EventMessage { wall_time: now(), step: self.step, what: Some(what) };
        if let Err(error) = record(&mut self.file, &event.encode_to_vec()) {
            self.failed.get_or_insert(error);
        }
    }

    fn flush(&mut self) {
        if let Err(error) = self.file.flush() {
            self.failed.get_or_insert(error);
        }
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn record(file: &mut impl Write, data: &[u8]) -> std::io::Result<()> {
    let length = (data.len() as u64).to_le_bytes();
    file.write_all(&length)?;
    file.write_all(&masked(&length).to_le_bytes())?;
    file.write_all(data)?;
    file.write_all(&masked(data).to_le_bytes())
}

/// The checksum of the records' format: CRC-32C, rotated and moved, so that checksums of checksums are none.
fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), whose reversed polynomial is 0x82f63b78. Records are short.
fn crc32c(data: &[u8]) -> u32 {
    let step = |crc: u32, &byte: &u8| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    };
    !data.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use dml_train::Score;

    use super::*;

    /// The records of a file, with their checksums checked.
    fn read(bytes: &[u8]) -> Vec<EventMessage> {
        let (mut rest, mut events) = (bytes, vec![]);
        while !rest.is_empty() {
            let number = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
            let length = number(0) as usize;
            assert_eq!(number(8), masked(&rest[..8]));
            let data = &rest[12..12 + length];
            assert_eq!(number(12 + length), masked(data));
            events.push(EventMessage::decode(data).unwrap());
            rest = &rest[16 + length..];
        }
        events
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn scalars_stand_at_their_steps() {
        let place = tempfile::tempdir().unwrap();
        let mut board = TensorBoard::create(place.path()).unwrap();
        board.write(&Event::Started { phases: 1, steps: 9, done: 5, parameters: 1 });
        let terms = [("class loss".to_string(), 0.5)].into();
        board.write(&Event::Step {
            phase: 1,
            step: 1,
            samples: 4,
            terms,
            weights: [("class loss".to_string(), 2.0)].into(),
        });
        let score = Score {
            eval: "class".into(),
            task: "class".into(),
            measure: "hit@1".into(),
            protocol: "clip".into(),
            value: 25.0,
            higher_is_better: true,
            n: 8,
        };
        board.write(&Event::Evaluated { phase: 1, name: "class".into(), epochs: 1.5, scores: vec![score] });
        board.close().unwrap();
        let file = std::fs::read_dir(place.path()).unwrap().next().unwrap().unwrap().path();
        assert!(file.file_name().unwrap().to_string_lossy().starts_with("events.out.tfevents."));
        let events = read(&std::fs::read(file).unwrap());
        assert_eq!(events[0].what, Some(What::FileVersion("brain.Event:2".into())));
        assert_eq!((events[1].step, &events[1].what), (5, &Some(What::Session(Session { status: 1 }))));
        let scalars: Vec<(i64, String, f32)> = events[2..]
            .iter()
            .flat_map(|event| {
                match &event.what {
                    Some(What::Summary(summary)) => summary.value.clone(),
                    other => panic!("{other:?}"),
                }
                .into_iter()
                .map(|scalar| (event.step, scalar.tag, scalar.simple_value.unwrap()))
            })
            .collect();
        let expected = [
            (6, "loss/class loss", 0.5),
            (6, "weight/class loss", 2.0),
            (6, "class/hit@1 (clip)", 25.0),
            (6, "run/epochs", 1.5),
        ];
        assert_eq!(scalars, expected.map(|(step, tag, value)| (step, tag.to_string(), value)));
    }
}

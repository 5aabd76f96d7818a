use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::event::Event;
use crate::{Result, TrainError};

/// `metrics.jsonl`: what happened in a run, an event a line. A run that goes on from a checkpoint goes on in the file from
/// there.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: BufWriter<File>,
    begun: bool,
    failed: Option<std::io::Error>,
}

impl Log {
    /// Opens the file, or makes it; nothing is lost before the first event.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).read(true).write(true).open(path);
        let file = file.map_err(|source| TrainError::Io { path: path.into(), source })?;
        Ok(Self { path: path.into(), file: BufWriter::new(file), begun: false, failed: None })
    }

    /// Adds an event. The first failure is told at [`Log::close`]: a log is no reason to stop a run.
    pub fn write(&mut self, event: &Event) {
        if let Err(error) = self.try_write(event) {
            self.failed.get_or_insert(error);
        }
    }

    /// Puts what was written on the disk.
    ///
    /// # Errors
    /// If that, or an event before, could not be written.
    pub fn close(mut self) -> Result<()> {
        let flushed = self.file.flush().and_then(|()| self.file.get_ref().sync_data());
        match self.failed.take().or(flushed.err()) {
            Some(source) => Err(TrainError::Io { path: self.path, source }),
            None => Ok(()),
        }
    }

    fn try_write(&mut self, event: &Event) -> std::io::Result<()> {
        // What only moves a bar is not worth a line.
        if matches!(event, Event::Preparing { .. } | Event::Evaluating { .. }) {
            return Ok(());
        }
        if !self.begun {
            let length = match event {
                Event::Resumed { state, .. } => self.length_until(*state)?,
                _ => 0,
            };
            self.file.get_ref().set_len(length)?;
            self.file.seek(SeekFrom::End(0))?;
            self.begun = true;
        }
        writeln!(self.file, "{}", serde_json::to_string(event)?)?;
        match event {
            // A checkpoint must not be on disk before the log of what led to it.
            Event::Saving { .. } => {
                self.file.flush()?;
                self.file.get_ref().sync_data()
            }
            Event::Evaluated { .. } | Event::Saved { .. } | Event::Finished { .. } => self.file.flush(),
            _ => Ok(()),
        }
    }

    /// The file's length up to the last time that this state was saved, with the line that says so: a process that dies
    /// before it saves anything leaves the line for the next. All of it where there is no such line.
    fn length_until(&mut self, state: u32) -> std::io::Result<u64> {
        let mut file = self.file.get_ref();
        file.rewind()?;
        let mut reader = BufReader::new(file);
        let (mut read, mut until, mut line) = (0, None, Vec::new());
        while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            read += line.len() as u64;
            let event: Value = serde_json::from_slice(&line).unwrap_or_default();
            if event["event"] == "saving" && event["state"] == state {
                until = Some(read);
            }
            line.clear();
        }
        Ok(until.unwrap_or(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_goes_on_goes_on_in_its_log() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("metrics.jsonl");
        let started = |done| Event::Started { phases: 1, steps: 9, done, parameters: 1 };
        let step = |step| Event::Step {
            phase: 1,
            step,
            samples: 4,
            terms: Default::default(),
            weights: Default::default(),
        };
        let saving = |state| Event::Saving { steps: 1, path: place.path().into(), state };
        let write = |events: &[Event]| {
            let mut log = Log::open(&path).unwrap();
            events.iter().for_each(|event| log.write(event));
            log.close().unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            let name = |line: &str| {
                let event: Value = serde_json::from_str(line).unwrap();
                let number = if event["event"] == "step" { event["step"].to_string() } else { String::new() };
                format!("{}{number}", event["event"].as_str().unwrap())
            };
            text.lines().map(name).collect::<Vec<_>>().join(" ")
        };
        let evaluating = Event::Evaluating { done: 1, of: 2 };
        // Saved twice after the same step, as before and after an evaluation; the second never reached the disk.
        let first = write(&[started(0), step(1), evaluating, saving(1), step(2), saving(2), step(3)]);
        assert_eq!(first, "started step1 saving step2 saving step3");
        let resumed = || Event::Resumed { path: place.path().into(), steps: 1, phase: 1, step: 1, state: 1 };
        // A half line, as a process leaves it that dies.
        let mut text = std::fs::read(&path).unwrap();
        text.extend(b"{\"event\":\"st");
        std::fs::write(&path, text).unwrap();
        let again = "started step1 saving resumed started";
        assert_eq!(write(&[resumed(), started(1)]), again);
        // A process that died before it saved anything leaves the place to the next.
        assert_eq!(write(&[resumed(), started(1), step(2)]), format!("{again} step2"));
        assert_eq!(write(&[started(0), step(1)]), "started step1");
    }
}

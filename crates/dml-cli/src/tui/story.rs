use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use dml_train::{Event, Score};

use crate::progress::{is_main_key, name, phase_line};

/// Phases whose lines are kept.
const LINES: usize = 200;

/// What a run has told so far, as the screen needs it.
#[derive(Clone)]
pub(super) struct Story {
    pub(super) title: String,
    /// Set while a stop has been asked for.
    pub(super) stopping: bool,
    pub(super) steps: usize,
    pub(super) done: usize,
    /// Steps that this process did not do.
    before: usize,
    began: Instant,
    samples: usize,
    /// Where the run is, in words.
    pub(super) place: String,
    /// The losses of the last step.
    pub(super) terms: Vec<(String, f64)>,
    /// Main scores that are better when higher, each with its task, by epochs.
    pub(super) curves: BTreeMap<String, (String, Vec<(f64, f64)>)>,
    /// The tasks of the phases, with the epochs at which they ended.
    pub(super) lines: VecDeque<String>,
    phases: usize,
    scores: Vec<Score>,
}

impl Story {
    pub(super) fn new(title: &str) -> Self {
        Self {
            title: title.into(),
            stopping: false,
            steps: 0,
            done: 0,
            before: 0,
            began: Instant::now(),
            samples: 0,
            place: "preparing".into(),
            terms: vec![],
            curves: BTreeMap::new(),
            lines: VecDeque::new(),
            phases: 0,
            scores: vec![],
        }
    }

    pub(super) fn add(&mut self, event: &Event) {
        match event {
            Event::Started { phases, steps, done, .. } => {
                (self.phases, self.steps, self.done, self.before) = (*phases, *steps, *done, *done);
                (self.began, self.samples) = (Instant::now(), 0);
            }
            Event::Resumed { path, .. } => self.line(format!("going on from {}", path.display())),
            Event::Skipped { path, problem } => {
                self.line(format!("{} is not whole: {problem}", path.display()));
            }
            Event::PhaseStarted { phase, name, .. } => {
                self.place = format!("phase {phase}/{} {name}", self.phases)
            }
            Event::Step { samples, terms, .. } => {
                self.done += 1;
                self.samples += samples;
                self.terms = terms.iter().map(|(name, value)| (name.clone(), *value)).collect();
            }
            Event::Evaluated { scores, epochs, .. } => {
                for score in scores.iter().filter(|s| s.higher_is_better && is_main_key(&s.key())) {
                    let curve =
                        self.curves.entry(name(score)).or_insert_with(|| (score.task.clone(), vec![]));
                    curve.1.push((*epochs, score.value));
                }
                self.scores = scores.clone();
            }
            Event::PhaseFinished { .. } => {
                if let Some(line) = phase_line(&self.place, event, &self.scores) {
                    self.line(line);
                }
            }
            Event::Saved { path } => self.line(format!("saved {}", path.display())),
            _ => {}
        }
    }

    /// Samples a second in this process.
    pub(super) fn rate(&self) -> f64 {
        self.samples as f64 / self.began.elapsed().as_secs_f64().max(1e-3)
    }

    /// Seconds left, once there is something to tell it from.
    pub(super) fn left(&self) -> Option<u64> {
        let done = self.done.checked_sub(self.before).filter(|&done| done > 0)?;
        let each = self.began.elapsed().as_secs_f64() / done as f64;
        Some((each * self.steps.saturating_sub(self.done) as f64) as u64)
    }

    fn line(&mut self, text: String) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(text);
    }
}

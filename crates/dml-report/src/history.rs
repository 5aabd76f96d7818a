use std::collections::BTreeMap;

use dml_train::Score;
use serde::Deserialize;

/// What happened in a run, as far as a report shows it.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Number of trainable numbers.
    pub parameters: Option<usize>,
    /// Number of optimiser steps.
    pub steps: Option<usize>,
    /// The phases that have begun.
    pub phases: Vec<Phase>,
    /// The evaluations in order.
    pub evaluations: Vec<Evaluation>,
    /// Wall-clock seconds, if the run came to an end.
    pub seconds: Option<f64>,
    /// Whether the run is known to have stopped before its end.
    pub interrupted: bool,
    /// Lines that could not be understood, such as one that was cut off when a process was killed.
    pub unreadable: usize,
}

/// A phase of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// Its number, from 1.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// Its round; 0 is the prologue.
    pub round: usize,
    /// Its length in steps.
    pub steps: usize,
    /// Its length in samples.
    pub samples: usize,
    /// The mean of each term of the loss over its steps.
    pub terms: BTreeMap<String, f64>,
}

/// All tasks evaluated at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The phase's number, or 0 before training.
    pub phase: usize,
    /// Its name.
    pub name: String,
    /// Epochs over all datasets by then.
    pub epochs: f64,
    /// The scores.
    pub scores: Vec<Score>,
}

/// The events of `metrics.jsonl` that matter here; others, and further fields, are passed over.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line {
    Started {
        steps: usize,
        parameters: usize,
    },
    PhaseStarted {
        phase: usize,
        name: String,
        round: usize,
        steps: usize,
        samples: usize,
    },
    Step {
        phase: usize,
        terms: BTreeMap<String, f64>,
    },
    Evaluated {
        phase: usize,
        name: String,
        epochs: f64,
        scores: Vec<Score>,
    },
    Finished {
        interrupted: bool,
        seconds: f64,
    },
    #[serde(other)]
    Other,
}

impl History {
    /// Reads the lines of `metrics.jsonl`. Where a run was continued from an earlier moment, what came after that moment
    /// and was done again counts once, as it was done last.
    pub fn parse(text: &str) -> Self {
        let mut history = Self::default();
        let mut sums: BTreeMap<String, (f64, usize)> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let Ok(line) = serde_json::from_str(line) else {
                history.unreadable += 1;
                continue;
            };
            if let Line::Step { phase, terms } = &line {
                for (term, value) in terms {
                    let (sum, count) = sums.entry(term.clone()).or_default();
                    (*sum, *count) = (*sum + value, *count + 1);
                }
                if let Some(known) = history.phases.last_mut().filter(|known| known.number == *phase) {
                    known.terms =
                        sums.iter().map(|(term, (sum, n))| (term.clone(), sum / *n as f64)).collect();
                }
            } else {
                history.take(line, &mut sums);
            }
        }
        history
    }

    fn take(&mut self, line: Line, sums: &mut BTreeMap<String, (f64, usize)>) {
        match line {
            Line::Started { steps, parameters } => {
                (self.steps, self.parameters) = (Some(steps), Some(parameters));
                (self.seconds, self.interrupted) = (None, false);
            }
            Line::PhaseStarted { phase: number, name, round, steps, samples } => {
                self.phases.retain(|known| known.number < number);
                self.evaluations.retain(|known| known.phase < number);
                sums.clear();
                self.phases.push(Phase { number, name, round, steps, samples, terms: BTreeMap::new() });
            }
            Line::Evaluated { phase, name, epochs, scores } => {
                self.evaluations.retain(|known| known.epochs < epochs);
                self.evaluations.push(Evaluation { phase, name, epochs, scores });
            }
            Line::Finished { interrupted, seconds } => {
                (self.seconds, self.interrupted) = (Some(seconds), interrupted);
            }
            Line::Step { .. } | Line::Other => {}
        }
    }

    /// Where each phase begins and ends on the axis of epochs. Nothing where epochs cannot be told.
    pub fn spans(&self) -> Vec<(f64, f64, &str)> {
        let seen = |until: usize| -> usize {
            self.phases.iter().filter(|phase| phase.number <= until).map(|phase| phase.samples).sum()
        };
        // The last evaluation after a whole phase tells how many samples an epoch over all datasets has.
        let mut ends = self.phases.iter().filter_map(|phase| {
            let last = self.evaluations.iter().rfind(|evaluation| evaluation.phase == phase.number)?;
            Some((last.epochs, seen(phase.number)))
        });
        let Some((epochs, samples)) = ends.next().filter(|(epochs, _)| *epochs > 0.0) else { return vec![] };
        let place = |samples_seen: usize| samples_seen as f64 * epochs / samples as f64;
        let ends = self.phases.iter().map(|phase| (phase, seen(phase.number)));
        ends.map(|(phase, end)| (place(end - phase.samples), place(end), phase.name.as_str())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"
{"event":"started","phases":2,"steps":4,"parameters":10}
{"event":"evaluated","phase":0,"name":"before training","epochs":0.0,"scores":[]}
{"event":"phase-started","phase":1,"name":"caption","round":1,"steps":2,"samples":30,"new field":1}
{"event":"step","phase":1,"step":1,"samples":15,"terms":{"caption loss":1.0}}
{"event":"step","phase":1,"step":2,"samples":15,"terms":{"caption loss":0.5}}
{"event":"evaluated","phase":1,"name":"caption","epochs":0.75,"scores":[]}
{"event":"an event of tomorrow"}
{"event":"phase-started","phase":2,"name":"class","round":1,"steps":2,"samples":10}
{"event":"step","phase":2,"step":1,"samples":5,"terms":{"class loss":9.0}}
{"event":"evalu"#;

    #[test]
    fn a_log_that_was_cut_off_and_continued() {
        let history = History::parse(LOG);
        assert_eq!(history.unreadable, 1);
        assert_eq!(history.phases.len(), 2);
        assert_eq!(history.phases[0].terms["caption loss"], 0.75);
        assert_eq!(history.spans(), [(0.0, 0.75, "caption"), (0.75, 1.0, "class")]);
        assert!(history.seconds.is_none());

        let again = r#"
{"event":"phase-started","phase":2,"name":"class","round":1,"steps":2,"samples":10}
{"event":"step","phase":2,"step":1,"samples":5,"terms":{"class loss":3.0}}
{"event":"evaluated","phase":2,"name":"class","epochs":1.0,"scores":[]}
{"event":"finished","interrupted":false,"seconds":2.5}"#;
        let history = History::parse(&format!("{LOG}\n{again}"));
        let phases: Vec<usize> = history.phases.iter().map(|phase| phase.number).collect();
        assert_eq!(phases, [1, 2]);
        assert_eq!(history.phases[1].terms["class loss"], 3.0);
        assert_eq!(history.evaluations.len(), 3);
        assert_eq!(history.seconds, Some(2.5));
    }
}

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::schedule::{Length, Phase, Preserve, Recorded, Schedule, Stream, Supervise};
use crate::task::Preservation;
use crate::{Result, TrainError};

/// The named ways of training on a class dataset and a caption dataset: the rows of the paper's Tables 4 and 5, and the
/// controls and present-day variants beside them. Each is a [`Schedule`] and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Method {
    /// Class only.
    ClassOnly,
    /// Caption only.
    CaptionOnly,
    /// Captions, then classes; nothing preserved.
    FinetuneCaptionClass,
    /// Classes, then captions; nothing preserved.
    FinetuneClassCaption,
    /// Captions, then classes with the caption responses kept since the switch.
    LwfCaptionClass,
    /// Classes, then captions with the class responses kept since the switch.
    LwfClassCaption,
    /// Naive alternation (eq. 5).
    Dml,
    /// Naive alternation with the weights of the method: what λ does without preservation.
    DmlMatched,
    /// The paper's method (eq. 10).
    DmlLwf,
    /// The method with the L1 distance for the class responses.
    DmlLwfL1,
    /// The method with the L2 distance for the class responses.
    DmlLwfL2,
    /// The method at temperature 1.
    DmlLwfT1,
    /// The method at temperature 3.
    DmlLwfT3,
    /// Alternation after every step, nothing preserved.
    Steps,
    /// Every step takes a batch of each dataset; nothing preserved.
    Mixed,
    /// The same, each task preserved on the other's data as the network was at the block's start.
    MixedLwf,
    /// Each task alone first; then both from the start in mixed batches, each preserved on the other's data as its
    /// specialist answers.
    Specialists,
}

const NAMES: [(Method, &str, &str); 17] = [
    (Method::ClassOnly, "class-only", "classes alone"),
    (Method::CaptionOnly, "caption-only", "captions alone"),
    (Method::FinetuneCaptionClass, "finetune-caption-class", "captions, then classes; nothing preserved"),
    (Method::FinetuneClassCaption, "finetune-class-caption", "classes, then captions; nothing preserved"),
    (
        Method::LwfCaptionClass,
        "lwf-caption-class",
        "captions, then classes, caption responses kept since the switch",
    ),
    (
        Method::LwfClassCaption,
        "lwf-class-caption",
        "classes, then captions, class responses kept since the switch",
    ),
    (Method::Dml, "dml", "naive alternation (eq. 5)"),
    (Method::DmlMatched, "dml-matched", "naive alternation with the method's weights"),
    (Method::DmlLwf, "dml-lwf", "the paper's method (eq. 10), T = 2"),
    (Method::DmlLwfL1, "dml-lwf-l1", "the method with L1 in place of distillation"),
    (Method::DmlLwfL2, "dml-lwf-l2", "the method with L2 in place of distillation"),
    (Method::DmlLwfT1, "dml-lwf-t1", "the method at T = 1"),
    (Method::DmlLwfT3, "dml-lwf-t3", "the method at T = 3"),
    (Method::Steps, "steps", "alternation after every step; nothing preserved"),
    (Method::Mixed, "mixed", "a batch of each dataset in every step; nothing preserved"),
    (Method::MixedLwf, "mixed-lwf", "mixed, each task preserved on the other's data since the block's start"),
    (
        Method::Specialists,
        "specialists",
        "each task alone; then mixed from the start, taught by both specialists",
    ),
];

/// What a named method needs to know to become a schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Dataset labelled with classes.
    pub class_dataset: String,
    /// Its task.
    pub class_task: String,
    /// Dataset labelled with captions.
    pub caption_dataset: String,
    /// Its task.
    pub caption_task: String,
    /// Epochs on each dataset.
    pub epochs: usize,
    /// Epochs of one phase where phases alternate; divides `epochs`.
    pub block: usize,
    /// Steps of an epoch on the larger dataset, for alternation after every step.
    pub steps_per_epoch: usize,
    /// λ of eq. 8, on class data.
    pub lambda_class: f64,
    /// λ of eq. 9, on caption data.
    pub lambda_caption: f64,
    /// Scale of the class loss and of the distillation of classes.
    pub class_scale: f64,
    /// Scale of the caption loss and of the preservation of captions.
    pub caption_scale: f64,
    /// Whether the head of a preserved task is held still, so that preservation moves the root only.
    pub freeze_preserved_head: bool,
    /// Whether phases that alternate begin with the class dataset.
    pub class_first: bool,
    /// Epochs of naive alternation before the method preserves anything; a multiple of `block`.
    pub preserve_after: usize,
    /// Further epochs in which the new task's head alone is trained, before a fine-tuned or LwF second half.
    pub warm_up: usize,
    /// Whether the moving average of the parameters answers for preserved tasks, in place of the network at the switch. What
    /// the specialists of [`Method::Specialists`] answer stays theirs.
    pub mean_teacher: bool,
    /// Whether the losses' weights are learnt (see [`Weighting`](crate::Weighting)): those that are not 0 begin at 1.
    pub learnt_weights: bool,
}

impl Method {
    /// All methods with their names and a line on each.
    pub fn all() -> impl Iterator<Item = (Self, &'static str, &'static str)> {
        NAMES.into_iter()
    }

    /// The name, as options and files spell it.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(method, ..)| *method == self).map_or("", |(_, name, _)| name)
    }

    /// How the method preserves classes, given how they are preserved where it does not say; a prescribed temperature
    /// leaves the form, softmax or multi-label, as it is.
    pub fn preservation(self, configured: Preservation) -> Preservation {
        let at = |temperature| match configured {
            Preservation::DistillMultiLabel { .. } => Preservation::DistillMultiLabel { temperature },
            _ => Preservation::Distill { temperature },
        };
        match self {
            Self::DmlLwfL1 => Preservation::L1,
            Self::DmlLwfL2 => Preservation::L2,
            Self::DmlLwfT1 => at(1.0),
            Self::DmlLwfT3 => at(3.0),
            _ => configured,
        }
    }

    /// Whether the method trains the class task and the caption task.
    pub fn trains(self) -> (bool, bool) {
        (self != Self::CaptionOnly, self != Self::ClassOnly)
    }

    /// The method as a schedule.
    ///
    /// # Errors
    /// If a λ is outside [0, 1], a scale is negative, or the block does not divide the epochs or those before preservation.
    pub fn schedule(self, pair: &Pair) -> Result<Schedule> {
        dml_losses::Lambda::new(pair.lambda_class)
            .and_then(|_| dml_losses::Lambda::new(pair.lambda_caption))
            .map_err(|e| {
                TrainError::invalid(format!(
                    "lambda_class {}, lambda_caption {}: {e}",
                    pair.lambda_class, pair.lambda_caption
                ))
            })?;
        if pair.epochs == 0 || pair.block == 0 || !pair.epochs.is_multiple_of(pair.block) {
            return Err(TrainError::invalid(format!(
                "epochs ({}) must be a positive multiple of block ({})",
                pair.epochs, pair.block
            )));
        }
        if pair.preserve_after > pair.epochs || !pair.preserve_after.is_multiple_of(pair.block) {
            return Err(TrainError::invalid(format!(
                "preserve_after ({}) must be a multiple of block ({}), and at most the epochs ({})",
                pair.preserve_after, pair.block, pair.epochs
            )));
        }
        let all = Length::Epochs(pair.epochs);
        let block = Length::Epochs(pair.block);
        let rounds = pair.epochs / pair.block;
        let once = |prologue| Schedule { prologue, repeat: vec![], rounds: 0 };
        let alternate = |weights, recorded: Option<Recorded>| {
            let round = |recorded| {
                let mut round = vec![
                    pair.caption_phase(block, weights, recorded),
                    pair.class_phase(block, weights, recorded),
                ];
                if pair.class_first {
                    round.reverse();
                }
                round
            };
            let naive = if recorded.is_some() { pair.preserve_after / pair.block } else { 0 };
            let prologue = (0..naive).flat_map(|_| round(None)).collect();
            Schedule { prologue, repeat: round(recorded), rounds: rounds - naive }
        };
        let mixed = |length, weights, recorded| {
            let mut phase = pair.caption_phase(length, weights, recorded);
            phase.streams.extend(pair.class_phase(length, weights, recorded).streams);
            phase.name = "mixed".into();
            phase
        };
        let mut schedule = match self {
            Self::ClassOnly => Schedule {
                prologue: vec![],
                repeat: vec![pair.class_phase(block, Weights::Full, None)],
                rounds,
            },
            Self::CaptionOnly => Schedule {
                prologue: vec![],
                repeat: vec![pair.caption_phase(block, Weights::Full, None)],
                rounds,
            },
            Self::FinetuneCaptionClass => once(pair.sequence(all, false, None)),
            Self::FinetuneClassCaption => once(pair.sequence(all, true, None)),
            Self::LwfCaptionClass => once(pair.sequence(all, false, Some(Recorded::Kept))),
            Self::LwfClassCaption => once(pair.sequence(all, true, Some(Recorded::Kept))),
            Self::Dml => alternate(Weights::Full, None),
            Self::DmlMatched => alternate(Weights::Lambda, None),
            Self::DmlLwf | Self::DmlLwfL1 | Self::DmlLwfL2 | Self::DmlLwfT1 | Self::DmlLwfT3 => {
                alternate(Weights::Lambda, Some(Recorded::AtStart))
            }
            Self::Steps => Schedule {
                prologue: vec![],
                repeat: vec![
                    pair.caption_phase(Length::Steps(1), Weights::Full, None),
                    pair.class_phase(Length::Steps(1), Weights::Full, None),
                ],
                rounds: pair.epochs * pair.steps_per_epoch,
            },
            Self::Mixed => {
                Schedule { prologue: vec![], repeat: vec![mixed(block, Weights::Full, None)], rounds }
            }
            Self::MixedLwf => {
                let repeat = vec![mixed(block, Weights::Lambda, Some(Recorded::AtStart))];
                Schedule { prologue: vec![], repeat, rounds }
            }
            Self::Specialists => {
                let captions = pair.caption_phase(all, Weights::Full, None);
                // Its start records what the captions' specialist answers; the class specialist learns nothing of it.
                let mut classes = pair.class_phase(all, Weights::Full, Some(Recorded::Kept));
                classes
                    .streams
                    .iter_mut()
                    .flat_map(|stream| &mut stream.preserve)
                    .for_each(|p| p.weight = 0.0);
                classes.freeze = vec![format!("head.{}", pair.caption_task)];
                let both = mixed(all, Weights::Lambda, Some(Recorded::Kept));
                let restart = |phase| Phase { restart: true, ..phase };
                once(vec![captions, restart(classes), restart(both)])
            }
        };
        for stream in schedule.prologue.iter_mut().chain(&mut schedule.repeat).flat_map(|p| &mut p.streams) {
            if pair.mean_teacher && self != Self::Specialists {
                stream.preserve.iter_mut().for_each(|p| p.recorded = Recorded::MeanTeacher);
            }
            if pair.learnt_weights {
                let weights = stream.preserve.iter_mut().map(|p| &mut p.weight);
                weights.chain([&mut stream.supervise.weight]).filter(|w| **w > 0.0).for_each(|w| *w = 1.0);
            }
        }
        Ok(schedule)
    }
}

/// Whether a supervised loss has weight 1 or the λ of its equation.
#[derive(Clone, Copy)]
enum Weights {
    Full,
    Lambda,
}

impl Pair {
    fn class_phase(&self, length: Length, weights: Weights, recorded: Option<Recorded>) -> Phase {
        let (own, other) = match weights {
            Weights::Full => (1.0, 1.0),
            Weights::Lambda => (self.lambda_class, 1.0 - self.lambda_class),
        };
        self.phase(
            (&self.class_dataset, &self.class_task, own * self.class_scale),
            (&self.caption_task, other * self.caption_scale),
            length,
            recorded,
        )
    }

    fn caption_phase(&self, length: Length, weights: Weights, recorded: Option<Recorded>) -> Phase {
        let (own, other) = match weights {
            Weights::Full => (1.0, 1.0),
            Weights::Lambda => (1.0 - self.lambda_caption, self.lambda_caption),
        };
        self.phase(
            (&self.caption_dataset, &self.caption_task, own * self.caption_scale),
            (&self.class_task, other * self.class_scale),
            length,
            recorded,
        )
    }

    fn phase(
        &self,
        (dataset, task, weight): (&str, &str, f64),
        (other, other_weight): (&str, f64),
        length: Length,
        recorded: Option<Recorded>,
    ) -> Phase {
        let preserve: Vec<Preserve> = recorded
            .map(|recorded| Preserve { task: other.into(), weight: other_weight, recorded })
            .into_iter()
            .collect();
        let freeze = match recorded {
            Some(_) if self.freeze_preserved_head => vec![format!("head.{other}")],
            _ => vec![],
        };
        let supervise = Supervise { task: task.into(), weight };
        let stream = Stream { dataset: dataset.into(), supervise, preserve };
        Phase { name: task.into(), streams: vec![stream], length, freeze, restart: false }
    }

    /// One task, then the other, which may be warmed up first and may preserve the first.
    fn sequence(&self, length: Length, class_first: bool, recorded: Option<Recorded>) -> Vec<Phase> {
        let weights = if recorded.is_some() { Weights::Lambda } else { Weights::Full };
        let (first, second) = if class_first {
            (self.class_phase(length, Weights::Full, None), self.caption_phase(length, weights, recorded))
        } else {
            (self.caption_phase(length, Weights::Full, None), self.class_phase(length, weights, recorded))
        };
        let mut phases = vec![first];
        if self.warm_up > 0 {
            let freeze = vec!["root".to_string(), format!("head.{}", phases[0].name)];
            let name = format!("{} warm-up", second.name);
            phases.push(Phase { name, length: Length::Epochs(self.warm_up), freeze, ..second.clone() });
        }
        phases.push(second);
        phases
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        NAMES.iter().find(|(_, name, _)| *name == text).map(|(method, ..)| *method).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(_, name, _)| *name).collect();
            format!("unknown method {text:?}; there are {}", names.join(", "))
        })
    }
}

impl TryFrom<String> for Method {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<Method> for String {
    fn from(method: Method) -> Self {
        method.name().into()
    }
}

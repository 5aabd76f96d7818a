use std::collections::BTreeMap;
use std::sync::Arc;

use dml_data::Dataset;
use dml_data::sample::{Sample, SampleConfig, SampleSet};
use dml_teacher::{Lexical, SentenceEncoder};

use crate::Result;
use crate::evaluate::EvalSet;
use crate::event::Event;
use crate::experiment::{CAPTION, CLASS, Place, Source};
use crate::pretrain::pretrained_root;
use crate::targets::Targets;
use crate::trainer::TrainSet;

/// What the root is pretrained on.
const MOTION: &str = "motion";

/// The built-in sample, with the root pretrained on its third set.
pub(crate) fn source(place: Place, sample: &SampleConfig, sink: &mut dyn FnMut(&Event)) -> Result<Source> {
    sink(&Event::Preparing { what: "sample clips".into(), done: 0, of: 1 });
    let clips = Sample::generate(sample)?;
    let teacher = Arc::new(Lexical::new(128)?);
    let targets = |set: &Arc<SampleSet>| {
        Targets::new(set.labels(), teacher.dim(), &mut |sentences| {
            Ok(teacher.encode(sentences)?.flatten_all()?.to_vec1::<f32>()?)
        })
    };
    let train = |set: &Arc<SampleSet>| -> Result<TrainSet> {
        Ok(TrainSet { dataset: set.clone(), targets: targets(set)? })
    };
    let judged = |set: &Arc<SampleSet>, own: &str, other: &Arc<SampleSet>, hidden: &str| -> Result<EvalSet> {
        let judged = vec![
            (own.to_string(), own.to_string(), targets(set)?),
            (format!("{hidden} of {own} data"), hidden.to_string(), targets(other)?),
        ];
        Ok(EvalSet { dataset: set.clone(), judged })
    };
    let root = pretrained_root(place, MOTION, &train(&clips.pretrain)?, sink)?;
    Ok(Source {
        sets: BTreeMap::from([
            (CLASS.to_string(), train(&clips.actions_train)?),
            (CAPTION.to_string(), train(&clips.captions_train)?),
        ]),
        evals: vec![
            judged(&clips.actions_test, CLASS, &clips.actions_test_captions, CAPTION)?,
            judged(&clips.captions_test, CAPTION, &clips.captions_test_actions, CLASS)?,
        ],
        root,
        teacher,
    })
}

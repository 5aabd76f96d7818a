//! One network on three sets that share no image and no label: classes of VOC's photographs, captions of Flickr8k's, and
//! actions of single frames of UCF101. Frozen features, a fresh fc6 and fc7, three heads.
//!
//! `cargo run -p dml-train --example three_tasks -- VOCdevkit Flickr8k data/ucf101 3`: the folders, the last one as prepare-data
//! makes it, and the number of seeds. Prints mean ± sample standard deviation over the seeds.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use dml_data::{ClipPipeline, Dataset, Features, Flickr8k, Frames, ImagePipeline, Voc, open_actions};
use dml_model::{MultiTaskNet, NetConfig, Params, RootConfig};
use dml_teacher::load_encoder;
use dml_train::{
    AdamSharing, CheckpointConfig, EvalSet, LearningRates, Length, Loss, MonitorConfig, Phase, Preservation,
    Preserve, Problem, Recorded, Recording, Result, Schedule, Settings, Stream, Supervise, Targets, Task,
    TrainSet, Trainer, mean_and_sd, photograph_features,
};

const EPOCHS: usize = 20;
const TASKS: [&str; 3] = ["class", "caption", "action"];
/// The task, what its score's name begins with, and the head of its column.
const SHOWN: [(&str, &str, &str); 5] = [
    ("class", "class | mAP | all points", "class mAP"),
    ("caption", "caption | item→text R@1 | pools", "caption R@1, pools of 64"),
    ("caption", "caption | item→text R@10 | whole", "caption R@10, whole set"),
    ("action", "action | hit@1", "action hit@1"),
    ("action", "action | accuracy", "action, by video"),
];

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [voc, flickr8k, ucf101, seeds] = arguments.as_slice() else {
        return Err("name the folders of VOC, Flickr8k and UCF101, and the number of seeds".into());
    };
    let (sets, evals) = data(voc.as_ref(), flickr8k.as_ref(), ucf101.as_ref())?;
    let task = |name: &str, loss, preserve| {
        (name.to_string(), Task { head: sets[name].targets.head(), loss, preserve })
    };
    let tasks = BTreeMap::from([
        task("class", Loss::Bce, Preservation::DistillMultiLabel { temperature: 2.0 }),
        task("caption", Loss::InfoNce { tau: 0.07 }, Preservation::Cosine),
        task("action", Loss::Softmax, Preservation::Distill { temperature: 2.0 }),
    ]);
    let net = NetConfig {
        root: RootConfig::Features { input: 1280, hidden: 1024, dropout: 0.5 },
        heads: tasks.iter().map(|(name, task)| (name.clone(), task.head)).collect(),
    };
    let rounds = |repeat| Schedule { prologue: vec![], repeat, rounds: EPOCHS };
    let mut methods: Vec<(String, Vec<&str>, Schedule)> = TASKS
        .iter()
        .map(|&task| (format!("{task} alone"), vec![task], rounds(vec![phase(&[task], false)])))
        .collect();
    let turns = |preserve| rounds(TASKS.iter().map(|&task| phase(&[task], preserve)).collect());
    methods.push(("alternation".into(), TASKS.into(), turns(false)));
    methods.push(("alternation, others preserved".into(), TASKS.into(), turns(true)));
    methods.push(("mixed".into(), TASKS.into(), rounds(vec![phase(&TASKS, false)])));

    println!("| method | {} |", SHOWN.map(|(.., head)| head).join(" | "));
    println!("|---|{}", "---|".repeat(SHOWN.len()));
    for (name, trained, schedule) in methods {
        let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for seed in 0..seeds.parse()? {
            let params = Params::new(seed, &Device::Cpu);
            MultiTaskNet::new(&net, params.builder())?;
            let problem = Problem { net: &net, params: &params, tasks: &tasks, sets: &sets, evals: &evals };
            let outcome = Trainer::new(problem, settings(seed), &mut |_| {})?.run(&schedule)?;
            for (_, key, head) in SHOWN {
                let score = outcome.scores.iter().find(|score| score.key().starts_with(key));
                values.entry(head).or_default().extend(score.map(|score| score.value));
            }
        }
        let cells = SHOWN.map(|(task, _, head)| {
            let (mean, sd) = mean_and_sd(&values[head]);
            let sd = sd.map(|sd| format!(" ± {sd:.1}")).unwrap_or_default();
            if trained.contains(&task) { format!("{mean:.1}{sd}") } else { "–".into() }
        });
        println!("| {name} | {} |", cells.join(" | "));
    }
    Ok(())
}

/// An epoch on the sets of these tasks, a batch of each in every step; if asked, all other tasks are held to what the network
/// answered at its start.
fn phase(tasks: &[&str], preserve: bool) -> Phase {
    let stream = |task: &&str| {
        let others = TASKS.iter().filter(|other| preserve && *other != task);
        let preserved =
            |other: &&str| Preserve { task: other.to_string(), weight: 0.15, recorded: Recorded::AtStart };
        Stream {
            dataset: task.to_string(),
            supervise: Supervise { task: task.to_string(), weight: if preserve { 0.7 } else { 1.0 } },
            preserve: others.map(preserved).collect(),
        }
    };
    Phase {
        name: tasks.join("+"),
        streams: tasks.iter().map(stream).collect(),
        length: Length::Epochs(1),
        freeze: vec![],
        restart: false,
    }
}

fn settings(seed: u64) -> Settings {
    Settings {
        seed,
        batch: 64,
        learning_rates: LearningRates { root: 5e-4, heads: 5e-4 },
        adam: AdamSharing::PerTask,
        recording: Recording::FrozenCopy,
        evaluate_throughout: false,
        monitor: MonitorConfig::default(),
        folder: None,
        checkpoints: CheckpointConfig::default(),
        resume: false,
        stop: Arc::default(),
    }
}

/// The three training sets and the three to evaluate on, as frozen features, with the captions embedded.
fn data(voc: &Path, flickr8k: &Path, ucf101: &Path) -> Result<(BTreeMap<String, TrainSet>, Vec<EvalSet>)> {
    let teacher = load_encoder(None, &Device::Cpu)?;
    let prepare = |set: Arc<dyn Dataset>| -> Result<TrainSet> {
        let rows = photograph_features(&set, None, &Device::Cpu, &Arc::default(), &mut |_| {})?;
        let dataset = Arc::new(Features::new(set, rows, "pooled features of EfficientNet-Lite0")?);
        let targets = Targets::new(dataset.labels(), teacher.dim(), &mut |sentences| {
            Ok(teacher.encode(sentences)?.flatten_all()?.to_vec1()?)
        })?;
        Ok(TrainSet { dataset, targets })
    };
    let image = ImagePipeline::default;
    let frames = |part: &str| -> Result<Arc<dyn Dataset>> {
        let clips = open_actions(ucf101, 1, part, &ClipPipeline::default())?;
        Ok(Arc::new(Frames::new(clips, image())?))
    };
    let mut sets = BTreeMap::new();
    let mut evals = Vec::new();
    let parts: [(&str, Arc<dyn Dataset>, Arc<dyn Dataset>); 3] = [
        (
            "class",
            Arc::new(Voc::open(voc, None, "train", image())?),
            Arc::new(Voc::open(voc, None, "val", image())?),
        ),
        (
            "caption",
            Arc::new(Flickr8k::open(flickr8k, "train", image())?),
            Arc::new(Flickr8k::open(flickr8k, "dev", image())?),
        ),
        ("action", frames("train")?, frames("test")?),
    ];
    for (task, train, test) in parts {
        sets.insert(task.to_string(), prepare(train)?);
        let TrainSet { dataset, targets } = prepare(test)?;
        evals.push(EvalSet { dataset, judged: vec![(task.into(), task.into(), targets)] });
    }
    Ok((sets, evals))
}

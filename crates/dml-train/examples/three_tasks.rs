//! Three tasks from three sets of single images, each labelled for one of them: objects (PASCAL VOC), captions (Flickr8k),
//! actions (the middle frames of UCF101). One network in mixed batches beside three specialists, on frozen EfficientNet-Lite0
//! features; prints mean and standard deviation over seeds.
//!
//! `cargo run --release -p dml-train --example three_tasks -- VOCdevkit Flickr8k data/ucf101 [SEEDS]`
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use dml_data::{
    ClipPipeline, Dataset, Features, Flickr8k, Frames, ImagePipeline, PhotoPipeline, Voc, open_actions,
};
use dml_model::{MultiTaskNet, NetConfig, Params, RootConfig};
use dml_teacher::{SentenceEncoder, SentenceTransformer, find_sentence_transformer};
use dml_train::{
    EvalSet, Length, Loss, Phase, Preservation, Problem, Schedule, Settings, Stream, Supervise, Targets,
    Task, TrainSet, Trainer, mean_and_sd, photograph_features,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const EPOCHS: usize = 20;
const OBJECTS: &str = "objects";
const CAPTIONS: &str = "captions";
const ACTIONS: &str = "actions";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [voc, flickr8k, ucf101, rest @ ..] = args.as_slice() else {
        return Err("usage: three_tasks VOCDEVKIT FLICKR8K UCF101 [SEEDS]".into());
    };
    let seeds: u64 = rest.first().map_or(Ok(5), |seeds| seeds.parse())?;
    let all = Tasks::load(Path::new(voc), Path::new(flickr8k), Path::new(ucf101))?;
    let mut columns: BTreeMap<String, BTreeMap<&str, Vec<f64>>> = BTreeMap::new();
    let together = [OBJECTS, CAPTIONS, ACTIONS];
    for seed in 0..seeds {
        for (name, streams) in [
            ("one network", &together[..]),
            ("specialist", &together[..1]),
            ("specialist", &together[1..2]),
            ("specialist", &together[2..]),
        ] {
            for (score, value) in all.train(streams, seed)? {
                columns.entry(score).or_default().entry(name).or_default().push(value);
            }
        }
    }
    println!("{:<64} {:>16} {:>16}", "", "one network", "specialist");
    for (score, rows) in columns {
        let cell = |name| {
            let (mean, sd) = mean_and_sd(rows.get(name).map_or(&[], Vec::as_slice));
            format!("{mean:.1} ± {:.1}", sd.unwrap_or(f64::NAN))
        };
        println!("{score:<64} {:>16} {:>16}", cell("one network"), cell("specialist"));
    }
    Ok(())
}

struct Tasks {
    net: NetConfig,
    tasks: BTreeMap<String, Task>,
    sets: BTreeMap<String, TrainSet>,
    evals: Vec<EvalSet>,
}

impl Tasks {
    fn load(voc: &Path, flickr8k: &Path, ucf101: &Path) -> Result<Self> {
        let teacher = SentenceTransformer::from_dir(&find_sentence_transformer(None)?, &Device::Cpu)?;
        let image: PhotoPipeline = ImagePipeline::default().into();
        let frames = |part: &str| -> Result<Arc<dyn Dataset>> {
            let clips = open_actions(ucf101, 1, part, &ClipPipeline::default())?;
            Ok(Arc::new(Frames::new(clips, ImagePipeline::default())?))
        };
        let mut all = Self {
            net: NetConfig {
                root: RootConfig::Features { input: 1280, hidden: 1024, dropout: 0.5 },
                heads: BTreeMap::new(),
            },
            tasks: BTreeMap::new(),
            sets: BTreeMap::new(),
            evals: Vec::new(),
        };
        let objects: [Arc<dyn Dataset>; 2] = [
            Arc::new(Voc::open(voc, None, "train", image.clone())?),
            Arc::new(Voc::open(voc, None, "val", image.clone())?),
        ];
        let multi_label = Preservation::DistillMultiLabel { temperature: 2.0 };
        all.add(OBJECTS, objects, (Loss::Bce, multi_label), &teacher)?;
        let captions: [Arc<dyn Dataset>; 2] = [
            Arc::new(Flickr8k::open(flickr8k, "train", image.clone())?),
            Arc::new(Flickr8k::open(flickr8k, "dev", image)?),
        ];
        all.add(CAPTIONS, captions, (Loss::InfoNce { tau: 0.07 }, Preservation::Cosine), &teacher)?;
        let distill = Preservation::Distill { temperature: 2.0 };
        all.add(ACTIONS, [frames("train")?, frames("test")?], (Loss::Softmax, distill), &teacher)?;
        Ok(all)
    }

    /// Adds a task with its sets to train and to evaluate on.
    fn add(
        &mut self,
        name: &str,
        sets: [Arc<dyn Dataset>; 2],
        (loss, preserve): (Loss, Preservation),
        teacher: &dyn SentenceEncoder,
    ) -> Result<()> {
        let mut made = Vec::new();
        for set in sets {
            let targets = Targets::new(set.labels(), teacher.dim(), &mut |sentences| {
                Ok(teacher.encode(sentences)?.flatten_all()?.to_vec1()?)
            })?;
            let rows = photograph_features(&set, None, &Device::Cpu, &Arc::default(), &mut |_| ())?;
            let dataset: Arc<dyn Dataset> = Arc::new(Features::new(set, rows, "EfficientNet-Lite0")?);
            made.push(TrainSet { dataset, targets });
        }
        let (Some(test), Some(train)) = (made.pop(), made.pop()) else { return Ok(()) };
        let head = train.targets.head();
        self.net.heads.insert(name.into(), head);
        self.tasks.insert(name.into(), Task { head, loss, preserve });
        self.sets.insert(name.into(), train);
        let judged = vec![(name.to_string(), name.to_string(), test.targets)];
        self.evals.push(EvalSet { dataset: test.dataset, judged });
        Ok(())
    }

    /// The scores of the tasks after training on their sets, a batch of each in every step.
    fn train(&self, tasks: &[&str], seed: u64) -> Result<Vec<(String, f64)>> {
        let stream = |task: &&str| Stream {
            dataset: task.to_string(),
            supervise: Supervise { task: task.to_string(), weight: 1.0 },
            preserve: Vec::new(),
        };
        let epoch = Phase {
            name: "mixed".into(),
            streams: tasks.iter().map(stream).collect(),
            length: Length::Epochs(1),
            freeze: Vec::new(),
            restart: false,
        };
        let schedule = Schedule { prologue: Vec::new(), repeat: vec![epoch], rounds: EPOCHS };
        let settings = Settings { seed, ..Settings::default() };
        let params = Params::new(seed, &Device::Cpu);
        MultiTaskNet::new(&self.net, params.builder())?;
        let problem = Problem {
            net: &self.net,
            params: &params,
            tasks: &self.tasks,
            sets: &self.sets,
            evals: &self.evals,
        };
        let outcome = Trainer::new(problem, settings, &mut |_| ())?.run(&schedule)?;
        let trained = outcome.scores.into_iter().filter(|score| tasks.contains(&score.task.as_str()));
        Ok(trained.map(|score| (score.key(), score.value)).collect())
    }
}

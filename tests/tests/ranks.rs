//! Several ranks train as one process does: here they are threads, and in dml-cli's tests processes under mpirun.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use dml_collective::{Alone, Collective, Threads, Wire};
use dml_model::{HeadConfig, MultiTaskNet, Params};
use dml_tests::{Bench, LEN, Toy, bits, pair, settings};
use dml_train::{
    CheckpointConfig, Ema, Event, Loss, Method, MonitorConfig, Outcome, Pair, Preservation, Problem,
    Recorded, Recording, Result, Schedule, Settings, Targets, Task, Trainer, Weighting,
};

/// What a rank ends with: its outcome, its parameters and what it told.
type Ended = (Outcome, Vec<(String, Vec<u32>)>, Vec<Event>);

fn two() -> Bench {
    Bench::new(vec![Toy::new("a", 3), Toy::new("b", 4)]).unwrap()
}

/// The same with captions in place of the second set's classes, told apart within the batch.
fn contrastive() -> Bench {
    let mut bench = two();
    let dim = 4;
    let vector = |index: usize| (0..dim).map(move |i| if index % dim == i { 0.8 } else { 0.6 / 3f32.sqrt() });
    let vectors = (0..LEN).flat_map(vector).collect();
    let targets = Targets::Captions { vectors, dim, rows: (0..LEN).map(|row| row..row + 1).collect() };
    let head = HeadConfig::Embedding { dim };
    let task = Task { head, loss: Loss::InfoNce { tau: 0.1 }, preserve: Preservation::Cosine };
    bench.net.heads.insert("b".into(), head);
    bench.tasks.insert("b".into(), task);
    bench.evals[1].judged[0].2 = targets.clone();
    bench.sets.get_mut("b").unwrap().targets = targets;
    bench
}

fn schedule(method: Method) -> Schedule {
    let pair = Pair { epochs: 5, block: 1, ..pair() };
    method.schedule(&pair).unwrap()
}

/// With averages of the parameters evaluated, and weights that are learnt.
fn learning(settings: Settings) -> Settings {
    let ema = Ema { evaluate: true, ..Ema::default() };
    Settings { ema, weighting: Weighting::Uncertainty, ..settings }
}

fn train(
    bench: &Bench,
    schedule: &Schedule,
    settings: Settings,
    ranks: Arc<dyn Collective>,
) -> Result<Ended> {
    let params = Params::new(3, &Device::Cpu);
    MultiTaskNet::new(&bench.net, params.builder())?;
    let problem = Problem {
        net: &bench.net,
        params: &params,
        tasks: &bench.tasks,
        sets: &bench.sets,
        evals: &bench.evals,
    };
    let mut events = Vec::new();
    let mut sink = |event: &Event| events.push(event.clone());
    let outcome = Trainer::new(problem, settings, &mut sink)?.with_ranks(ranks).run(schedule)?;
    Ok((outcome, bits(&params)?, events))
}

/// Trains on so many ranks; `settings` are made for each.
fn on_ranks(
    bench: &Bench,
    schedule: &Schedule,
    size: usize,
    settings: &(dyn Fn(usize) -> Settings + Sync),
) -> Vec<Result<Ended>> {
    std::thread::scope(|scope| {
        let start = |ranks: Threads| {
            scope.spawn(move || train(bench, schedule, settings(ranks.rank()), Arc::new(ranks)))
        };
        let ranks: Vec<_> = Threads::new(size).into_iter().map(start).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// The largest distance between two sets of parameters.
fn distance(a: &[(String, Vec<u32>)], b: &[(String, Vec<u32>)]) -> f32 {
    let numbers = |all: &[(String, Vec<u32>)]| -> Vec<f32> {
        all.iter().flat_map(|(_, bits)| bits.iter().map(|&bits| f32::from_bits(bits))).collect()
    };
    numbers(a).iter().zip(numbers(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// What was told about losses, gradients and drift.
fn told(events: &[Event]) -> Vec<(String, f64)> {
    let mut all = Vec::new();
    for event in events {
        match event {
            Event::Step { terms, samples, weights, .. } => {
                all.extend(terms.clone().into_iter().chain(weights.clone()));
                all.push(("samples".into(), *samples as f64));
            }
            Event::GradientCosine { pairs, .. } => all.extend(pairs.clone()),
            Event::Drift { cosine, .. } => all.push(("drift".into(), *cosine)),
            Event::Recorded { samples, .. } => all.push(("recorded".into(), *samples as f64)),
            _ => {}
        }
    }
    all
}

fn check(bench: &Bench, method: Method, settings: &Settings) {
    let mut schedule = schedule(method);
    if settings.weighting == Weighting::Uncertainty {
        let streams = schedule.repeat.iter_mut().flat_map(|phase| &mut phase.streams);
        streams.flat_map(|s| &mut s.preserve).for_each(|p| p.recorded = Recorded::MeanTeacher);
    }
    let (outcome, alone, events) = train(bench, &schedule, settings.clone(), Arc::new(Alone)).unwrap();
    let expected = told(&events);
    assert!(events.iter().filter(|event| matches!(event, Event::Step { .. })).count() >= 20);
    for size in [2, 3] {
        let ranks = on_ranks(bench, &schedule, size, &|_| settings.clone());
        let ranks: Vec<Ended> = ranks.into_iter().map(Result::unwrap).collect();
        for (other, params, events) in &ranks {
            assert!(*params == ranks[0].1, "{method} on {size}: ranks differ");
            let moved = distance(params, &alone);
            assert!(moved < 2e-6, "{method} on {size}: {moved} from one process");
            for ((name, value), (expected_name, expected)) in told(events).iter().zip(&expected) {
                assert_eq!(name, expected_name);
                assert!(
                    (value - expected).abs() < 1e-4,
                    "{method} on {size}: {name} {value}, not {expected}"
                );
            }
            assert_eq!(told(events).len(), expected.len());
            let keys = |outcome: &Outcome| -> Vec<(String, usize)> {
                outcome.scores.iter().map(|score| (score.key(), score.n)).collect()
            };
            assert_eq!(keys(other), keys(&outcome));
            assert_eq!(other.scores, ranks[0].0.scores);
        }
    }
}

#[test]
fn several_ranks_train_as_one_process() {
    let bench = two();
    // 50 samples in batches of 16: the last has two, so that one of three ranks has none of them.
    for method in [Method::DmlLwf, Method::Mixed, Method::LwfCaptionClass] {
        let monitor = MonitorConfig { gradient_cosine_every: 3, ..MonitorConfig::default() };
        check(&bench, method, &Settings { monitor, evaluate_throughout: true, ..settings() });
    }
    check(&bench, Method::DmlLwf, &Settings { recording: Recording::Table, ..settings() });
    let learning = learning(settings());
    for (method, micro_batch) in [(Method::DmlLwf, 0), (Method::MixedLwf, 5)] {
        check(&bench, method, &Settings { micro_batch, ..learning.clone() });
    }
    // Of three ranks one takes its 6 samples of 16 in two parts, and the others their 5 in one.
    check(&bench, Method::Mixed, &Settings { micro_batch: 5, ..settings() });
}

#[test]
fn a_contrastive_loss_sees_the_samples_of_all_ranks() {
    check(&contrastive(), Method::DmlLwf, &settings());
    check(&contrastive(), Method::DmlLwf, &learning(settings()));
}

fn saving(folder: &Path, resume: bool) -> Settings {
    let checkpoints = CheckpointConfig { steps: 3, keep: 100, ..CheckpointConfig::default() };
    Settings { folder: Some(folder.into()), resume, checkpoints, ..settings() }
}

#[test]
fn a_run_goes_on_with_another_number_of_ranks() {
    let (bench, place) = (two(), tempfile::tempdir().unwrap());
    let schedule = schedule(Method::DmlLwf);
    let (_, expected, _) = train(&bench, &schedule, settings(), Arc::new(Alone)).unwrap();
    // Each time the checkpoints behind the tenth step are lost, as if the run had died there.
    for size in [3, 1, 2] {
        let resume = size != 3;
        let ranks = on_ranks(&bench, &schedule, size, &|_| saving(place.path(), resume));
        let (_, params, events) = ranks.into_iter().next().unwrap().unwrap();
        let resumed = events.iter().find_map(|event| match event {
            Event::Resumed { steps, .. } => Some(*steps),
            _ => None,
        });
        assert_eq!(resumed, resume.then_some(9));
        let moved = distance(&params, &expected);
        assert!(moved < 2e-6, "on {size}: {moved}");
        for entry in std::fs::read_dir(place.path().join("checkpoints")).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().as_ref() > "step-00000009" {
                std::fs::remove_dir_all(path).unwrap();
            }
        }
    }
}

#[test]
fn a_rank_that_computes_something_else_is_named() {
    let (bench, schedule) = (two(), schedule(Method::Dml));
    let check = |change: &(dyn Fn(&mut Settings) + Sync), expected: &str| {
        let settings = |rank| {
            let mut settings = settings();
            if rank == 1 {
                change(&mut settings);
            }
            settings
        };
        for ended in on_ranks(&bench, &schedule, 3, &settings) {
            let error = ended.err().unwrap().to_string();
            assert!(error.contains("rank 1") && error.contains(expected), "{error}");
        }
    };
    check(&|settings| settings.batch = 8, "batch: rank 0 has 16, rank 1 has 8");
    check(&|settings| settings.seed = 6, "seed");
    check(&|settings| settings.monitor.gradient_cosine_every = 5, "gradient_cosine_every");
    // The data of one rank are other data.
    let others = Bench::new(vec![Toy::new("a", 2), Toy::new("b", 4)]).unwrap();
    let ended = std::thread::scope(|scope| {
        let schedule = &schedule;
        let start = |(ranks, bench)| scope.spawn(move || train(bench, schedule, settings(), Arc::new(ranks)));
        let ranks = Threads::new(2).into_iter().zip([&bench, &others]);
        let ranks: Vec<_> = ranks.map(start).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect::<Vec<_>>()
    });
    for ended in ended {
        let error = ended.err().unwrap().to_string();
        assert!(error.contains("rank 1") && error.contains("dataset.a: rank 0 has toy a"), "{error}");
    }
}

#[test]
fn a_rank_whose_parameters_leave_those_of_the_others_is_named() {
    let (bench, schedule, place) = (two(), schedule(Method::Dml), tempfile::tempdir().unwrap());
    let ended = std::thread::scope(|scope| {
        let start = |ranks: Threads| {
            let (bench, schedule, place) = (&bench, &schedule, place.path());
            scope.spawn(move || {
                let params = Params::new(3, &Device::Cpu);
                MultiTaskNet::new(&bench.net, params.builder()).unwrap();
                let rank = ranks.rank();
                let Bench { net, tasks, sets, evals } = bench;
                let problem = Problem { net, params: &params, tasks, sets, evals };
                // After its fourth step a number in this rank's memory changes.
                let mut disturb = |event: &Event| {
                    if let (1, Event::Step { step: 4, .. }) = (rank, event) {
                        let (_, var) = &params.vars()[0];
                        var.set(&(var.as_tensor() + 1e-6).unwrap()).unwrap();
                    }
                };
                let trainer = Trainer::new(problem, saving(place, false), &mut disturb).unwrap();
                trainer.with_ranks(Arc::new(ranks)).run(schedule).err().unwrap().to_string()
            })
        };
        let ranks: Vec<_> = Threads::new(3).into_iter().map(start).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect::<Vec<_>>()
    });
    for error in ended {
        assert!(error.contains("rank 1") && error.contains("the parameters after step 6: "), "{error}");
    }
}

#[test]
fn gradients_in_bf16_are_the_same_on_all_ranks_and_near_those_in_f32() {
    let (bench, schedule) = (two(), schedule(Method::DmlLwf));
    let (_, expected, _) = train(&bench, &schedule, settings(), Arc::new(Alone)).unwrap();
    for size in [2, 3] {
        let rounded = |_| Settings { wire: Wire::Bf16, ..settings() };
        let ranks: Vec<Ended> =
            on_ranks(&bench, &schedule, size, &rounded).into_iter().map(Result::unwrap).collect();
        assert!(ranks.iter().all(|(_, params, _)| *params == ranks[0].1));
        let moved = distance(&ranks[0].1, &expected);
        assert!(moved > 1e-6 && moved < 0.05, "on {size}: {moved}");
    }
}

#[test]
fn all_stop_when_one_is_told_to_and_learn_of_one_that_is_gone() {
    let (bench, place) = (two(), tempfile::tempdir().unwrap());
    let schedule = schedule(Method::DmlLwf);
    let told = |rank| {
        let settings = saving(place.path(), false);
        settings.stop.store(rank == 1, std::sync::atomic::Ordering::Relaxed);
        settings
    };
    for ended in on_ranks(&bench, &schedule, 2, &told) {
        assert!(ended.unwrap().0.interrupted);
    }
    // One rank's sample reads as infinite: all say so; and one without data fails alone, which the other is told.
    let broken = Bench::new(vec![Toy::broken("a", 3, 7), Toy::new("b", 4)]).unwrap();
    for ended in on_ranks(&broken, &self::schedule(Method::Dml), 2, &|_| settings()) {
        let error = ended.err().unwrap().to_string();
        assert!(error.contains("the loss became") && error.contains("a-7"), "{error}");
    }
    let zero = |rank| Settings { batch: if rank == 0 { 16 } else { 0 }, ..settings() };
    let errors: Vec<String> = on_ranks(&bench, &schedule, 2, &zero)
        .into_iter()
        .map(|ended| ended.err().unwrap().to_string())
        .collect();
    assert!(errors[0].contains("rank 1 has stopped") && errors[1].contains("batch"), "{errors:?}");
}

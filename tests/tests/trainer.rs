//! The trainer on made-up datasets.
#![allow(clippy::unwrap_used)]

use candle_core::Device;
use dml_model::Params;
use dml_tests::{Bench, Toy, bits, pair, phase, settings, stream};
use dml_train::{
    AdamSharing, Ema, Event, Method, Pair, Phase, Recorded, Recording, Schedule, Settings, Stream, Supervise,
    TrainError,
};

fn two() -> Bench {
    Bench::new(vec![Toy::new("a", 3), Toy::new("b", 4)]).unwrap()
}

#[test]
fn every_named_method_learns_what_it_trains() {
    let bench = two();
    for (method, name, _) in Method::all() {
        let schedule = method.schedule(&Pair { epochs: 20, ..pair() }).unwrap();
        let (outcome, ..) = bench.run(&schedule, settings()).unwrap();
        let (class, caption) = method.trains();
        let sequential = name.starts_with("finetune");
        for (task, trained) in [("a", class), ("b", caption)] {
            let score = outcome.scores.iter().find(|score| score.eval == task).unwrap();
            let chance = if task == "a" { 34.0 } else { 26.0 };
            // A fine-tuned network may have forgotten its first task; all others must know both.
            if trained && !sequential {
                assert!(score.value > 2.0 * chance, "{name}: {score:?}");
            }
        }
    }
}

#[test]
fn recording_first_equals_a_frozen_copy_to_the_bit() {
    let bench = two();
    for method in [Method::DmlLwf, Method::LwfCaptionClass, Method::LwfClassCaption] {
        let schedule = method.schedule(&pair()).unwrap();
        let with = |recording| {
            let (_, params, events) = bench.run(&schedule, Settings { recording, ..settings() }).unwrap();
            let recorded: usize = events
                .iter()
                .map(|event| if let Event::Recorded { samples, .. } = event { *samples } else { 0 })
                .sum();
            (bits(&params).unwrap(), recorded)
        };
        let (frozen, none) = with(Recording::FrozenCopy);
        let (table, recorded) = with(Recording::Table);
        assert_eq!(frozen, table, "{method}");
        assert!(none == 0 && recorded >= 200, "{none} {recorded}");
    }
}

#[test]
fn an_average_that_keeps_nothing_is_the_network_itself() {
    let bench = two();
    let schedule = Method::DmlLwf.schedule(&pair()).unwrap();
    let with = |ema| {
        let (outcome, params, _) = bench.run(&schedule, Settings { ema, ..settings() }).unwrap();
        (outcome.scores, bits(&params).unwrap())
    };
    let plain = with(Ema::default());
    assert!(plain == with(Ema { decay: 0.0, evaluate: true }));
    // The average is what the run leaves, and does not change how it trains.
    let ema = Ema { decay: 0.99, evaluate: true };
    let (_, left, averaged) = bench.run(&schedule, Settings { ema, ..settings() }).unwrap();
    let (_, _, events) = bench.run(&schedule, settings()).unwrap();
    assert!(bits(&left).unwrap() != plain.1 && losses(&averaged) == losses(&events));
}

/// The terms of every step's loss.
fn losses(events: &[Event]) -> Vec<String> {
    let terms = events.iter().filter_map(|event| match event {
        Event::Step { terms, .. } => Some(format!("{terms:?}")),
        _ => None,
    });
    terms.collect()
}

#[test]
fn a_mean_teacher_preserves_what_alternation_forgets() {
    let bench = two();
    let score = |pair: Pair, method: Method| {
        let (outcome, params, _) = bench.run(&method.schedule(&pair).unwrap(), settings()).unwrap();
        let of = |task| outcome.scores.iter().find(|score| score.eval == task).unwrap().value;
        ([of("a"), of("b")], bits(&params).unwrap())
    };
    for method in [Method::DmlLwf, Method::MixedLwf] {
        let long = Pair { epochs: 20, ..pair() };
        let (recorded, bits) = score(long.clone(), method);
        let (taught, other) = score(Pair { mean_teacher: true, ..long }, method);
        assert_ne!(bits, other, "{method}");
        assert!(taught[0] > 68.0 && taught[1] > 52.0, "{method}: {taught:?}, recorded {recorded:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_does_not() {
    let bench = two();
    let schedule = Method::DmlLwf.schedule(&pair()).unwrap();
    let run = |seed| bits(&bench.run(&schedule, Settings { seed, ..settings() }).unwrap().1).unwrap();
    let first = run(5);
    assert_eq!(first, run(5));
    assert_ne!(first, run(6));
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(first, pool.install(|| run(5)), "{threads} threads");
    }
}

#[test]
fn three_tasks_each_preserving_the_two_others() {
    let bench = Bench::new(vec![Toy::new("a", 3), Toy::new("b", 4), Toy::new("c", 2)]).unwrap();
    let repeat = vec![
        phase("a", vec![stream("a", &["b", "c"], Recorded::AtStart)]),
        phase("b", vec![stream("b", &["a", "c"], Recorded::AtStart)]),
        phase("c", vec![stream("c", &["a", "b"], Recorded::Kept)]),
    ];
    let schedule = Schedule { prologue: vec![], repeat, rounds: 12 };
    let (outcome, _, events) = bench.run(&schedule, settings()).unwrap();
    assert_eq!(events.iter().filter(|event| matches!(event, Event::PhaseStarted { .. })).count(), 36);
    for score in &outcome.scores {
        assert!(score.value > 70.0, "{score:?}");
    }
}

#[test]
fn a_mixed_step_takes_a_batch_of_each_dataset() {
    let bench = two();
    let streams = vec![stream("a", &[], Recorded::AtStart), stream("b", &["a"], Recorded::AtStart)];
    let schedule = Schedule { prologue: vec![phase("mixed", streams)], repeat: vec![], rounds: 0 };
    let (.., events) = bench.run(&schedule, settings()).unwrap();
    let steps: Vec<_> = events
        .iter()
        .filter_map(
            |e| if let Event::Step { samples, terms, .. } = e { Some((*samples, terms)) } else { None },
        )
        .collect();
    assert_eq!(steps.iter().map(|(samples, _)| *samples).collect::<Vec<_>>(), [32, 32, 32, 4]);
    for (_, terms) in steps {
        assert_eq!(terms.keys().collect::<Vec<_>>(), ["a kept", "a loss", "b loss"]);
    }
}

#[test]
fn frozen_prefixes_stay_as_they_are() {
    let bench = two();
    let before = bits(&bench.run(&freeze(&["root", "head"]), settings()).unwrap().1).unwrap();
    for (prefix, moves) in [("root", "head.a"), ("head.a", "root")] {
        let after = bits(&bench.run(&freeze(&[prefix]), settings()).unwrap().1).unwrap();
        for ((name, old), (_, new)) in before.iter().zip(&after) {
            let held = name.starts_with(&format!("{prefix}.")) || name.starts_with("head.b.");
            assert_eq!(old == new, held, "freezing {prefix}, {name}");
            assert!(!(name.starts_with(moves) && old == new), "freezing {prefix}, {name} should move");
        }
    }
}

fn freeze(prefixes: &[&str]) -> Schedule {
    let mut phase = phase("a", vec![stream("a", &[], Recorded::AtStart)]);
    phase.freeze = prefixes.iter().map(|prefix| prefix.to_string()).collect();
    Schedule { prologue: vec![phase], repeat: vec![], rounds: 0 }
}

#[test]
fn a_restart_begins_with_the_parameters_of_the_run() {
    let bench = two();
    let learn = phase("a", vec![stream("a", &[], Recorded::AtStart)]);
    let all = vec!["root".to_string(), "head".to_string()];
    let still = Phase { freeze: all, restart: true, ..phase("b", vec![stream("b", &["a"], Recorded::Kept)]) };
    let only = |prologue| Schedule { prologue, repeat: vec![], rounds: 0 };
    let before = bits(&bench.run(&only(vec![still.clone()]), settings()).unwrap().1).unwrap();
    let learnt = bits(&bench.run(&only(vec![learn.clone()]), settings()).unwrap().1).unwrap();
    assert_ne!(learnt, before);
    assert_eq!(bits(&bench.run(&only(vec![learn, still]), settings()).unwrap().1).unwrap(), before);
}

#[test]
fn micro_batches_take_the_steps_of_whole_batches() {
    let bench = two();
    for method in [Method::DmlLwf, Method::Mixed] {
        let schedule = method.schedule(&pair()).unwrap();
        let run = |micro_batch, recording| {
            let settings = Settings { micro_batch, recording, ..settings() };
            let (outcome, params, events) = bench.run(&schedule, settings).unwrap();
            let terms: Vec<f64> = events
                .iter()
                .flat_map(|event| match event {
                    Event::Step { terms, .. } => terms.values().copied().collect(),
                    _ => Vec::new(),
                })
                .collect();
            let values = params
                .tensors()
                .into_values()
                .flat_map(|x| x.flatten_all().unwrap().to_vec1::<f32>().unwrap());
            (outcome.scores.len(), terms, values.collect::<Vec<_>>())
        };
        let (scores, terms, values) = run(0, Recording::FrozenCopy);
        for (micro_batch, recording) in
            [(7, Recording::FrozenCopy), (1, Recording::Table), (16, Recording::FrozenCopy)]
        {
            let (cut_scores, cut_terms, cut_values) = run(micro_batch, recording);
            assert_eq!((cut_scores, cut_terms.len()), (scores, terms.len()));
            let near = |a: &f64, b: &f64| (a - b).abs() < 1e-3 * b.abs().max(1.0);
            assert!(
                cut_terms.iter().zip(&terms).all(|(a, b)| near(a, b)),
                "{micro_batch}: {cut_terms:?} {terms:?}"
            );
            let far = cut_values.iter().zip(&values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // A gradient near 0 may change its sign, and Adam's steps with it.
            assert!(
                far < 5e-3 && (micro_batch < 16 || far == 0.0),
                "{micro_batch}: a parameter is {far} off"
            );
        }
    }
}

#[test]
fn alternation_begins_and_preserves_when_asked() {
    let check = |pair: Pair, expected: &[&str]| {
        let schedule = Method::DmlLwf.schedule(&pair).unwrap();
        let phases = schedule.phases().map(|(_, phase)| {
            let kept = phase.streams.iter().map(|stream| stream.preserve.len()).sum::<usize>();
            format!("{}{}", phase.name, if kept > 0 { "+" } else { "" })
        });
        assert_eq!(phases.collect::<Vec<_>>(), expected);
    };
    check(pair(), &["b+", "a+", "b+", "a+"]);
    check(Pair { class_first: true, ..pair() }, &["a+", "b+", "a+", "b+"]);
    check(Pair { preserve_after: 2, ..pair() }, &["b", "a", "b+", "a+"]);
    check(Pair { preserve_after: 4, ..pair() }, &["b", "a", "b", "a"]);
    let error = Method::DmlLwf.schedule(&Pair { preserve_after: 3, ..pair() }).unwrap_err().to_string();
    assert!(error.contains("preserve_after (3)"), "{error}");
}

#[test]
fn adam_states_are_shared_as_asked() {
    let bench = two();
    let schedule = Method::Dml.schedule(&pair()).unwrap();
    let run = |adam| bits(&bench.run(&schedule, Settings { adam, ..settings() }).unwrap().1).unwrap();
    let runs = [AdamSharing::Shared, AdamSharing::PerTask, AdamSharing::PerPhase].map(run);
    assert!(runs[0] != runs[1] && runs[1] != runs[2] && runs[0] != runs[2]);
    // With one task, one state for all and one per task are the same thing.
    let schedule = Method::ClassOnly.schedule(&pair()).unwrap();
    let run = |adam| bits(&bench.run(&schedule, Settings { adam, ..settings() }).unwrap().1).unwrap();
    assert_eq!(run(AdamSharing::Shared), run(AdamSharing::PerTask));
}

#[test]
fn preservation_holds_what_fine_tuning_forgets() {
    let bench = two();
    let pair = Pair { epochs: 40, block: 40, lambda_class: 0.1, ..pair() };
    let after = |method: Method| {
        let (outcome, ..) = bench.run(&method.schedule(&pair).unwrap(), settings()).unwrap();
        outcome.scores.iter().find(|score| score.eval == "b").unwrap().value
    };
    let (forgot, kept) = (after(Method::FinetuneCaptionClass), after(Method::LwfCaptionClass));
    assert!(kept > forgot + 5.0, "fine-tuning {forgot}, learning without forgetting {kept}");
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_names_the_samples() {
    let bench = Bench::new(vec![Toy::broken("a", 3, 17)]).unwrap();
    let schedule = Schedule {
        prologue: vec![phase("a", vec![stream("a", &[], Recorded::AtStart)])],
        repeat: vec![],
        rounds: 0,
    };
    let error = bench.run(&schedule, settings()).err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, TrainError::NotFinite { .. }) && text.contains("a-17"), "{text}");
}

#[test]
fn a_parameter_without_a_gradient_stops_the_run_at_its_first_step() {
    let bench = two();
    let params = Params::new(3, &Device::Cpu);
    params.builder().get(4, "root.forgotten").unwrap();
    let schedule = Method::Dml.schedule(&pair()).unwrap();
    let error = bench.run_from(&params, &schedule, settings()).err().unwrap();
    assert!(
        matches!(&error, TrainError::NoGradient { names, .. } if names == &["root.forgotten"]),
        "{error}"
    );
}

#[test]
fn schedules_that_do_not_fit_are_refused() {
    let bench = two();
    let check = |stream: Stream, expected: &str| {
        let schedule = Schedule { prologue: vec![phase("p", vec![stream])], repeat: vec![], rounds: 0 };
        let text = bench.run(&schedule, settings()).err().unwrap().to_string();
        assert!(text.contains(expected), "{text}");
    };
    check(stream("x", &[], Recorded::AtStart), "\"x\" is unknown");
    check(stream("a", &["x"], Recorded::AtStart), "\"x\" is unknown");
    check(stream("a", &["a"], Recorded::AtStart), "both supervises and preserves");
    let wrong = Supervise { task: "b".into(), weight: 1.0 };
    check(Stream { supervise: wrong, ..stream("a", &[], Recorded::AtStart) }, "is labelled for");
    let negative = Supervise { task: "a".into(), weight: -1.0 };
    check(Stream { supervise: negative, ..stream("a", &[], Recorded::AtStart) }, "-1");
    for (lambda_class, lambda_caption) in [(1.5, 0.5), (0.5, -0.1), (f64::NAN, 0.5)] {
        let error = Method::DmlLwf
            .schedule(&Pair { lambda_class, lambda_caption, ..pair() })
            .unwrap_err()
            .to_string();
        assert!(error.contains("lambda"), "{error}");
    }
    assert!(Method::Dml.schedule(&Pair { block: 3, ..pair() }).unwrap_err().to_string().contains("multiple"));
}

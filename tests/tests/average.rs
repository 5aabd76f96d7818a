//! Averages of the parameters as a run goes on, and weights that are learnt.
#![allow(clippy::unwrap_used)]

use candle_core::Device;
use dml_model::{MultiTaskNet, Params};
use dml_tests::{Bench, Toy, bits, pair, phase, settings, stream};
use dml_train::{Ema, Event, Length, Method, Pair, Phase, Recorded, Schedule, Settings, Weighting, evaluate};

fn two() -> Bench {
    Bench::new(vec![Toy::new("a", 3), Toy::new("b", 4)]).unwrap()
}

#[test]
fn the_average_of_the_parameters_is_that_by_hand() {
    let bench = two();
    let schedule = Method::Mixed.schedule(&pair()).unwrap();
    let params = Params::new(3, &Device::Cpu);
    MultiTaskNet::new(&bench.net, params.builder()).unwrap();
    let numbers = |params: &Params| -> Vec<f64> {
        let values =
            params.tensors().into_values().map(|x| x.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        values.flatten().map(f64::from).collect()
    };
    // A step is told before the parameters take it.
    let mut steps = Vec::new();
    let alone = bench
        .run_to(&params, &schedule, settings(), &mut |event| {
            if let Event::Step { .. } = event {
                steps.push(numbers(&params));
            }
        })
        .unwrap();
    steps.push(numbers(&params));
    for decay in [0.0, 0.6, 0.999] {
        let ema = Ema { decay, evaluate: true };
        let (outcome, averaged, _) = bench.run(&schedule, Settings { ema, ..settings() }).unwrap();
        let mut expected = steps[0].clone();
        for (t, new) in steps[1..].iter().enumerate() {
            let decay = decay.min((1.0 + t as f64) / (10.0 + t as f64));
            expected.iter_mut().zip(new).for_each(|(old, new)| *old = decay * *old + (1.0 - decay) * new);
        }
        let far = expected.iter().zip(numbers(&averaged)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(far < 1e-6, "decay {decay}: {far}");
        assert_eq!(decay == 0.0, bits(&averaged).unwrap() == bits(&params).unwrap());
        // The scores are those of the network that is left.
        let scores = evaluate(
            &MultiTaskNet::frozen(&bench.net, averaged.tensors(), &Device::Cpu).unwrap(),
            &bench.evals,
            16,
            &Device::Cpu,
        );
        assert_eq!(outcome.scores, scores.unwrap());
        assert!(decay > 0.0 || outcome.scores == alone.scores);
    }
}

#[test]
fn a_mean_teacher_answers_as_the_average_does_at_each_step() {
    let bench = two();
    let taught = |method: Method, decay: f64| {
        let schedule = method.schedule(&Pair { mean_teacher: true, ..pair() }).unwrap();
        let ema = Ema { decay, evaluate: false };
        let (.., params, events) = bench.run(&schedule, Settings { ema, ..settings() }).unwrap();
        assert!(!events.iter().any(|event| matches!(event, Event::Recorded { .. })), "{method}");
        bits(&params).unwrap()
    };
    let recorded =
        |method: Method| bits(&bench.run(&method.schedule(&pair()).unwrap(), settings()).unwrap().1).unwrap();
    for method in [Method::DmlLwf, Method::MixedLwf, Method::LwfCaptionClass] {
        assert!(taught(method, 0.999) != taught(method, 0.0) && taught(method, 0.999) != recorded(method));
    }
    // Over phases of one step, the network at the switch is the network itself: an average without memory.
    let steps = |kept| {
        let phase = |set: &str, other: &str| Phase {
            length: Length::Steps(1),
            ..phase(set, vec![stream(set, &[other], kept)])
        };
        let schedule =
            Schedule { prologue: vec![], repeat: vec![phase("a", "b"), phase("b", "a")], rounds: 9 };
        let ema = Ema { decay: 0.0, evaluate: false };
        bits(&bench.run(&schedule, Settings { ema, ..settings() }).unwrap().1).unwrap()
    };
    assert_eq!(steps(Recorded::MeanTeacher), steps(Recorded::AtStart));
    assert_ne!(steps(Recorded::MeanTeacher), steps(Recorded::Kept));
}

#[test]
fn learnt_weights_go_to_what_the_losses_ask() {
    let bench = two();
    let weighting = Weighting::Uncertainty;
    let told = |method: Method, rate: f64| {
        let schedule = method.schedule(&Pair { epochs: 40, learnt_weights: true, ..pair() }).unwrap();
        let settings = Settings { weighting, weighting_learning_rate: rate, ..settings() };
        let (.., events) = bench.run(&schedule, settings).unwrap();
        let step = |event: Event| match event {
            Event::Step { terms, weights, .. } => Some((terms, weights)),
            _ => None,
        };
        events.into_iter().filter_map(step).collect::<Vec<_>>()
    };
    for method in [Method::Mixed, Method::MixedLwf, Method::DmlLwf] {
        let steps = told(method, 0.01);
        let (terms, weights) = &steps[0];
        assert!(terms.keys().eq(weights.keys()) && weights.values().all(|&weight| weight == 1.0), "{method}");
        let last = steps.len() - 1;
        assert!(steps[last].1.values().any(|weight| weight.ln().abs() > 0.2), "{method}: {:?}", steps[last]);
    }
    // A first step moves each logarithm by the learning rate, down where the loss is above 1/2: that is where 1 is best.
    let steps = told(Method::Mixed, 0.01);
    for (term, weight) in &steps[1].1 {
        let expected = if steps[0].0[term] > 0.5 { -0.01f64 } else { 0.01 };
        assert!((weight.ln() - expected).abs() < 1e-5, "{term}: {weight}, {:?}", steps[0]);
    }
    // Weights that follow quickly stand where each is 1 / (2 · loss), give or take the noise of batches.
    let steps = told(Method::Mixed, 0.1);
    let half = &steps[steps.len() / 2..];
    for term in half[0].0.keys() {
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / half.len() as f64;
        let loss = mean(&mut half.iter().map(|(terms, _)| terms[term]));
        let weight = mean(&mut half.iter().map(|(_, weights)| weights[term].ln())).exp();
        assert!((0.5..2.0).contains(&(weight * 2.0 * loss)), "{term}: weight {weight}, loss {loss}");
    }
    let given = |schedule: Schedule| -> Vec<f64> {
        let streams = schedule.phases().flat_map(|(_, phase)| phase.streams.clone()).collect::<Vec<_>>();
        streams.iter().flat_map(|s| s.preserve.iter().map(|p| p.weight).chain([s.supervise.weight])).collect()
    };
    let pair = Pair { learnt_weights: true, class_scale: 3.0, ..pair() };
    assert!(given(Method::DmlLwf.schedule(&pair).unwrap()).iter().all(|&weight| weight == 1.0));
    // What only records, or is switched off, stays so.
    assert!(given(Method::Specialists.schedule(&pair).unwrap()).contains(&0.0));
    assert!(given(Method::DmlLwf.schedule(&Pair { lambda_class: 1.0, ..pair }).unwrap()).contains(&0.0));
}

#[test]
fn parts_of_a_batch_learn_the_weights_of_the_whole() {
    let bench = two();
    let schedule = Method::MixedLwf.schedule(&Pair { mean_teacher: true, ..pair() }).unwrap();
    let run = |micro_batch| {
        let settings = Settings { micro_batch, weighting: Weighting::Uncertainty, ..settings() };
        let (.., events) = bench.run(&schedule, settings).unwrap();
        let told = |event: Event| match event {
            Event::Step { terms, weights, .. } => terms.into_values().chain(weights.into_values()).collect(),
            _ => Vec::new(),
        };
        events.into_iter().flat_map(told).collect::<Vec<_>>()
    };
    let (whole, parts) = (run(0), run(7));
    assert_eq!(whole.len(), parts.len());
    assert!(
        whole.iter().zip(&parts).all(|(a, b)| (a - b).abs() < 1e-3 * a.abs().max(1.0)),
        "{whole:?} {parts:?}"
    );
}

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use dml_ops::{Adam, AdamConfig};
use dml_rand::{Purpose, Stream};

use crate::golden::{golden, numbers, wave};
use crate::{assert_close, normal, values};

const CONFIG: AdamConfig = AdamConfig { beta1: 0.8, beta2: 0.95, eps: 1e-6 };

fn step(adam: &mut Adam, var: &Var, step: usize) {
    let gradient = wave(&[3, 4], 0.9 + step as f64).to_dtype(var.dtype()).unwrap();
    adam.update("p", var, &gradient, 0.01).unwrap();
}

fn start(dtype: DType) -> Var {
    Var::from_tensor(&wave(&[3, 4], 0.7).to_dtype(dtype).unwrap()).unwrap()
}

#[test]
fn is_torchs() {
    for case in golden("adam") {
        let (dtype, tolerance) = match case["dtype"].as_str().unwrap() {
            "float32" => (DType::F32, 2e-7),
            _ => (DType::F64, 1e-11),
        };
        let (mut adam, var) = (Adam::new(CONFIG), start(dtype));
        let seen_before = var.as_tensor().clone();
        for (i, expected) in case["steps"].as_array().unwrap().iter().enumerate() {
            step(&mut adam, &var, i);
            assert_close(&format!("step {i}"), &values(&var), &numbers(expected), tolerance);
        }
        let state = adam.state().unwrap();
        assert_close("m", &values(&state["p.m"]), &numbers(&case["m"]), tolerance);
        assert_close("v", &values(&state["p.v"]), &numbers(&case["v"]), tolerance);
        assert_eq!(state["p.step"].to_scalar::<i64>().unwrap(), 6);
        // In place: what shares the variable's memory sees the update.
        assert_eq!(values(&seen_before), values(&var));
    }
}

#[test]
fn continues_from_its_state_bit_by_bit() {
    let (mut whole, var_whole) = (Adam::new(CONFIG), start(DType::F32));
    let (mut first, var) = (Adam::new(CONFIG), start(DType::F32));
    for i in 0..6 {
        step(&mut whole, &var_whole, i);
        if i < 3 {
            step(&mut first, &var, i);
        }
    }
    let saved = first.state().unwrap();
    // A later step must not reach into the saved state.
    step(&mut first, &start(DType::F32), 5);
    let mut resumed = Adam::from_state(CONFIG, saved).unwrap();
    (3..6).for_each(|i| step(&mut resumed, &var, i));
    assert_eq!(values(&var), values(&var_whole));
    let (a, b) = (whole.state().unwrap(), resumed.state().unwrap());
    assert!(a.keys().eq(b.keys()) && a.keys().all(|key| values(&a[key]) == values(&b[key])));
}

#[test]
fn the_composition_equals_the_kernel() {
    // bf16 has no kernel. Its eight bits: the parameters agree to a part in a hundred.
    let (mut kernel, mut composition) = (Adam::new(CONFIG), Adam::new(CONFIG));
    let (exact, coarse) = (start(DType::F32), start(DType::BF16));
    for i in 0..6 {
        step(&mut kernel, &exact, i);
        step(&mut composition, &coarse, i);
    }
    assert_close("bf16", &values(&coarse), &values(&exact), 2e-2);
    assert_eq!(composition.state().unwrap()["p.m"].dtype(), DType::BF16);
}

#[test]
fn is_the_same_for_any_number_of_threads() {
    let train = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut stream = Stream::new(4, Purpose::Test, 0, 0);
            let mut draw =
                || dml_ops::init::normal(100_003, (0.0, 1.0), &mut stream, DType::F32, &Device::Cpu).unwrap();
            let (mut adam, var) = (Adam::new(CONFIG), Var::from_tensor(&draw()).unwrap());
            for _ in 0..3 {
                adam.update("p", &var, &draw(), 1e-3).unwrap();
            }
            values(&var)
        })
    };
    assert_eq!(train(1), train(2));
}

#[test]
fn refuses_what_does_not_fit() {
    let (mut adam, var) = (Adam::new(CONFIG), start(DType::F64));
    let error = adam.update("p", &var, &normal((4, 3), 0), 0.01).unwrap_err();
    assert!(error.to_string().contains("gradient of p must be F64 [3, 4]"), "{error}");
    step(&mut adam, &var, 0);
    let other = Var::from_tensor(&normal(5, 0)).unwrap();
    assert!(adam.update("p", &other, &normal(5, 0), 0.01).unwrap_err().to_string().contains("p is F64 [5]"));

    let state = adam.state().unwrap();
    let with = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut state = state.clone();
        change(&mut state);
        Adam::from_state(CONFIG, state).unwrap_err().to_string()
    };
    assert_eq!(with(&|s| drop(s.remove("p.v"))), "optimiser state: p.v is missing");
    assert_eq!(
        with(&|s| drop(s.insert("q.m".into(), normal(1, 0)))),
        "optimiser state: q.m belongs to no parameter"
    );
    assert!(with(&|s| drop(s.insert("p.v".into(), normal(5, 0)))).contains("moments of different shapes"));
}

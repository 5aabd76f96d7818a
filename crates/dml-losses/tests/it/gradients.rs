//! Gradients against central differences in f64.

use candle_core::{DType, Device, Tensor, Var};
use dml_losses::*;

use crate::common::{ALL, apply, assert_close, irregular, numbers, second, value_and_gradient};

const STEP: f64 = 1e-5;

fn check(name: &str, prediction: &Tensor, function: impl Fn(&Tensor) -> Result<Tensor>) {
    let (_, gradient) = value_and_gradient(prediction, &function);
    let at = numbers(prediction);
    let moved = |i: usize, step: f64| {
        let mut at = at.clone();
        at[i] += step;
        let at = Tensor::from_vec(at, prediction.dims(), prediction.device()).unwrap();
        function(&at).unwrap().to_scalar::<f64>().unwrap()
    };
    let differences: Vec<f64> =
        (0..at.len()).map(|i| (moved(i, STEP) - moved(i, -STEP)) / (2.0 * STEP)).collect();
    assert!(differences.iter().all(|difference| difference.is_finite()), "{name}");
    assert_close(name, &gradient, &differences, 1e-8);
}

#[test]
fn every_loss() {
    for loss in ALL {
        for (n, k) in [(4, 5), (1, 3), (3, 1), (2, 7)] {
            for parameter in [0.5, 1.0, 2.0] {
                let second = second(loss, &irregular(n, k, 1.5, 0.8));
                let name = format!("{loss} {n}x{k}, parameter {parameter}");
                check(&name, &irregular(n, k, 2.0, 0.3), |x| apply(loss, x, &second, parameter));
            }
        }
    }
}

#[test]
fn both_sides_of_a_ranking_get_one() {
    for loss in ALL.into_iter().filter(|loss| loss.starts_with("ranking")) {
        for (n, k) in [(4, 5), (1, 3), (2, 7)] {
            let first = irregular(n, k, 2.0, 0.3);
            check(loss, &irregular(n, k, 1.5, 0.8), |x| apply(loss, &first, x, 0.5));
        }
    }
}

#[test]
fn normalisations() {
    let weights = irregular(4, 5, 1.0, 0.1);
    for size in [0.5, 10.0] {
        let x = irregular(4, 5, size, 0.3);
        check("log_softmax", &x, |x| Ok((log_softmax(x)? * &weights)?.sum_all()?));
        check("l2_normalize", &x, |x| Ok((l2_normalize(x)? * &weights)?.sum_all()?));
    }
}

#[test]
fn equal_maxima_share_the_gradient_of_the_softmax() {
    let x = Tensor::new(&[[3.0f64, 3.0, 3.0, -1.0], [0.0; 4]], &Device::Cpu).unwrap();
    let labels = Tensor::new(&[1u32, 3], &Device::Cpu).unwrap();
    check("cls", &x, |x| cls(x, &labels));
}

#[test]
fn joint_objectives_weigh_both_gradients() {
    let labels = Tensor::new(&[2u32, 0, 4, 1], &Device::Cpu).unwrap();
    let target = irregular(4, 5, 1.0, 0.9);
    let recorded = second("distill", &target);
    for lambda in [0.0, 0.3, 1.0] {
        let weight = Lambda::new(lambda).unwrap();
        check(&format!("eq. 8, λ = {lambda}"), &irregular(4, 5, 2.0, 0.4), |x| {
            classification_objective(weight, &cls(x, &labels)?, &emb(x, &target)?)
        });
        check(&format!("eq. 9, λ = {lambda}"), &irregular(4, 5, 2.0, 0.4), |x| {
            caption_objective(weight, &distill(x, &recorded, 2.0)?, &emb(x, &target)?)
        });
    }
}

#[test]
fn uncertainty_weighs_the_loss_and_learns_the_weight() {
    let labels = Tensor::new(&[2u32, 0, 4, 1], &Device::Cpu).unwrap();
    let (logits, target) = (irregular(4, 5, 2.0, 0.4), irregular(4, 5, 1.0, 0.9));
    let scalar = |s: f64| Tensor::new(s, &Device::Cpu).unwrap();
    for s in [-3.0, 0.0, 0.7, 4.0] {
        check("loss", &logits, |x| uncertainty(&cls(x, &labels)?, &scalar(s)));
        check("cosine", &logits, |x| uncertainty(&(emb(x, &target)? + 1.0)?, &scalar(s)));
        check("log variance", &scalar(s), |s| uncertainty(&cls(&logits, &labels)?, s));
    }
    // Where the log variance is best for a loss its gradient is 0, and the loss's is 1 / (2 · loss).
    let (loss, best) = (Var::new(3.0, &Device::Cpu).unwrap(), 6.0f64.ln());
    let (value, gradient) = value_and_gradient(&scalar(best), |s| uncertainty(&loss, s));
    assert_close("best", &[value, gradient[0]], &[0.5 + best / 2.0, 0.0], 1e-12);
    let weight = uncertainty(&loss, &scalar(best)).unwrap().backward().unwrap();
    assert_close("weight", &numbers(weight.get(&loss).unwrap()), &[1.0 / 6.0], 1e-12);
}

#[test]
fn targets_get_none() {
    for loss in ALL.into_iter().filter(|loss| *loss != "cls" && !loss.starts_with("ranking")) {
        let prediction = Var::from_tensor(&irregular(3, 4, 1.0, 0.2)).unwrap();
        let second = Var::from_tensor(&second(loss, &irregular(3, 4, 1.0, 0.6))).unwrap();
        let gradients = if loss == "cls_multi_hot" {
            cls_soft(&prediction, &multi_hot_to_distribution(&second).unwrap())
        } else {
            apply(loss, &prediction, &second, 2.0)
        };
        let gradients = gradients.unwrap().backward().unwrap();
        assert!(gradients.get(&prediction).is_some(), "{loss}");
        assert!(gradients.get(&second).is_none(), "{loss}");
    }
}

#[test]
fn l1_has_none_where_it_agrees() {
    // softmax is exactly ¼ everywhere, so the first two classes agree.
    let logits = Tensor::zeros((1, 4), DType::F64, &Device::Cpu).unwrap();
    let recorded = Tensor::new(&[[0.25f64, 0.25, 0.4, 0.1]], &Device::Cpu).unwrap();
    let (_, gradient) = value_and_gradient(&logits, |x| l1(x, &recorded));
    assert_close("l1", &gradient, &[0.0, 0.0, -0.25, 0.25], 1e-15);
}

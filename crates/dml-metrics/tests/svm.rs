//! The linear SVM against LIBLINEAR (`golden/svm.py` made `golden/svm.json`), and a video's descriptor.

#![allow(clippy::unwrap_used)]

use dml_metrics::{Hinge, LinearSvm, SvmConfig, group_descriptors, hit_at_1};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    unit: f32,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    dim: usize,
    classes: usize,
    hinge: Hinge,
    c: f64,
    bias: f64,
    features: Vec<f32>,
    labels: Vec<u32>,
    weights: Vec<Vec<f64>>,
    decisions: Vec<f64>,
    accuracy: f64,
}

fn golden() -> Vec<Case> {
    let Golden { unit, mut cases } = serde_json::from_str(include_str!("golden/svm.json")).unwrap();
    for case in &mut cases {
        case.features.iter_mut().for_each(|value| *value /= unit);
    }
    cases
}

impl Case {
    fn train(&self, seed: u64, tolerance: f64) -> LinearSvm {
        let config =
            SvmConfig { c: self.c, hinge: self.hinge, bias: self.bias, tolerance, passes: 1_000_000, seed };
        let svm = LinearSvm::train(&self.features, self.dim, &self.labels, self.classes, &config).unwrap();
        assert!(svm.converged(), "{}", self.name);
        svm
    }
}

#[test]
fn the_optimum_is_liblinears() {
    for case in golden() {
        for seed in [0, 1] {
            let svm = case.train(seed, 1e-9);
            for (class, expected) in case.weights.iter().enumerate() {
                for (found, expected) in svm.weights(class).iter().zip(expected) {
                    assert!((found - expected).abs() < 1e-6, "{}: {found}, not {expected}", case.name);
                }
            }
            let decisions = svm.decide(&case.features).unwrap();
            for (&found, expected) in decisions.iter().zip(&case.decisions) {
                assert!((f64::from(found) - expected).abs() < 1e-5, "{}: {found}, not {expected}", case.name);
            }
            let right = hit_at_1(&decisions, case.classes, &case.labels).unwrap();
            assert!((right - case.accuracy).abs() < 1e-9, "{}: {right}", case.name);
        }
    }
}

#[test]
fn the_default_tolerance_comes_close_and_fewer_passes_say_so() {
    for case in golden() {
        let decisions = case.train(3, SvmConfig::default().tolerance).decide(&case.features).unwrap();
        let right = hit_at_1(&decisions, case.classes, &case.labels).unwrap();
        assert!((right - case.accuracy).abs() <= 5.0, "{}: {right}, not {}", case.name, case.accuracy);
    }
    let case = &golden()[1];
    let config = SvmConfig { c: case.c, passes: 2, tolerance: 1e-9, ..SvmConfig::default() };
    let svm = LinearSvm::train(&case.features, case.dim, &case.labels, case.classes, &config).unwrap();
    assert!(!svm.converged());
}

#[test]
fn a_descriptor_is_the_unit_vector_along_the_mean_of_its_clips() {
    let (descriptors, firsts) =
        group_descriptors(&[1.0, 2.0, 0.0, 0.0, 5.0, 6.0, -7.0, 0.0], 2, &[4, 1, 4, 2]).unwrap();
    assert_eq!(descriptors, [0.0, 0.0, -1.0, 0.0, 0.6, 0.8]);
    assert_eq!(firsts, [1, 3, 0]);
}

#[test]
fn what_cannot_be_trained_is_named() {
    let check = |features: &[f32], labels: &[u32], config: SvmConfig, part: &str| {
        let error = LinearSvm::train(features, 2, labels, 2, &config).unwrap_err().to_string();
        assert!(error.contains(part), "{error} should say {part}");
    };
    let ok = SvmConfig::default();
    check(&[], &[], ok, "`features` is empty");
    check(&[1.0, 2.0, 3.0], &[0], ok, "no whole number of rows");
    check(&[1.0, f32::NAN], &[0], ok, "NaN");
    check(&[1.0, f32::INFINITY], &[0], ok, "infinite at position 1");
    check(&[1.0, 2.0], &[0, 1], ok, "`labels` has 2 values");
    check(&[1.0, 2.0], &[2], ok, "label 2");
    check(&[1.0, 2.0], &[0], SvmConfig { c: 0.0, ..ok }, "`c`");
    check(&[1.0, 2.0], &[0], SvmConfig { tolerance: -1.0, ..ok }, "`tolerance`");
    check(&[1.0, 2.0], &[0], SvmConfig { bias: f64::NAN, ..ok }, "`bias`");
}

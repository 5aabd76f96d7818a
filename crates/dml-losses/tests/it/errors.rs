//! Each wrong argument is named, with what it should have been.

use candle_core::{DType, Device, Tensor};
use dml_losses::*;

fn check(result: Result<Tensor>, expected: &str) {
    assert_eq!(result.unwrap_err().to_string(), expected);
}

fn t<S: candle_core::NdArray>(values: S) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

fn zeros(shape: impl Into<candle_core::Shape>, dtype: DType) -> Tensor {
    Tensor::zeros(shape, dtype, &Device::Cpu).unwrap()
}

#[test]
fn predictions() {
    let labels = t(&[0u32, 1]);
    let matrix = "but must be (n, k) with n and k at least 1";
    check(cls(&zeros(3, DType::F32), &labels), &format!("`logits` has shape [3], {matrix}"));
    check(cls(&zeros((0, 3), DType::F32), &labels), &format!("`logits` has shape [0, 3], {matrix}"));
    check(cls(&zeros((2, 0), DType::F32), &labels), &format!("`logits` has shape [2, 0], {matrix}"));
    check(emb(&zeros((2, 3, 1), DType::F64), &labels), &format!("`predicted` has shape [2, 3, 1], {matrix}"));
    check(cls(&zeros((2, 3), DType::F16), &labels), "`logits` has dtype F16, but must be F32 or F64");
    check(log_softmax(&zeros((2, 3), DType::U32)), "`logits` has dtype U32, but must be F32 or F64");
    check(l2_normalize(&zeros((), DType::F32)), &format!("`x` has shape [], {matrix}"));
}

#[test]
fn labels() {
    let logits = zeros((2, 3), DType::F32);
    check(
        cls(&logits, &t(&[0u32])),
        "`labels` has shape [1], but must be (2), one label for each row of `logits`",
    );
    check(
        cls(&logits, &t(&[[0u32], [1]])),
        "`labels` has shape [2, 1], but must be (2), one label for each row of `logits`",
    );
    check(cls(&logits, &t(&[0i64, 1])), "`labels` has dtype I64, but must be U32");
    check(cls(&logits, &t(&[0u32, 3])), "`labels`, row 1: label 3 is not below the number of classes, 3");
}

#[test]
fn second_arguments_are_like_the_first() {
    let x = zeros((2, 3), DType::F32);
    type Loss = fn(&Tensor, &Tensor) -> Result<Tensor>;
    let losses: [(Loss, &str, &str); 9] = [
        (cls_soft, "targets", "logits"),
        (bce, "targets", "logits"),
        (emb, "target", "predicted"),
        (|x, y| info_nce(x, y, 1.0), "target", "predicted"),
        (|x, y| distill(x, y, 2.0), "recorded", "logits"),
        (|x, y| distill_multi_label(x, y, 2.0), "recorded", "logits"),
        (l1, "recorded", "logits"),
        (l2, "recorded", "logits"),
        (|x, y| ranking(x, y, Similarity::Order, 0.05, Hinges::Sum), "b", "a"),
    ];
    for (loss, second, first) in losses {
        check(
            loss(&x, &zeros((1, 3), DType::F32)),
            &format!("`{second}` has shape [1, 3], but must be that of `{first}`, [2, 3]"),
        );
        check(
            loss(&x, &zeros((2, 3), DType::F64)),
            &format!("`{second}` has dtype F64, but must be that of `{first}`, F32"),
        );
    }
}

#[test]
fn probabilities() {
    let x = zeros((2, 2), DType::F64);
    let distributions: [fn(&Tensor, &Tensor) -> Result<Tensor>; 4] =
        [cls_soft, |x, y| distill(x, y, 2.0), l1, l2];
    for (i, loss) in distributions.into_iter().enumerate() {
        let name = if i == 0 { "targets" } else { "recorded" };
        let check_row = |row: [f64; 2], problem: &str| {
            check(loss(&x, &t(&[[0.5, 0.5], row])), &format!("`{name}`, row 1: {problem}"));
        };
        check_row([0.5, 0.6], "the probabilities sum to 1.100000, not to 1");
        check_row([0.0, 0.0], "the probabilities sum to 0.000000, not to 1");
        check_row([1.5, -0.5], "-0.5 is not a probability");
        check_row([f64::NAN, 1.0], "NaN is not a probability");
        check_row([f64::INFINITY, 0.0], "inf is not a probability");
        // As half precision or a mean of responses leaves it.
        loss(&x, &t(&[[0.5f64, 0.5], [0.5, 0.5009]])).unwrap();
    }
    check(bce(&x, &t(&[[0.0f64, 1.0], [-1.0, 1.0]])), "`targets`, row 1: -1 lies outside [0, 1]");
    check(
        distill_multi_label(&x, &t(&[[0.0f64, f64::NAN], [0.5, 1.0]]), 2.0),
        "`recorded`, row 0: NaN lies outside [0, 1]",
    );
}

#[test]
fn flags() {
    check(
        multi_hot_to_distribution(&t(&[[0.0f32, 1.0], [-1.0, 1.0]])),
        "`flags`, row 1: -1 is neither 0 nor 1",
    );
    check(
        multi_hot_to_distribution(&t(&[[0.0f32, 0.0]])),
        "`flags`, row 0: no class is set, so there is no distribution",
    );
    check(multi_hot_to_distribution(&t(&[[0u8, 1]])), "`flags` has dtype U8, but must be F32 or F64");
}

#[test]
fn temperatures() {
    let (x, p) = (zeros((1, 2), DType::F64), t(&[[0.5f64, 0.5]]));
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let range = |name: &str| format!("`{name}` is {bad}, but must be finite and above 0");
        check(distill(&x, &p, bad), &range("temperature"));
        check(distill_multi_label(&x, &p, bad), &range("temperature"));
        check(info_nce(&x, &p, bad), &range("tau"));
    }
}

#[test]
fn objectives() {
    let half = Lambda::new(0.5).unwrap();
    let (one, vector, double) = (t(1f32), t(&[1f32]), t(1f64));
    type Objective = fn(Lambda, &Tensor, &Tensor) -> Result<Tensor>;
    let objectives: [(Objective, &str, &str); 2] =
        [(classification_objective, "cls", "preserved_emb"), (caption_objective, "distilled", "emb")];
    for (objective, first, second) in objectives {
        check(objective(half, &vector, &one), &format!("`{first}` has shape [1], but must be a scalar"));
        check(objective(half, &one, &vector), &format!("`{second}` has shape [1], but must be a scalar"));
        check(
            objective(half, &one, &double),
            &format!("`{second}` has dtype F64, but must be that of `{first}`, F32"),
        );
        check(objective(half, &t(1u32), &one), &format!("`{first}` has dtype U32, but must be F32 or F64"));
    }
    check(uncertainty(&vector, &one), "`loss` has shape [1], but must be a scalar");
    check(uncertainty(&one, &vector), "`log_variance` has shape [1], but must be a scalar");
    check(uncertainty(&one, &double), "`log_variance` has dtype F64, but must be that of `loss`, F32");
    for bad in [-1e-9, 1.000001, f64::NAN, f64::INFINITY] {
        let error = Lambda::new(bad).unwrap_err().to_string();
        assert_eq!(error, format!("`lambda` is {bad}, but must be in [0, 1]"));
    }
}

//! Every algorithm of a convolution against the sum over the taps, alone and with what follows it in the same pass.

use candle_core::{DType, Tensor};
use dml_ops::channels_last::{self, Then, from_channels_first, to_channels_first};
use dml_ops::{Activation, Algorithm, Conv2d, Conv3d, Padding2d, Pool, Result, portable};
use proptest::prelude::*;

use crate::{assert_close, distinct, gradients, normal, values};

const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::Auto,
    Algorithm::Direct,
    Algorithm::Winograd(1),
    Algorithm::Winograd(2),
    Algorithm::Winograd(4),
];

fn check(
    inputs: &[Tensor],
    kernel: impl Fn(&[Tensor]) -> Result<Tensor>,
    composition: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let direction = |shape: &[usize]| normal(shape, 77);
    let (found, found_gradients) = gradients(inputs, &kernel, direction);
    let (expected, expected_gradients) = gradients(inputs, &composition, direction);
    assert_eq!(found.dims(), expected.dims());
    assert_close("result", &values(&found), &values(&expected), 1e-9);
    for (k, (found, expected)) in found_gradients.iter().zip(&expected_gradients).enumerate() {
        assert_close(&format!("gradient {k}"), &values(found), &values(expected), 1e-9);
    }
}

fn pool3d(kernel: [usize; 3], ceil: bool) -> Option<Pool<3>> {
    kernel.iter().any(|&size| size > 1).then_some(Pool { kernel, stride: kernel, padding: [0; 3], ceil })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn in_three_dimensions(
        (n, c, o) in (1usize..3, 1usize..20, 1usize..35),
        (t, h, w) in (1usize..7, 1usize..11, 1usize..11),
        padding in [0usize..3, 1usize..3, 1usize..3],
        windows in [1usize..4, 1usize..4, 1usize..4],
        ceil: bool,
        relu: bool,
        bias: bool,
    ) {
        prop_assume!(t + 2 * padding[0] >= 3);
        let outputs = [t, h, w].into_iter().zip(padding).map(|(size, p)| size + 2 * p - 2);
        let mut outputs = outputs.zip(windows);
        prop_assume!(outputs.all(|(size, window)| window <= size));
        let x = distinct((n, c, t, h, w), 0);
        let all = [x, normal((o, c, 3, 3, 3), 1), normal(o, 2)];
        let inputs = if bias { &all[..] } else { &all[..2] };
        let then = Then {
            activation: if relu { Activation::Relu } else { Activation::Relu6 },
            pool: pool3d(windows, ceil),
        };
        for algorithm in ALGORITHMS {
            let options = Conv3d { padding, algorithm, ..Conv3d::default() };
            check(
                inputs,
                |i| {
                    let x = from_channels_first(&i[0])?;
                    to_channels_first(&channels_last::conv3d(&x, &i[1], i.get(2), &options, &then)?)
                },
                |i| {
                    let y = portable::conv3d(&i[0], &i[1], i.get(2), &options)?;
                    let y = portable::activate(&y, then.activation)?;
                    then.pool.map_or(Ok(y.clone()), |pool| portable::max_pool3d(&y, &pool))
                },
            );
        }
    }

    #[test]
    fn in_two_dimensions(
        (n, c, o) in (1usize..3, 1usize..20, 1usize..35),
        (h, w) in (3usize..12, 3usize..12),
        kernel in prop::sample::select(vec![1usize, 3, 5, 7]),
        stride in 1usize..3,
        (top, bottom, left, right) in (0usize..4, 0usize..4, 0usize..4, 0usize..4),
        window in 1usize..4,
    ) {
        let output = |size: usize, padding: usize| (size + padding).checked_sub(kernel).map(|room| room / stride + 1);
        let (Some(height), Some(width)) = (output(h, top + bottom), output(w, left + right)) else {
            return Ok(());
        };
        prop_assume!(height >= window && width >= window);
        let padding = Padding2d { top, bottom, left, right };
        let inputs = [distinct((n, c, h, w), 0), normal((o, c, kernel, kernel), 1), normal(o, 2)];
        let pool = Pool { kernel: [window; 2], stride: [window; 2], padding: [0; 2], ceil: true };
        let then = Then::relu((window > 1).then_some(pool));
        for algorithm in ALGORITHMS {
            let options = Conv2d { stride: [stride; 2], padding, groups: 1, algorithm };
            check(
                &inputs,
                |i| {
                    let x = from_channels_first(&i[0])?;
                    to_channels_first(&channels_last::conv2d(&x, &i[1], i.get(2), &options, &then)?)
                },
                |i| {
                    let y = portable::relu(&portable::conv2d(&i[0], &i[1], i.get(2), &options)?)?;
                    then.pool.map_or(Ok(y.clone()), |pool| portable::max_pool2d(&y, &pool))
                },
            );
        }
    }
}

#[test]
fn overlapping_windows_follow_in_a_pass_of_their_own() {
    let pool = Pool { kernel: [2, 3, 3], stride: [1, 2, 2], padding: [0, 1, 1], ceil: true };
    let then = Then::relu(Some(pool));
    let options = Conv3d { padding: [1; 3], ..Conv3d::default() };
    check(
        &[distinct((2, 3, 3, 6, 7), 0), normal((4, 3, 3, 3, 3), 1)],
        |i| {
            let x = from_channels_first(&i[0])?;
            to_channels_first(&channels_last::conv3d(&x, &i[1], None, &options, &then)?)
        },
        |i| portable::max_pool3d(&portable::relu(&portable::conv3d(&i[0], &i[1], None, &options)?)?, &pool),
    );
}

#[test]
fn errors_in_f32_are_the_stated_ones() {
    // The README's table: root mean square and largest, relative to the root mean square of the exact values.
    for (algorithm, rms, largest) in [
        (Algorithm::Direct, 1e-6, 1e-5),
        (Algorithm::Winograd(1), 1e-5, 1e-4),
        (Algorithm::Winograd(2), 1e-5, 2e-4),
        (Algorithm::Winograd(4), 3e-5, 6e-4),
    ] {
        let inputs = [normal((1, 64, 8, 12, 12), 0), normal((64, 64, 3, 3, 3), 1)];
        let inputs: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(DType::F32).unwrap()).collect();
        let exact: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(DType::F64).unwrap()).collect();
        let run = |inputs: &[Tensor], algorithm| {
            let options = Conv3d { padding: [1; 3], algorithm, ..Conv3d::default() };
            let function = |i: &[Tensor]| {
                let x = from_channels_first(&i[0])?;
                channels_last::conv3d(&x, &i[1], None, &options, &Then::default())
            };
            let (result, gradients) =
                gradients(inputs, function, |shape| normal(shape, 5).to_dtype(DType::F32).unwrap());
            [vec![result], gradients].concat()
        };
        let found = run(&inputs, algorithm);
        for (what, (found, exact)) in ["forward", "data gradient", "weight gradient"]
            .iter()
            .zip(found.iter().zip(run(&exact, Algorithm::Direct)))
        {
            let (found, exact) = (values(found), values(&exact));
            let scale = (exact.iter().map(|x| x * x).sum::<f64>() / exact.len() as f64).sqrt();
            let errors: Vec<f64> = found.iter().zip(&exact).map(|(a, b)| (a - b).abs() / scale).collect();
            let mean = (errors.iter().map(|x| x * x).sum::<f64>() / errors.len() as f64).sqrt();
            let most = errors.iter().fold(0.0, |most: f64, &x| most.max(x));
            eprintln!("{algorithm:?} {what}: rms {mean:.1e}, largest {most:.1e}");
            assert!(mean < rms && most < largest, "{algorithm:?} {what}: {mean:e} and {most:e}");
        }
    }
}

use candle_core::{DType, Tensor};
use dml_ops::channels_last::{self, depthwise_conv2d, mean_positions};
use dml_ops::{
    Activation, Conv2d, Conv3d, Lrn, LrnAlpha, Padding2d, Pool, Result, conv2d, conv3d, gru, linear,
    linear_relu, lrn, max_pool3d, order_violation, relu, relu6,
};

use crate::{gradients, normal, values};

/// The bits of the result and of all gradients, in f32, with this many threads.
fn bits(
    threads: usize,
    inputs: &[Tensor],
    function: &(dyn Fn(&[Tensor]) -> Result<Tensor> + Sync),
) -> Vec<Vec<f64>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let (result, gradients) = gradients(inputs, function, |shape| normal(shape, 77));
        gradients.iter().chain([&result]).map(values).collect()
    })
}

fn check(name: &str, inputs: &[Tensor], function: &(dyn Fn(&[Tensor]) -> Result<Tensor> + Sync)) {
    let inputs: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(DType::F32).unwrap()).collect();
    let one = bits(1, &inputs, function);
    for threads in [2, 3] {
        assert_eq!(one, bits(threads, &inputs, function), "{name} with {threads} threads");
    }
}

#[test]
fn change_no_bit() {
    let options = Conv3d { padding: [1; 3], ..Conv3d::default() };
    let inputs = [normal((5, 20, 3, 18, 17), 0), normal((19, 20, 3, 3, 3), 1), normal(19, 2)];
    check("conv3d", &inputs, &|i| conv3d(&i[0], &i[1], Some(&i[2]), &options));

    let padding = Padding2d { top: 1, bottom: 2, left: 0, right: 1 };
    let options = Conv2d { stride: [2, 1], padding, groups: 6, ..Conv2d::default() };
    let inputs = [normal((5, 6, 31, 33), 0), normal((6, 1, 3, 3), 1), normal(6, 2)];
    check("depthwise", &inputs, &|i| conv2d(&i[0], &i[1], Some(&i[2]), &options));
    let inputs = [normal((5, 31, 33, 70), 0), normal((70, 1, 5, 5), 1), normal(70, 2)];
    check("depthwise on channels last", &inputs, &|i| {
        depthwise_conv2d(&i[0], &i[1], Some(&i[2]), [2, 1], padding, Activation::Relu6)
    });
    let lrn_last = Lrn { size: 5, alpha: 0.1, beta: 0.75, k: 2.0, convention: LrnAlpha::Plain };
    check("lrn on channels last", &inputs[..1], &|i| channels_last::lrn(&i[0], &lrn_last));
    check("mean_positions", &inputs[..1], &|i| mean_positions(&i[0]));
    let inputs = [normal((5, 6, 31, 33), 0), normal((7, 6, 1, 1), 1)];
    check("pointwise", &inputs, &|i| conv2d(&i[0], &i[1], None, &Conv2d::default()));

    let inputs = [normal((17, 2300), 0), normal((517, 2300), 1), normal(517, 2)];
    check("linear", &inputs, &|i| linear(&i[0], &i[1], Some(&i[2])));
    check("linear_relu", &inputs, &|i| linear_relu(&i[0], &i[1], Some(&i[2])));

    let counts = [190, 101, 60];
    let inputs = [normal((351, 120), 0), normal((120, 40), 1)];
    check("gru", &inputs, &|i| gru(&i[0], &i[1], &counts));
    let inputs = [normal((17, 300), 0), normal((23, 300), 1)];
    check("order_violation", &inputs, &|i| order_violation(&i[0], &i[1]));

    let pool = Pool { kernel: [2; 3], stride: [2; 3], padding: [0; 3], ceil: true };
    check("max_pool3d", &[normal((5, 6, 3, 31, 33), 0)], &|i| max_pool3d(&i[0], &pool));
    let options = Lrn { size: 5, alpha: 0.1, beta: 0.75, k: 2.0, convention: LrnAlpha::Plain };
    check("lrn", &[normal((5, 16, 31, 33), 0)], &|i| lrn(&i[0], &options));
    check("relu", &[normal((5, 16, 31, 33), 0)], &|i| relu(&i[0]));
    check("relu6", &[normal((5, 16, 31, 33), 0)], &|i| relu6(&i[0]));
}

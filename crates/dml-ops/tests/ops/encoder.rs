//! The encoder layer: the kernel against candle's operations in f64, sequences alone and together, wrong arguments.

use candle_core::{DType, Tensor, Var};
use dml_ops::{Affine, EncoderActivation, EncoderLayer, EncoderWeights, RelativePositions};

use crate::{assert_close, normal, values};

const ACTIVATIONS: [EncoderActivation; 3] =
    [EncoderActivation::Gelu, EncoderActivation::GeluTanh, EncoderActivation::Relu];

fn weights(
    [hidden, between, heads]: [usize; 3],
    activation: EncoderActivation,
    dtype: DType,
) -> EncoderWeights {
    let affine = |shape: &[usize], sample| Affine {
        weight: normal(shape, sample).to_dtype(dtype).unwrap(),
        bias: normal(shape[0], sample + 10).to_dtype(dtype).unwrap(),
    };
    EncoderWeights {
        query: affine(&[hidden, hidden], 1),
        key: affine(&[hidden, hidden], 2),
        value: affine(&[hidden, hidden], 3),
        output: affine(&[hidden, hidden], 4),
        attention_norm: affine(&[hidden], 5),
        up: affine(&[between, hidden], 6),
        down: affine(&[hidden, between], 7),
        norm: affine(&[hidden], 8),
        heads,
        activation,
        epsilon: 1e-5,
    }
}

#[test]
fn the_kernel_is_the_composition() {
    let check = |sizes: [usize; 3], activation, lengths: &[usize]| {
        let x = normal((lengths.iter().sum(), sizes[0]), 9);
        let longest = lengths.iter().max().unwrap();
        for reach in [None, Some(*longest), Some(longest + 3)] {
            let bias = reach.map(|reach| normal((sizes[2], 2 * reach - 1), 20));
            let run = |dtype| {
                let layer = EncoderLayer::new(weights(sizes, activation, dtype)).unwrap();
                let bias = bias.as_ref().map(|bias| bias.to_dtype(dtype).unwrap());
                let positions = bias.as_ref().map(|by_distance| RelativePositions { by_distance });
                values(&layer.forward(&x.to_dtype(dtype).unwrap(), lengths, positions).unwrap())
            };
            let what = format!("{sizes:?}, {activation:?}, {lengths:?}, {reach:?}");
            assert_close(&what, &run(DType::F32), &run(DType::F64), 2e-4);
        }
    };
    for activation in ACTIVATIONS {
        check([8, 12, 2], activation, &[3]);
        check([15, 7, 3], activation, &[1, 5, 2]);
        // More than a group's tokens in one sequence, and in many.
        check([36, 40, 2], activation, &[110, 4]);
        check([36, 70, 1], activation, &[17; 9]);
    }
}

#[test]
fn sequences_do_not_see_each_other_by_a_bit() {
    let layer = EncoderLayer::new(weights([36, 70, 3], EncoderActivation::Gelu, DType::F32)).unwrap();
    let lengths = [4, 90, 1, 33, 33, 7];
    let x = normal((lengths.iter().sum(), 36), 9).to_dtype(DType::F32).unwrap();
    let all = layer.forward(&x, &lengths, None).unwrap();
    let mut start = 0;
    for length in lengths {
        let alone = layer.forward(&x.narrow(0, start, length).unwrap(), &[length], None).unwrap();
        assert_eq!(values(&alone), values(&all.narrow(0, start, length).unwrap()));
        start += length;
    }
    assert_eq!(layer.forward(&x.narrow(0, 0, 0).unwrap(), &[], None).unwrap().dims(), [0, 36]);
}

#[test]
fn wrong_arguments_are_named() {
    let check = |change: &dyn Fn(&mut EncoderWeights), part: &str| {
        let mut weights = weights([6, 4, 2], EncoderActivation::Gelu, DType::F32);
        change(&mut weights);
        let message = EncoderLayer::new(weights).err().unwrap().to_string();
        assert!(message.contains(part), "{message}");
    };
    check(&|w| w.heads = 4, "heads");
    check(&|w| w.heads = 0, "heads");
    check(&|w| w.key.weight = w.up.weight.clone(), "key");
    check(&|w| w.down.bias = w.up.bias.clone(), "down");
    let layer = EncoderLayer::new(weights([6, 4, 2], EncoderActivation::Gelu, DType::F32)).unwrap();
    let x = normal((5, 6), 1).to_dtype(DType::F32).unwrap();
    let check = |x: &Tensor, lengths: &[usize], distances: Option<usize>, part: &str| {
        let by_distance = distances.map(|n| normal((2, n), 2).to_dtype(DType::F32).unwrap());
        let positions = by_distance.as_ref().map(|by_distance| RelativePositions { by_distance });
        let message = layer.forward(x, lengths, positions).err().unwrap().to_string();
        assert!(message.contains(part), "{message}");
    };
    check(&x, &[4], None, "[4, 6]");
    check(&x, &[5], Some(7), "m at least 5");
    check(&x, &[2, 3], Some(6), "2 m - 1");
    check(Var::from_tensor(&x).unwrap().as_tensor(), &[5], None, "gradient");
}

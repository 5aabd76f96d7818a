//! Every public form, written by the original tools (see `golden/forms.py` and `golden/forms_python2.py`).
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use candle_core::{DType, Tensor};
use dml_import::{Imported, read_c3d, read_mean, read_npz, read_object, read_vgg_s};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The parameter's values, by the formula of `golden/networks.py`.
fn formula(name: &str, shape: &[usize]) -> Vec<f32> {
    let start = dml_rand::hash(name) as u32;
    let scale = match shape {
        [_] => 0.1,
        _ => (6.0 / shape[1..].iter().product::<usize>() as f64).sqrt(),
    };
    (0..shape.iter().product::<usize>() as u32)
        .map(|i| {
            let mut x = start.wrapping_add(i.wrapping_mul(0x9e37_79b1));
            x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
            x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
            (scale * (f64::from(x ^ (x >> 16)) / 2f64.powi(31) - 1.0)) as f32
        })
        .collect()
}

fn check_values(name: &str, tensor: &Tensor, shape: &[usize]) {
    assert_eq!((tensor.dims(), tensor.dtype()), (shape, DType::F32), "{name}");
    assert_eq!(tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(), formula(name, shape), "{name}");
}

fn check_network(imported: &Imported, source: &str, weights: &[(&str, &[usize])]) {
    assert!(imported.metadata["source"].starts_with(source), "{:?}", imported.metadata);
    assert_eq!(imported.metadata["input"], "BGR, 0 to 255, minus the mean");
    assert_eq!(imported.tensors.len(), 2 * weights.len(), "{:?}", imported.tensors.keys());
    assert!(imported.left_out.is_empty(), "{:?}", imported.left_out);
    for (layer, shape) in weights {
        for (name, shape) in [(format!("{layer}.weight"), *shape), (format!("{layer}.bias"), &shape[..1])] {
            check_values(&name, &imported.tensors[&name], shape);
        }
    }
}

#[test]
fn c3d() {
    let inner: &[usize] = &[2, 2, 3, 3, 3];
    let weights: [(&str, &[usize]); 11] = [
        ("conv1", &[2, 3, 3, 3, 3]),
        ("conv2", inner),
        ("conv3a", inner),
        ("conv3b", inner),
        ("conv4a", inner),
        ("conv4b", inner),
        ("conv5a", inner),
        ("conv5b", inner),
        ("fc6", &[3, 32]),
        ("fc7", &[3, 3]),
        ("fc8", &[4, 3]),
    ];
    for (file, source) in [
        ("c3d.pickle", "c3d.pickle"),
        ("c3d-pretrained.pth", "c3d-pretrained.pth"),
        ("c3d_model.pkl", "c3d_model.pkl"),
        ("c3d.caffemodel", "conv3d_deepnetA"),
    ] {
        check_network(&read_c3d(&golden(file)).unwrap(), source, &weights);
    }
}

#[test]
fn vgg_s() {
    let inner: &[usize] = &[2, 2, 3, 3];
    let weights: [(&str, &[usize]); 8] = [
        ("conv1", &[2, 3, 7, 7]),
        ("conv2", &[2, 2, 5, 5]),
        ("conv3", inner),
        ("conv4", inner),
        ("conv5", inner),
        ("fc6", &[3, 72]),
        ("fc7", &[3, 3]),
        ("fc8", &[4, 3]),
    ];
    for (file, source) in [
        ("vgg_cnn_s.caffemodel", "VGG_CNN_S.caffemodel"),
        ("vgg_cnn_s-v2.caffemodel", "VGG_CNN_S.caffemodel"),
        ("vgg_cnn_s.pkl", "vgg_cnn_s.pkl"),
        ("vgg_cnn_s-3.pkl", "vgg_cnn_s.pkl"),
        ("vgg_cnn_s-4.pkl", "vgg_cnn_s.pkl"),
    ] {
        check_network(&read_vgg_s(&golden(file)).unwrap(), source, &weights);
    }
}

#[test]
fn means() {
    for (file, shape) in [
        ("cube.npy", &[3, 2, 4, 5][..]),
        ("cube-1.npy", &[3, 2, 4, 5]),
        ("cube.binaryproto", &[3, 2, 4, 5]),
        ("image.binaryproto", &[3, 4, 5]),
        ("vgg_cnn_s.pkl", &[3, 4, 5]),
        ("vgg_cnn_s-4.pkl", &[3, 4, 5]),
    ] {
        let mean = &read_mean(&golden(file)).unwrap().tensors["mean"];
        // The file with a one in front has the values of that shape.
        let formula_of: Vec<usize> = if file == "cube-1.npy" { vec![1, 3, 2, 4, 5] } else { shape.to_vec() };
        assert_eq!(mean.dims(), shape, "{file}");
        check_values("mean", &mean.reshape(formula_of.as_slice()).unwrap(), &formula_of);
    }
    let error = read_mean(&golden("c3d_model.pkl")).unwrap_err().to_string();
    assert!(error.contains("c3d_model.pkl") && error.contains("no \"mean image\""), "{error}");
}

#[test]
fn order_embeddings() {
    let arrays = read_npz(&golden("order.npz")).unwrap();
    for (name, shape) in [
        ("Wemb", &[6, 4][..]),
        ("encoder_W", &[4, 6]),
        ("encoder_b", &[6]),
        ("encoder_U", &[3, 6]),
        ("encoder_Wx", &[4, 3]),
        ("encoder_Ux", &[3, 3]),
        ("encoder_bx", &[3]),
        ("ff_image_W", &[5, 3]),
        ("ff_image_b", &[3]),
    ] {
        check_values(name, &arrays[name], shape);
    }
    assert_eq!(arrays.len(), 9);
    let expected = serde_json::json!({
        "options": {"dim": 3, "dim_word": 4, "abs": true, "margin": 0.05, "n_words": 6, "encoder": "gru",
                    "load_from": null, "big": 1u64 << 40, "long": 7, "list": [1, 2.5], "cnn": "10crop"},
        "worddict": {"a": 2, "dog's": 3, "café € 😀": 4, "tab\there \"\\\" é": 5},
    });
    for protocol in 0..=4 {
        assert_eq!(read_object(&golden(&format!("order-{protocol}.pkl"))).unwrap(), expected, "{protocol}");
    }
}

#[test]
#[allow(clippy::print_stderr)]
fn the_published_efficientnet_lite0_is_read() {
    let folder = std::env::var_os("DML_WEIGHTS").map(PathBuf::from);
    let Some(file) = folder.map(|folder| folder.join("efficientnet-lite0.pth")).filter(|file| file.is_file())
    else {
        return eprintln!("left out, as DML_WEIGHTS names no folder with efficientnet-lite0.pth");
    };
    let tensors = dml_import::read_torch(&file).unwrap();
    for (name, shape) in [
        ("_conv_stem.weight", &[32, 3, 3, 3][..]),
        ("_blocks.0._depthwise_conv.weight", &[32, 1, 3, 3]),
        ("_blocks.15._project_conv.weight", &[320, 1152, 1, 1]),
        ("_conv_head.weight", &[1280, 320, 1, 1]),
        ("_bn1.running_var", &[1280]),
        ("_fc.weight", &[1000, 1280]),
        ("_fc.bias", &[1000]),
    ] {
        let values = tensors[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(tensors[name].dims(), shape, "{name}");
        assert!(values.iter().all(|x| x.is_finite()) && values.iter().any(|x| *x != 0.0), "{name}");
        assert!(!name.ends_with("running_var") || values.iter().all(|x| *x > 0.0), "{name}");
    }
    let floats = tensors.values().filter(|tensor| tensor.dtype().is_float());
    // The parameters that are published, and means and variances of the channels.
    assert_eq!(floats.map(Tensor::elem_count).sum::<usize>(), 4_652_008 + 42_016);
}

#[test]
fn files_that_are_something_else_are_told() {
    let check = |result: dml_import::Result<Imported>, parts: &[&str]| {
        let message = result.unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "\"{message}\" does not say \"{part}\"");
        }
    };
    let vgg = golden("vgg_cnn_s.caffemodel");
    check(
        read_c3d(&vgg),
        &["vgg_cnn_s.caffemodel", "no known source of C3D", "conv1.0", "conv1a.0", "features.0.weight"],
    );
    check(read_c3d(&golden("vgg_cnn_s.pkl")), &["0.W", "fewer than 5 axes"]);
    check(read_vgg_s(&golden("c3d_model.pkl")), &["0.W", "[2, 3, 3, 3, 3] has more than 4 axes"]);
    check(read_vgg_s(&golden("c3d.pickle")), &["no known source of VGG-S"]);
    check(read_c3d(&golden("cube.npy")), &["neither a torch file nor a pickle"]);
    check(read_mean(&golden("order.npz")), &["not a blob"]);
    check(read_c3d(&golden("no such file")), &["no such file"]);
}

/// A file with some of its layers, as a cut between two of them leaves it.
#[test]
fn a_caffemodel_with_a_wrong_number_of_layers_is_refused() {
    let file = std::fs::read(golden("c3d.caffemodel")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.caffemodel");
    let (mut cuts, mut names) = (0, Vec::new());
    for length in 0..file.len() {
        std::fs::write(&path, &file[..length]).unwrap();
        match read_c3d(&path) {
            Ok(imported) => names.push(imported.tensors.len()),
            Err(error) => cuts += usize::from(error.to_string().contains("not the whole of conv3d_deepnetA")),
        }
    }
    // Whole but for fc8, and whole but for the ReLU that comes last; every other whole number of layers is told.
    assert!(cuts >= 9 && names.iter().all(|&n| n == 20 || n == 22), "{cuts} {names:?}");
}

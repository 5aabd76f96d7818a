//! Parameters, checkpoints and the network for several tasks, from outside.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use dml_model::{
    HeadConfig, Mode, ModelError, MultiTaskNet, NetConfig, Params, RootConfig, load_metadata,
    load_safetensors, save_safetensors,
};
use dml_ops::RowKeys;

fn config() -> NetConfig {
    NetConfig {
        root: RootConfig::Features { input: 6, hidden: 5, dropout: 0.5 },
        heads: [
            ("action".to_string(), HeadConfig::Classes { classes: 3 }),
            ("labels".to_string(), HeadConfig::MultiLabel { classes: 4 }),
            ("sentence".to_string(), HeadConfig::Embedding { dim: 2 }),
        ]
        .into(),
    }
}

fn net(seed: u64) -> (Params, MultiTaskNet) {
    let params = Params::new(seed, &Device::Cpu);
    let net = MultiTaskNet::new(&config(), params.builder()).unwrap();
    (params, net)
}

fn input() -> Tensor {
    Tensor::arange(0f32, 12., &Device::Cpu).unwrap().reshape((2, 6)).unwrap()
}

fn keys() -> RowKeys {
    RowKeys { seed: 1, epoch: 0, samples: vec![10, 11] }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn all_values(tensors: &BTreeMap<String, Tensor>) -> BTreeMap<String, Vec<f64>> {
    tensors.iter().map(|(name, tensor)| (name.clone(), values(tensor))).collect()
}

/// One step of plain descent on a head's answers, so that all parameters of root and head move.
fn step(params: &Params, net: &MultiTaskNet, head: &str) {
    let features = net.features(&input(), &Mode::Eval).unwrap();
    let loss = net.head(head, &features).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();
    for (_, var) in params.vars() {
        if let Some(gradient) = gradients.get(&var) {
            var.set(&(var.as_tensor() - (gradient * 0.1).unwrap()).unwrap()).unwrap();
        }
    }
}

#[test]
fn shapes_and_names() {
    let (params, net) = net(0);
    let features = net.features(&input(), &Mode::Train(&keys())).unwrap();
    assert_eq!(features.dims(), [2, 5]);
    for (head, outputs) in [("action", 3), ("labels", 4), ("sentence", 2)] {
        assert_eq!(net.head(head, &features).unwrap().dims(), [2, outputs]);
    }
    let names: Vec<String> = params.vars().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "head.action.bias",
            "head.action.weight",
            "head.labels.bias",
            "head.labels.weight",
            "head.sentence.bias",
            "head.sentence.weight",
            "root.fc6.bias",
            "root.fc6.weight",
            "root.fc7.bias",
            "root.fc7.weight",
        ]
    );
    assert_eq!(
        net.head("nothing", &features).unwrap_err().to_string(),
        r#"the network has no head "nothing"; it has ["action", "labels", "sentence"]"#
    );
    let error = net.features(&input().reshape((3, 4)).unwrap(), &Mode::Eval).unwrap_err();
    assert!(matches!(error, ModelError::Input { .. }), "{error}");
}

#[test]
fn initial_values_depend_on_seed_and_name_alone() {
    let (params, _) = net(5);
    let same = net(5).0;
    assert_eq!(all_values(&params.tensors()), all_values(&same.tensors()));
    let other = net(6).0;
    // Another order of creation, and fewer heads.
    let reversed = Params::new(5, &Device::Cpu);
    reversed.builder().pp("head.sentence").get_with_hints((2, 5), "weight", uniform(5)).unwrap();
    for (name, tensor) in reversed.tensors() {
        assert_eq!(values(&tensor), values(&params.tensors()[&name]));
        assert_ne!(values(&tensor), values(&other.tensors()[&name]));
    }
    // f64 holds the same draws.
    let double = Params::with_dtype(5, DType::F64, &Device::Cpu);
    MultiTaskNet::new(&config(), double.builder()).unwrap();
    for (name, tensor) in double.tensors() {
        let single = values(&params.tensors()[&name]);
        assert!(values(&tensor).iter().zip(single).all(|(a, b)| (a - b).abs() < 1e-7), "{name}");
    }
}

fn uniform(fan_in: usize) -> candle_nn::Init {
    let bound = (fan_in as f64).sqrt().recip();
    candle_nn::Init::Uniform { lo: -bound, up: bound }
}

#[test]
fn layers_start_as_pytorchs_linear() {
    let config =
        NetConfig { root: RootConfig::Features { input: 400, hidden: 100, dropout: 0.0 }, ..config() };
    let params = Params::new(1, &Device::Cpu);
    MultiTaskNet::new(&config, params.builder()).unwrap();
    let weight = values(&params.tensors()["root.fc6.weight"]);
    // Uniform in ±1/√400: the largest of 40 000 draws is close to the bound, the variance is bound²/3.
    let largest = weight.iter().fold(0f64, |largest, value| largest.max(value.abs()));
    assert!(largest <= 0.05 && largest > 0.0499, "{largest}");
    let variance = weight.iter().map(|value| value * value).sum::<f64>() / weight.len() as f64;
    assert!((variance / (0.05f64.powi(2) / 3.0) - 1.0).abs() < 0.02, "{variance}");
    let bias = values(&params.tensors()["root.fc6.bias"]);
    assert!(bias.iter().all(|value| value.abs() <= 0.05) && bias.iter().any(|&value| value != 0.0));
}

#[test]
fn dropout_is_for_training_and_keyed_by_sample() {
    let (_, net) = net(0);
    let once = net.features(&input(), &Mode::Train(&keys())).unwrap();
    assert_eq!(values(&once), values(&net.features(&input(), &Mode::Train(&keys())).unwrap()));
    let eval = net.features(&input(), &Mode::Eval).unwrap();
    assert_ne!(values(&once), values(&eval));
    // A sample's mask does not depend on its place in the batch.
    let swapped = input().index_select(&Tensor::new(&[1u32, 0], &Device::Cpu).unwrap(), 0).unwrap();
    let keys = RowKeys { samples: vec![11, 10], ..keys() };
    let swapped = net.features(&swapped, &Mode::Train(&keys)).unwrap();
    assert_eq!(values(&swapped.get(0).unwrap()), values(&once.get(1).unwrap()));
}

#[test]
fn dropout_follows_both_layers() {
    let config = NetConfig { root: RootConfig::Features { input: 6, hidden: 200, dropout: 0.5 }, ..config() };
    let net = MultiTaskNet::new(&config, Params::new(0, &Device::Cpu).builder()).unwrap();
    let eval = values(&net.features(&input(), &Mode::Eval).unwrap());
    let train = values(&net.features(&input(), &Mode::Train(&keys())).unwrap());
    let alive: Vec<(f64, f64)> = eval.into_iter().zip(train).filter(|(eval, _)| *eval > 0.0).collect();
    let dropped = alive.iter().filter(|(_, train)| *train == 0.0).count() as f64 / alive.len() as f64;
    assert!((0.35..0.8).contains(&dropped), "after fc7: {dropped}");
    // Were fc6 whole, what fc7 keeps would be twice its value in evaluation.
    assert!(alive.iter().all(|(eval, train)| *train == 0.0 || (train - 2.0 * eval).abs() > 1e-6 * eval));
}

#[test]
fn a_frozen_copy_stays_while_training_goes_on() {
    let (params, net) = net(2);
    let answer = |net: &MultiTaskNet| {
        let features = net.features(&input(), &Mode::Eval).unwrap();
        net.head("action", &features).unwrap()
    };
    let copy = MultiTaskNet::frozen_copy(&config(), &params).unwrap();
    let before = values(&answer(&net));
    assert_eq!(values(&answer(&copy)), before);
    step(&params, &net, "action");
    assert_ne!(values(&answer(&net)), before);
    assert_eq!(values(&answer(&copy)), before);
    let gradients = answer(&copy).sum_all().unwrap().backward().unwrap();
    assert!(params.vars().iter().all(|(_, var)| gradients.get(var).is_none()));
}

#[test]
fn frozen_parameters_get_no_gradient_and_follow_the_values() {
    let (params, net) = net(2);
    let half = MultiTaskNet::new(&config(), params.builder_frozen(&["root."])).unwrap();
    step(&params, &net, "action");
    let features = half.features(&input(), &Mode::Eval).unwrap();
    assert_eq!(values(&features), values(&net.features(&input(), &Mode::Eval).unwrap()));
    let gradients = half.head("action", &features).unwrap().sum_all().unwrap().backward().unwrap();
    let learns: Vec<String> = params
        .vars()
        .into_iter()
        .filter(|(_, var)| gradients.get(var).is_some())
        .map(|(name, _)| name)
        .collect();
    assert_eq!(learns, ["head.action.bias", "head.action.weight"]);
    assert_eq!(params.vars_except(&["root.", "head.labels"]).len(), 4);
}

#[test]
fn what_is_saved_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let (params, net) = net(3);
    step(&params, &net, "sentence");
    let metadata: BTreeMap<String, String> =
        ["b", "a", "ü \"quoted\"\n", "z", "y", "x"].map(|key| (key.to_string(), format!("{key}!"))).into();
    save_safetensors(&path, &params.tensors(), &metadata).unwrap();
    assert_eq!(load_metadata(&path).unwrap(), metadata);

    let (other, _) = self::net(4);
    assert_ne!(all_values(&other.tensors()), all_values(&params.tensors()));
    other.load(load_safetensors(&path, &Device::Cpu).unwrap()).unwrap();
    assert_eq!(all_values(&other.tensors()), all_values(&params.tensors()));

    // The same tensors are the same bytes, over an older file too, and nothing else is left in the folder.
    let bytes = std::fs::read(&path).unwrap();
    save_safetensors(&path, &other.tensors(), &metadata).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    // Into another type, and from the parameters' own tensors.
    let double = Params::with_dtype(0, DType::F64, &Device::Cpu);
    MultiTaskNet::new(&config(), double.builder()).unwrap();
    double.load(params.tensors()).unwrap();
    assert_eq!(all_values(&double.tensors()), all_values(&params.tensors()));
    params.load(params.tensors()).unwrap();
}

#[test]
fn all_types_survive_and_are_aligned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mixed.safetensors");
    let base = Tensor::arange(0f32, 6., &Device::Cpu).unwrap().reshape((2, 3)).unwrap();
    let tensors: BTreeMap<String, Tensor> =
        [DType::U8, DType::F64, DType::F16, DType::I64, DType::U32, DType::BF16, DType::F32]
            .into_iter()
            .map(|dtype| (dtype.as_str().to_string(), base.t().unwrap().to_dtype(dtype).unwrap()))
            .chain([("scalar".to_string(), Tensor::new(7i64, &Device::Cpu).unwrap())])
            .chain([("empty".to_string(), Tensor::zeros((0, 2), DType::F32, &Device::Cpu).unwrap())])
            .collect();
    save_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
    let loaded = load_safetensors(&path, &Device::Cpu).unwrap();
    assert!(loaded.keys().eq(tensors.keys()));
    for (name, tensor) in &tensors {
        assert_eq!((loaded[name].dtype(), loaded[name].dims()), (tensor.dtype(), tensor.dims()));
        assert_eq!(values(&loaded[name]), values(tensor), "{name}");
    }
    let empty = folder.path().join("empty.safetensors");
    save_safetensors(&empty, &BTreeMap::new(), &BTreeMap::new()).unwrap();
    assert!(load_safetensors(&empty, &Device::Cpu).unwrap().is_empty());
}

#[test]
fn damaged_and_missing_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    assert!(matches!(load_safetensors(&path, &Device::Cpu), Err(ModelError::Io { .. })));
    save_safetensors(&path, &net(0).0.tensors(), &BTreeMap::new()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for cut in [0, 7, 8, 100, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let error = load_safetensors(&path, &Device::Cpu).unwrap_err();
        assert!(matches!(error, ModelError::Checkpoint { .. }), "{error}");
        assert!(error.to_string().contains("model.safetensors: not a safetensors file"), "{error}");
    }
    let nowhere = folder.path().join("none").join("model.safetensors");
    assert!(matches!(
        save_safetensors(&nowhere, &BTreeMap::new(), &BTreeMap::new()),
        Err(ModelError::Io { .. })
    ));
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused_whole() {
    let (params, _) = net(0);
    let before = all_values(&params.tensors());
    let mut wrong = net(1).0.tensors();
    wrong.remove("root.fc6.bias");
    wrong.remove("head.action.bias");
    wrong.insert("root.fc8.weight".into(), input());
    wrong.insert("root.fc7.bias".into(), input());
    wrong.insert("root.fc7.weight".into(), Tensor::zeros((5, 5), DType::U32, &Device::Cpu).unwrap());
    let error = params.load(wrong).unwrap_err().to_string();
    assert_eq!(
        error,
        "the checkpoint does not fit the network:\n\
         2 missing:\n  head.action.bias\n  root.fc6.bias\n\
         1 extra:\n  root.fc8.weight\n\
         2 mis-shaped:\n  root.fc7.bias: [2, 6] in the checkpoint, [5] in the network\n  \
         root.fc7.weight: holds u32 values, not floating-point"
    );
    assert_eq!(all_values(&params.tensors()), before);
}

#[test]
fn a_root_is_loaded_alone() {
    let (params, _) = net(0);
    let before = all_values(&params.tensors());
    let root: BTreeMap<String, Tensor> = net(1)
        .0
        .tensors()
        .into_iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix("root.")?.to_string(), tensor)))
        .collect();
    params.load_under("root", root.clone()).unwrap();
    let after = all_values(&params.tensors());
    for (name, values) in &after {
        assert_eq!(values == &before[name], name.starts_with("head."), "{name}");
    }
    let mut wrong = root;
    wrong.remove("fc6.weight");
    wrong.insert("fc8.weight".into(), input());
    let error = params.load_under("root", wrong).unwrap_err().to_string();
    assert!(error.contains("1 missing:\n  root.fc6.weight\n1 extra:\n  root.fc8.weight"), "{error}");
}

#[test]
fn configurations_are_data() {
    let json = r#"{
        "root": { "kind": "small-clip", "frames": 8, "size": 16, "channels": [2, 3, 4], "hidden": 6 },
        "heads": { "action": { "kind": "classes", "classes": 3 }, "sentence": { "kind": "embedding", "dim": 2 } }
    }"#;
    let config: NetConfig = serde_json::from_str(json).unwrap();
    assert_eq!(
        config.root,
        RootConfig::SmallClip { frames: 8, size: 16, channels: [2, 3, 4], hidden: 6, dropout: 0.5 }
    );
    let again: NetConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
    let net = MultiTaskNet::new(&config, Params::new(0, &Device::Cpu).builder()).unwrap();
    assert_eq!((net.input_shape(), net.feature_dim()), (vec![3, 8, 16, 16], 6));
    for (kind, root) in [
        ("vgg-s", RootConfig::VggS { dropout: 0.5 }),
        ("c3d", RootConfig::C3d { dropout: 0.5 }),
        ("efficientnet-lite0", RootConfig::EfficientNetLite0 { size: 224, hidden: 8, dropout: 0.5 }),
    ] {
        let json = serde_json::to_string(&root).unwrap();
        assert!(json.contains(&format!(r#""kind":"{kind}""#)), "{json}");
    }
    for wrong in [
        r#"{ "kind": "c3d", "drop": 0.5 }"#,
        r#"{ "kind": "c4d" }"#,
        r#"{ "kind": "features", "input": 3 }"#,
        r#"{ "kind": "features", "input": 3, "hidden": -1 }"#,
    ] {
        assert!(serde_json::from_str::<RootConfig>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn impossible_heads_are_refused() {
    for (name, head, problem) in [
        ("", HeadConfig::Classes { classes: 2 }, "cannot name a head"),
        ("a.b", HeadConfig::Classes { classes: 2 }, "cannot name a head"),
        ("a", HeadConfig::Embedding { dim: 0 }, "is 0"),
    ] {
        let config = NetConfig { heads: [(name.to_string(), head)].into(), ..config() };
        let error =
            MultiTaskNet::new(&config, Params::new(0, &Device::Cpu).builder()).err().unwrap().to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn features_at_fc6_are_what_fc7_takes() {
    let (params, net) = net(4);
    let tensors = params.tensors();
    let layer = |x: &Tensor, name: &str| {
        let weight = &tensors[&format!("root.{name}.weight")];
        let bias = &tensors[&format!("root.{name}.bias")];
        let sums = x.matmul(&weight.t().unwrap()).unwrap().broadcast_add(bias).unwrap();
        sums.maximum(0f32).unwrap()
    };
    let fc6 = layer(&input(), "fc6");
    let check = |found: Tensor, expected: &Tensor| {
        for (found, expected) in values(&found).iter().zip(values(expected)) {
            assert!((found - expected).abs() < 1e-6 * expected.abs().max(1.0), "{found}, not {expected}");
        }
    };
    check(net.fc6(&input()).unwrap(), &fc6);
    check(net.features(&input(), &Mode::Eval).unwrap(), &layer(&fc6, "fc7"));
}

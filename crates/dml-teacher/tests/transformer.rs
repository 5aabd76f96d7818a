//! SentenceTransformer: the real weights against PyTorch, where they are on this machine, and wrong models.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use dml_teacher::{SentenceEncoder, SentenceTransformer, find_sentence_transformer};
use serde::Deserialize;
use tempfile::TempDir;

#[derive(Deserialize)]
struct Golden {
    sentences: Vec<String>,
    /// (n, 16)
    vectors: Vec<Vec<f32>>,
    /// (n, n)
    products: Vec<Vec<f32>>,
}

/// The folder of all-MiniLM-L6-v2, if it is on this machine.
fn minilm() -> Option<PathBuf> {
    let weights = std::env::var_os("DML_WEIGHTS").map(PathBuf::from);
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|base| !base.is_empty()).map(PathBuf::from);
    let cache =
        base.or_else(|| Some(std::env::home_dir()?.join(".cache"))).map(|base| base.join("dml-weights"));
    let found = [weights, cache]
        .into_iter()
        .flatten()
        .map(|dir| dir.join("all-MiniLM-L6-v2"))
        .find(|dir| dir.is_dir());
    if found.is_none() {
        eprintln!("left out, as all-MiniLM-L6-v2 is neither in DML_WEIGHTS nor in the user's cache");
    }
    found
}

fn rows(vectors: &Tensor) -> Vec<Vec<f32>> {
    vectors.to_vec2().unwrap()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

#[test]
fn minilm_gives_the_vectors_of_pytorch() {
    let Some(dir) = minilm() else { return };
    let encoder = SentenceTransformer::from_dir(&dir, &Device::Cpu).unwrap();
    assert_eq!((encoder.name(), encoder.dim()), ("all-MiniLM-L6-v2", 384));
    let golden: Golden = serde_json::from_str(include_str!("golden/minilm.json")).unwrap();
    assert_eq!(golden.sentences.len(), 6);
    let sentences: Vec<&str> = golden.sentences.iter().map(String::as_str).collect();
    let vectors = rows(&encoder.encode(&sentences).unwrap());
    let products: Vec<Vec<f32>> = vectors
        .iter()
        .map(|a| vectors.iter().map(|b| a.iter().zip(b).map(|(x, y)| x * y).sum()).collect())
        .collect();
    for i in 0..sentences.len() {
        assert!(
            distance(&vectors[i][..16], &golden.vectors[i]) < 1e-5,
            "sentence {i}: {:?}",
            &vectors[i][..16]
        );
        assert!(distance(&products[i], &golden.products[i]) < 1e-5, "sentence {i}: {:?}", products[i]);
    }
    // The longest is padding for the others: none may notice.
    for (sentence, row) in sentences.iter().zip(&vectors) {
        let alone = rows(&encoder.encode(&[sentence]).unwrap());
        assert!(distance(&alone[0], row) < 1e-5, "{sentence}: {}", distance(&alone[0], row));
    }
}

#[test]
fn minilm_is_found() {
    let Some(dir) = minilm() else { return };
    let found = find_sentence_transformer(None).unwrap();
    assert_eq!(found.canonicalize().unwrap(), dir.canonicalize().unwrap());
}

#[test]
fn a_folder_asked_for_by_name_must_be_there() {
    let message = find_sentence_transformer(Some("no/such/folder".as_ref())).unwrap_err().to_string();
    assert!(message.contains("no/such/folder"), "{message}");
    let dir = TempDir::new().unwrap();
    assert_eq!(find_sentence_transformer(Some(dir.path())).unwrap(), dir.path());
}

/// A model of one layer and eight dimensions with made-up weights, in the layout of sentence-transformers.
fn tiny(dir: &Path) {
    let vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "cat", "runs", "A"];
    let vocabulary: HashMap<_, _> = vocabulary.iter().enumerate().map(|(id, token)| (*token, id)).collect();
    let special = |token: &str, id: usize| {
        serde_json::json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                           "normalized": false, "special": true})
    };
    let tokenizer = serde_json::json!({
        "version": "1.0",
        "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 4}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [special("[PAD]", 0), special("[UNK]", 1), special("[CLS]", 2), special("[SEP]", 3)],
        "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    });
    let config = serde_json::json!({
        "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 6, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "max_position_embeddings": 12,
        "type_vocab_size": 2, "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0,
        "model_type": "bert",
    });
    let modules = r#"[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                      {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]"#;
    fs::create_dir_all(dir.join("1_Pooling")).unwrap();
    fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    fs::write(dir.join("modules.json"), modules).unwrap();
    fs::write(dir.join("1_Pooling/config.json"), r#"{"pooling_mode_mean_tokens": true}"#).unwrap();
    fs::write(dir.join("sentence_bert_config.json"), r#"{"max_seq_length": 8, "do_lower_case": true}"#)
        .unwrap();

    let mut stream = dml_rand::Stream::new(0, dml_rand::Purpose::Test, 0, 0);
    let mut tensors = HashMap::new();
    let mut add = |name: &str, shape: &[usize]| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| stream.normal() as f32).collect();
        tensors.insert(name.to_owned(), Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
    };
    for (name, n) in [("word", 9), ("position", 12), ("token_type", 2)] {
        add(&format!("embeddings.{name}_embeddings.weight"), &[n, 8]);
    }
    let layer = "encoder.layer.0";
    for norm in ["embeddings", &format!("{layer}.attention.output"), &format!("{layer}.output")] {
        add(&format!("{norm}.LayerNorm.weight"), &[8]);
        add(&format!("{norm}.LayerNorm.bias"), &[8]);
    }
    for (name, to, from) in [
        ("attention.self.query", 8, 8),
        ("attention.self.key", 8, 8),
        ("attention.self.value", 8, 8),
        ("attention.output.dense", 8, 8),
        ("intermediate.dense", 6, 8),
        ("output.dense", 8, 6),
    ] {
        add(&format!("{layer}.{name}.weight"), &[to, from]);
        add(&format!("{layer}.{name}.bias"), &[to]);
    }
    candle_core::safetensors::save(&tensors, dir.join("model.safetensors")).unwrap();
}

/// Loads the small model after this change to its folder.
fn tiny_after(change: impl Fn(&Path)) -> dml_teacher::Result<SentenceTransformer> {
    let dir = TempDir::new().unwrap();
    tiny(dir.path());
    change(dir.path());
    SentenceTransformer::from_dir(dir.path(), &Device::Cpu)
}

#[test]
fn rows_keep_their_order_and_do_not_depend_on_the_batch() {
    let encoder = tiny_after(|_| ()).unwrap();
    let words = ["a", "dog", "cat", "runs"];
    // More than one batch, of all lengths from 1 word to beyond the limit, in no order of length.
    let sentences: Vec<String> = (0..80)
        .map(|i| (0..1 + i * 7 % 10).map(|j| words[(i + j * j) % 4]).collect::<Vec<_>>().join(" "))
        .collect();
    let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();
    let vectors = encoder.encode(&sentences).unwrap();
    assert_eq!(vectors.dims(), [80, 8]);
    for (sentence, row) in sentences.iter().zip(rows(&vectors)) {
        let alone = rows(&encoder.encode(&[sentence]).unwrap());
        assert!(distance(&alone[0], &row) < 1e-5, "{sentence}: {row:?}, alone {:?}", alone[0]);
        assert!((row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }
    assert_eq!(encoder.encode(&[]).unwrap().dims(), [0, 8]);
}

#[test]
fn sentences_are_lower_cased_and_cut_as_configured() {
    let encoder = tiny_after(|_| ()).unwrap();
    let equal = |a: &str, b: &str| {
        let both = rows(&encoder.encode(&[a, b]).unwrap());
        distance(&both[0], &both[1]) < 1e-5
    };
    assert!(equal("A DOG runs", "a dog runs"));
    assert!(!equal("a dog", "a cat"));
    // Eight tokens with the two special ones: the seventh word is not seen, the sixth is (not cut at 4, as the
    // tokenizer's own file says).
    assert!(equal("a dog runs a dog cat runs", "a dog runs a dog cat a dog"));
    assert!(!equal("a dog runs a dog cat", "a dog runs a dog a"));
    let cased = tiny_after(|dir| fs::remove_file(dir.join("sentence_bert_config.json")).unwrap()).unwrap();
    let both = rows(&cased.encode(&["a dog", "A dog"]).unwrap());
    assert!(distance(&both[0], &both[1]) > 1e-3);
}

#[test]
fn a_plain_bert_and_a_newer_pooling_file_will_do() {
    let vector = |change: &dyn Fn(&Path)| rows(&tiny_after(change).unwrap().encode(&["a dog runs"]).unwrap());
    let expected = vector(&|_| ());
    assert_eq!(vector(&|dir| fs::remove_file(dir.join("modules.json")).unwrap()), expected);
    let newer = r#"{"embedding_dimension": 8, "pooling_mode": "mean"}"#;
    assert_eq!(vector(&|dir| fs::write(dir.join("1_Pooling/config.json"), newer).unwrap()), expected);
}

#[test]
fn wrong_models_are_refused() {
    fn check(change: impl Fn(&Path), parts: &[&str]) {
        let message = tiny_after(change).err().expect("an error").to_string();
        for part in parts {
            assert!(message.contains(part), "\"{message}\" does not say \"{part}\"");
        }
    }
    let write =
        |file: &'static str, text: &'static str| move |dir: &Path| fs::write(dir.join(file), text).unwrap();
    let edit = |file: &'static str, from: &'static str, to: &'static str| {
        move |dir: &Path| {
            let text = fs::read_to_string(dir.join(file)).unwrap();
            assert!(text.contains(from), "{text}");
            fs::write(dir.join(file), text.replace(from, to)).unwrap();
        }
    };
    let pooling = "1_Pooling/config.json";
    check(
        write(pooling, r#"{"pooling_mode_weightedmean_tokens": true}"#),
        &[pooling, "weightedmean", "mean"],
    );
    check(write(pooling, r#"{"pooling_mode": "lasttoken"}"#), &[pooling, "lasttoken"]);
    check(write(pooling, r#"{"pooling_mode_mean_tokens": false}"#), &[pooling, "not implemented"]);
    check(edit("modules.json", "models.Pooling", "models.Dense"), &["modules.json", "Dense"]);
    check(edit("config.json", "\"bert\"", "\"t5\""), &["config.json", "t5", "mpnet"]);
    let relative = "\"absolute\"".replace("absolute", "relative_key");
    let kind = format!("\"model_type\":\"bert\",\"position_embedding_type\":{relative}");
    check(edit("config.json", "\"model_type\":\"bert\"", kind.leak()), &["config.json", "relative_key"]);
    let prompt = r#"{"prompts": {}, "default_prompt_name": "query"}"#;
    check(
        write("config_sentence_transformers.json", prompt),
        &["config_sentence_transformers.json", "query"],
    );
    check(
        edit("config.json", "\"num_attention_heads\":2", "\"num_attention_heads\":3"),
        &["config.json", "3 attention"],
    );
    check(edit("config.json", "\"hidden_size\":8", "\"hidden_size\":4"), &["model.safetensors", "shape"]);
    check(edit("config.json", "\"vocab_size\":9", "\"vocab_size\":5"), &["tokenizer.json", "9 tokens", "5"]);
    check(edit("config.json", "gelu", "swish"), &["config.json", "swish"]);
    check(write("tokenizer.json", "{}"), &["tokenizer.json"]);
    check(write("model.safetensors", "abc"), &["model.safetensors"]);
    check(write("sentence_bert_config.json", r#"{"max_seq_length": 2}"#), &["max_seq_length 2"]);
    for file in ["config.json", "tokenizer.json", "model.safetensors", pooling] {
        check(|dir| fs::remove_file(dir.join(file)).unwrap(), &[file, "No such file"]);
    }
    let message = SentenceTransformer::from_dir("no/such".as_ref(), &Device::Cpu).err().unwrap().to_string();
    assert!(message.contains("no/such"), "{message}");
    let error = tiny_after(|_| ()).unwrap().encode(&["a dog", " "]).unwrap_err().to_string();
    assert!(error.contains("sentence 1"), "{error}");
}

#[test]
fn fingerprint_changes_with_the_model() {
    // Loaded from folders of different names, so only what follows the name is compared.
    let of = |change: &dyn Fn(&Path)| {
        let text = tiny_after(change).unwrap().fingerprint();
        text.split_once(", ").unwrap().1.to_owned()
    };
    let plain = of(&|_| ());
    assert_eq!(of(&|_| ()), plain);
    assert_ne!(of(&|dir| fs::remove_file(dir.join("sentence_bert_config.json")).unwrap()), plain);
    let flip = |dir: &Path| {
        let mut bytes = fs::read(dir.join("model.safetensors")).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(dir.join("model.safetensors"), bytes).unwrap();
    };
    assert_ne!(of(&flip), plain);
}

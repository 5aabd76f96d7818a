//! `dml import` and `dml weights`, on files that the original tools wrote.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use candle_core::Device;
use dml_teacher::{OrderEmbedding, SentenceEncoder};
use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dml-import/tests/golden").join(name)
}

fn dml(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("dml").unwrap();
    command.args(args);
    command
}

fn stdout(command: &mut Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

fn stderr(command: &mut Command) -> String {
    String::from_utf8(command.assert().failure().get_output().stderr.clone()).unwrap()
}

#[test]
fn every_kind_is_imported() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("out.safetensors");
    let check = |what: &str, file: &str, more: &[&str], parts: &[&str]| {
        let file = golden(file);
        let args = [&["import", what, file.to_str().unwrap(), "-o", out.to_str().unwrap()], more].concat();
        let text = stdout(&mut dml(&args));
        for part in parts {
            assert!(text.contains(part), "\"{text}\" does not say \"{part}\"");
        }
        dml_model::load_safetensors(&out, &Device::Cpu).unwrap()
    };
    let c3d = check("c3d", "c3d_model.pkl", &[], &["source: c3d_model.pkl", "input: BGR", "22 tensors"]);
    assert_eq!(c3d["fc6.weight"].dims(), [3, 32]);
    let root = check("c3d", "c3d.caffemodel", &["--without-classifier"], &["20 tensors"]);
    assert!(root.keys().all(|name| !name.starts_with("fc8")) && root.len() == 20);
    assert_eq!(
        check("vgg-s", "vgg_cnn_s.caffemodel", &[], &["16 tensors"])["conv1.weight"].dims(),
        [2, 3, 7, 7]
    );
    assert_eq!(
        check("mean", "cube.binaryproto", &[], &["1 tensors, 120 values"])["mean"].dims(),
        [3, 2, 4, 5]
    );
    assert_eq!(check("torch", "zip.pth", &[], &["9 tensors"]).len(), 9);
    let metadata = dml_model::load_metadata(&out).unwrap();
    assert_eq!((metadata["file"].as_str(), metadata["source"].as_str()), ("zip.pth", "a torch checkpoint"));
}

#[test]
fn an_order_embedding_is_imported_with_its_vocabulary() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("order.npz");
    std::fs::copy(golden("order.npz"), &file).unwrap();
    std::fs::copy(golden("order-0.pkl"), dir.path().join("order.pkl")).unwrap();
    let out = dir.path().join("teacher.safetensors");
    stdout(&mut dml(&["import", "order-embedding", file.to_str().unwrap(), "-o", out.to_str().unwrap()]));
    let [published, converted] =
        [&file, &out].map(|file| OrderEmbedding::from_file(file, &Device::Cpu).unwrap());
    let vectors = |encoder: &OrderEmbedding| encoder.encode(&["a dogs a"]).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(vectors(&published), vectors(&converted));
}

#[test]
fn what_cannot_be_imported_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let attack = dir.path().join("attack.pth");
    std::fs::write(&attack, b"\x80\x02cos\nsystem\nU\x0dtouch /tmp/ownR.").unwrap();
    let out = dir.path().join("out.safetensors");
    let (attack, out_text) = (attack.to_str().unwrap(), out.to_str().unwrap());
    for (args, part) in [
        (["import", "vgg-s", attack, "-o", out_text], "os.system is not allowed"),
        (["import", "mean", attack, "-o", out_text], "os.system is not allowed"),
        (["import", "torch", attack, "-o", out_text], "magic number"),
        (["import", "torch", attack, "-o", "out.pth"], "name the file so"),
    ] {
        let message = stderr(&mut dml(&args));
        assert!(message.contains(part), "{message}");
    }
    assert!(!out.exists());
}

#[test]
fn weights_are_listed_with_their_licences() {
    let text = stdout(&mut dml(&["weights", "list"]));
    for part in ["c3d-caffe", "non-commercial", "sha1 known", "Apache-2.0", "to be fetched by hand"] {
        assert!(text.contains(part), "{text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&mut dml(&["weights", "list", "--json"]))).unwrap();
    assert!(json.as_array().unwrap().iter().all(|entry| entry["citation"].is_string()));
    assert!(stderr(&mut dml(&["weights", "fetch", "nonsense"])).contains("there are c3d-torch"));
    assert!(stderr(&mut dml(&["weights", "fetch", "c3d-pretrained"])).contains("Google Drive"));
}

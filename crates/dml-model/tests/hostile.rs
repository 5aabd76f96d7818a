//! safetensors files that lie about themselves.
#![allow(clippy::unwrap_used)]

use candle_core::Device;
use dml_model::load_safetensors;

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

#[test]
fn wrong_headers_are_refused_by_the_files_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.safetensors");
    let tensor = |shape: &str, from: i64, to: i64| {
        format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let pair = |a: String, b: String| file(&format!(r#"{{"a":{a},"b":{b}}}"#), &[0; 16]);
    let one = |a: String| file(&format!(r#"{{"a":{a}}}"#), &[0; 16]);
    std::fs::write(&path, pair(tensor("[2]", 0, 8), tensor("[2]", 8, 16))).unwrap();
    assert_eq!(load_safetensors(&path, &Device::Cpu).unwrap().len(), 2);
    for (what, bytes) in [
        ("overlapping offsets", pair(tensor("[2]", 0, 8), tensor("[3]", 4, 16))),
        ("the same offsets twice", pair(tensor("[4]", 0, 16), tensor("[4]", 0, 16))),
        ("a hole", pair(tensor("[1]", 0, 4), tensor("[2]", 8, 16))),
        ("offsets backwards", pair(tensor("[2]", 8, 0), tensor("[2]", 8, 16))),
        ("beyond the end", one(tensor("[8]", 0, 32))),
        ("bytes left over", one(tensor("[2]", 0, 8))),
        ("a shape that does not fit", one(tensor("[5]", 0, 16))),
        ("a negative size", one(tensor("[-4]", 0, 16))),
        ("a negative offset", one(tensor("[4]", -16, 0))),
        ("sizes beyond a number", one(tensor("[4294967296,4294967296,4294967296]", 0, 16))),
        ("an unknown type", file(r#"{"a":{"dtype":"F33","shape":[4],"data_offsets":[0,16]}}"#, &[0; 16])),
        ("a header longer than the file", u64::MAX.to_le_bytes().to_vec()),
        ("no JSON", file("{", &[])),
        ("nothing", Vec::new()),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let message =
            load_safetensors(&path, &Device::Cpu).err().unwrap_or_else(|| panic!("{what}: it was read"));
        assert!(message.to_string().contains("hostile.safetensors"), "{what}: {message}");
    }
}

use super::*;

const V1: &[u8] = include_bytes!("../../tests/golden/vgg_cnn_s.caffemodel");
const V2: &[u8] = include_bytes!("../../tests/golden/vgg_cnn_s-v2.caffemodel");
const FORK: &[u8] = include_bytes!("../../tests/golden/c3d.caffemodel");

fn net(blobs: Vec<Blob>) -> Vec<u8> {
    let blobs = blobs.iter().map(|blob| blob.encode_to_vec().into()).collect();
    Net { layers: vec![V1Layer { name: "conv1".into(), blobs, v0: None }], layer: Vec::new() }.encode_to_vec()
}

#[test]
fn every_dialect_keeps_its_shapes() {
    let check = |file: &[u8], layer: &str, expected: [&[usize]; 2]| {
        let tensors = parse_caffemodel(file).unwrap();
        let dims = [tensors[&format!("{layer}.0")].dims(), tensors[&format!("{layer}.1")].dims()];
        assert_eq!(dims, expected);
    };
    check(V1, "conv1", [&[2, 3, 7, 7], &[1, 1, 1, 2]]);
    check(V1, "fc6", [&[1, 1, 3, 72], &[1, 1, 1, 3]]);
    check(V2, "fc6", [&[3, 72], &[3]]);
    check(FORK, "conv1a", [&[2, 3, 3, 3, 3], &[1, 1, 1, 1, 2]]);
    check(FORK, "fc6-1", [&[1, 1, 1, 3, 32], &[1, 1, 1, 1, 3]]);
}

#[test]
fn wrong_blobs_are_named() {
    let blob = |num: i32, data: &[f32]| Blob {
        num: Some(num),
        channels: Some(1),
        height: Some(1),
        width: Some(2),
        data: data.to_vec(),
        ..Blob::default()
    };
    let shaped = |dim: &[i64]| Blob {
        shape: Some(BlobShape { dim: dim.to_vec() }),
        data: vec![0.0; 2],
        ..Blob::default()
    };
    assert_eq!(parse_caffemodel(&net(vec![blob(1, &[1.0, 2.0])])).unwrap()["conv1.0"].dims(), [1, 1, 1, 2]);
    for (blobs, problem) in [
        (vec![blob(2, &[1.0, 2.0])], "conv1.0: 2 values for the shape [2, 1, 1, 2]"),
        (vec![blob(-1, &[1.0, 2.0])], "the shape [-1, 1, 1, 2] has a negative size"),
        (vec![blob(1, &[1.0, 2.0]), blob(0, &[])], "conv1.1: 0 values"),
        (vec![shaped(&[i64::MAX, i64::MAX, 2])], "2 values for the shape"),
        (vec![shaped(&[])], "2 values for the shape []"),
        (vec![], "no layer with weights"),
    ] {
        let message = parse_caffemodel(&net(blobs)).unwrap_err();
        assert!(message.contains(problem), "{message}, not {problem}");
    }
    let old = Net {
        layers: vec![V1Layer { v0: Some(Bytes::from_static(b"x")), ..V1Layer::default() }],
        layer: Vec::new(),
    };
    assert!(parse_caffemodel(&old.encode_to_vec()).unwrap_err().contains("V0"));
    let layer =
        V1Layer { name: "a".into(), blobs: vec![blob(1, &[0.0; 2]).encode_to_vec().into()], v0: None };
    let twice = Net { layers: vec![layer.clone(), layer], layer: Vec::new() };
    assert!(parse_caffemodel(&twice.encode_to_vec()).unwrap_err().contains("two layers have this name"));
}

#[test]
fn cuts_and_damage_are_errors_or_other_values() {
    let mut stream = dml_rand::Stream::new(0, dml_rand::Purpose::Test, 0, 2);
    for file in [V1, V2, FORK] {
        let whole = parse_caffemodel(file).unwrap().len();
        for length in 0..file.len() {
            // A cut between two layers leaves a shorter network.
            assert!(parse_caffemodel(&file[..length]).map_or(0, |tensors| tensors.len()) <= whole);
        }
        for at in 0..file.len() {
            let mut damaged = file.to_vec();
            damaged[at] = stream.next_u32() as u8;
            let _ = parse_caffemodel(&damaged);
        }
    }
}

use super::*;

const CUBE: &[u8] = include_bytes!("../../tests/golden/cube.npy");
const ARRAYS: &[u8] = include_bytes!("../../tests/golden/arrays.npz");
const COMPRESSED: &[u8] = include_bytes!("../../tests/golden/arrays-compressed.npz");

fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u16).to_le_bytes();
    [MAGIC, &[1, 0], &length, header.as_bytes(), data].concat()
}

#[test]
fn numpy_wrote_what_is_read() {
    for file in [ARRAYS, COMPRESSED] {
        let arrays = parse_npz(file).unwrap();
        let values = |name: &str| arrays[name].to_dtype(DType::F64).unwrap();
        assert_eq!(arrays.keys().collect::<Vec<_>>(), ["c", "empty", "f", "i", "scalar"]);
        let counting = [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]];
        assert_eq!(values("c").to_vec2::<f64>().unwrap(), counting);
        assert_eq!(values("f").to_vec2::<f64>().unwrap(), counting);
        assert_eq!((arrays["c"].dtype(), arrays["f"].dtype()), (DType::F32, DType::F64));
        assert_eq!(arrays["i"].to_vec1::<i64>().unwrap(), [-1, 1 << 40]);
        assert_eq!(arrays["scalar"].to_scalar::<f32>().unwrap(), 2.5);
        assert_eq!(arrays["empty"].dims(), [0, 3]);
    }
    assert_eq!(parse_npy(CUBE).unwrap().dims(), [3, 2, 4, 5]);
}

#[test]
fn headers_of_every_writer() {
    let check = |header: &str, expected: &[usize]| {
        let values = expected.iter().product::<usize>();
        let tensor = parse_npy(&npy(header, &vec![0; 4 * values])).unwrap();
        assert_eq!(tensor.dims(), expected, "{header}");
    };
    check("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n", &[2, 3]);
    check("{'shape':(2L,),\"fortran_order\":True,'descr':'f4'}", &[2]);
    check("{'descr': '<i4', 'fortran_order': False, 'shape': ()}", &[]);
}

#[test]
fn every_cut_is_an_error_and_no_damage_a_panic() {
    let mut stream = dml_rand::Stream::new(0, dml_rand::Purpose::Test, 0, 1);
    for length in 0..CUBE.len() {
        parse_npy(&CUBE[..length]).unwrap_err();
    }
    for file in [CUBE, ARRAYS, COMPRESSED] {
        for at in 0..file.len() {
            let mut damaged = file.to_vec();
            damaged[at] = stream.next_u32() as u8;
            // Most damage is to values, so most files are read.
            let _ = (parse_npy(&damaged), parse_npz(&damaged));
        }
    }
}

#[test]
fn hostile_headers_are_errors() {
    for (header, problem) in [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "not understood"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", "8 bytes for the shape [3]"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}", "beyond memory"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9223372036854775807, 9)}", "beyond memory"),
        ("{'descr': '>f4', 'fortran_order': False, 'shape': (2,)}", "big-endian"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", "\"|O\" are not read"),
        ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", "not understood"),
        ("{'descr': '<f4', 'fortran_order': 1, 'shape': (2,)}", "not understood"),
        ("{'descr': '<f4', 'shape': (2,)}", "not understood"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", "not understood"),
        ("{'descr': 'é'", "not understood"),
    ] {
        let message = parse_npy(&npy(header, &[0; 8])).unwrap_err();
        assert!(message.contains(problem), "{message}, not {problem}");
    }
    assert!(parse_npy(b"hello!!").unwrap_err().contains("magic number"));
    assert!(parse_npz(b"PK\x03\x04").unwrap_err().contains("zip archive"));
    let long = [MAGIC, &[2, 0], &u32::MAX.to_le_bytes()].concat();
    assert!(parse_npy(&long).unwrap_err().contains("cut short"));
}

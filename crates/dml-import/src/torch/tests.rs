use super::legacy::MAGIC;
use super::parse_torch as parse;
use super::*;

const LEGACY: &[u8] = include_bytes!("../../tests/golden/legacy.pth");
const ZIP: &[u8] = include_bytes!("../../tests/golden/zip.pth");
const LEGACY_4: &[u8] = include_bytes!("../../tests/golden/legacy-4.pth");
const ZIP_4: &[u8] = include_bytes!("../../tests/golden/zip-4.pth");

/// The message with which a file is refused.
fn refusal(file: &[u8]) -> String {
    parse(file).err().unwrap_or_else(|| panic!("the file was read"))
}

/// A checkpoint whose object is this pickle, with no storages after it.
fn file(object: &[u8]) -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\x0a".to_vec();
    file.extend(MAGIC);
    file.extend(b".\x80\x02M\xe9\x03.");
    file.extend(b"\x80\x02}U\x0dlittle_endian\x88s.");
    file.extend(object);
    file.extend(b"\x80\x02].");
    file
}

/// A state dictionary `{"w": tensor}` over a storage of two f32, with these instructions for size and stride.
fn with_view(offset: &[u8], size: &[u8], stride: &[u8]) -> Vec<u8> {
    let object = [
        b"\x80\x02}U\x01wctorch._utils\n_rebuild_tensor\n((U\x07storagectorch\nFloatStorage\nU\x01kU\x03cpuK\x02tQ".as_slice(),
        offset,
        size,
        stride,
        b"tRs.",
    ]
    .concat();
    let mut file = file(&object);
    file.pop(); // the list of keys goes on
    file.extend(b"U\x01ka.");
    file.extend(2i64.to_le_bytes());
    file.extend([1f32, 2.0].map(f32::to_le_bytes).as_flattened());
    file
}

#[test]
fn torch_wrote_what_is_read() {
    // The second lies under `state_dict`, beside numbers.
    for file in [LEGACY, ZIP, LEGACY_4, ZIP_4] {
        check_views(&parse(file).unwrap());
    }
}

fn check_views(tensors: &BTreeMap<String, Tensor>) {
    let values = |name: &str| -> Vec<f64> {
        tensors[name].to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    assert_eq!(tensors.len(), 9);
    assert_eq!(tensors["plain.weight"].dims(), [2, 3, 4]);
    assert_eq!(values("plain.weight"), (0..24).map(f64::from).collect::<Vec<_>>());
    let permuted = tensors["plain.weight"].permute((2, 0, 1)).unwrap().flatten_all().unwrap();
    assert_eq!(tensors["channels_last.weight"].dims(), [4, 2, 3]);
    assert_eq!(
        tensors["channels_last.weight"].flatten_all().unwrap().to_vec1::<f32>().unwrap(),
        permuted.to_vec1::<f32>().unwrap()
    );
    assert_eq!(tensors["part.bias"].to_vec2::<f32>().unwrap(), [[17., 18.], [21., 22.]]);
    assert_eq!((tensors["half"].dtype(), values("half")), (DType::F16, vec![0.5, -2.0]));
    assert_eq!((tensors["brain"].dtype(), values("brain")), (DType::BF16, vec![1.5, -3.0]));
    assert_eq!(tensors["double"].to_scalar::<f64>().unwrap(), 0.1);
    assert_eq!(tensors["count"].to_vec1::<i64>().unwrap(), [-1, 1 << 40]);
    assert_eq!(tensors["bytes"].to_vec1::<u8>().unwrap(), [0, 255]);
    assert_eq!(tensors["empty"].dims(), [0, 3]);
}

#[test]
fn every_cut_is_an_error() {
    for file in [LEGACY, ZIP] {
        for length in 0..file.len() {
            refusal(&file[..length]);
        }
    }
    let longer = [LEGACY, &[0]].concat();
    assert_eq!(refusal(&longer), "1 bytes follow the last storage");
}

#[test]
fn no_damage_is_a_panic() {
    let mut stream = dml_rand::Stream::new(0, dml_rand::Purpose::Test, 0, 0);
    for file in [LEGACY, ZIP] {
        let mut refused = 0;
        for at in 0..file.len() {
            for _ in 0..4 {
                let mut damaged = file.to_vec();
                damaged[at] = stream.next_u32() as u8;
                refused += usize::from(parse(&damaged).is_err());
            }
        }
        assert!(refused > file.len(), "only {refused} damaged files were refused");
    }
}

#[test]
fn other_globals_are_refused_by_name() {
    let attack = b"\x80\x02cos\nsystem\nU\x04trueR.";
    assert_eq!(
        refusal(&file(attack)).split_once(": ").unwrap().1,
        "the global os.system is not allowed: weights need none of its kind"
    );
    assert!(refusal(&file(b"\x80\x02cbuiltins\neval\n.")).contains("builtins.eval"));
    // A global that is allowed, called as what it is not.
    assert!(refusal(&file(b"\x80\x02ctorch\nFloatStorage\n)R.")).contains("may not be called"));
    // INST, OBJ and NEWOBJ make objects of any class.
    for instruction in [b'i', b'o', 0x81] {
        assert!(refusal(&file(&[0x80, 2, instruction, b'.'])).contains("has no place"));
    }
}

#[test]
fn python_2_dictionaries_are_read() {
    let object = b"\x80\x02ccollections\nOrderedDict\n(]tR.";
    assert_eq!(parse(&file(object)).unwrap().len(), 0);
    let object = b"\x80\x02ccollections\nOrderedDict\n]](U\x01aK\x01ea\x85R.";
    assert_eq!(refusal(&file(object)), "a: 1 is no tensor");
    let object = b"\x80\x02ccollections\nOrderedDict\n]](U\x01aK\x01K\x02ea\x85R.";
    assert!(refusal(&file(object)).contains("no pair"));
}

#[test]
fn views_stay_within_their_storage() {
    let tensors = parse(&with_view(b"K\x00", b"K\x02\x85", b"K\x01\x85")).unwrap();
    assert_eq!(tensors["w"].to_vec1::<f32>().unwrap(), [1.0, 2.0]);
    let huge: &[u8] = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f";
    let huge_tuple = [huge, b"\x85"].concat();
    for (offset, size, stride, problem) in [
        (b"K\x01".as_slice(), b"K\x02\x85".as_slice(), b"K\x01\x85".as_slice(), "beyond its storage"),
        (b"K\x00", b"K\x03\x85", b"K\x01\x85", "beyond its storage"),
        (huge, b"K\x02\x85", b"K\x01\x85", "beyond its storage"),
        (b"K\x00", b"K\x02\x85", &huge_tuple, "beyond its storage"),
        (b"K\x00", b"K\x02K\x02K\x02\x87", b"K\x01K\x01\x86", "differ in length"),
        (b"J\xff\xff\xff\xff", b"K\x02\x85", b"K\x01\x85", "the size -1 is negative"),
        (b"K\x00", b"J\xff\xff\xff\xff\x85", b"K\x01\x85", "the size -1 is negative"),
        (b"K\x00", b"K\x02\x85", b"\x8a\x01\xff\x85", "the size -1 is negative"),
        (b"K\x00", b"U\x01a\x85", b"K\x01\x85", "a size was expected"),
        // An expanded view: no step, so any size stays within the storage, but not within memory.
        (b"K\x00", &huge_tuple, b"K\x00\x85", "far more memory"),
        (b"K\x00", b"J\x00\x00\x00\x10\x85", b"K\x00\x85", "far more memory"),
    ] {
        let message = refusal(&with_view(offset, size, stride));
        assert!(message.contains(problem), "{message}, not {problem}");
    }
}

#[test]
fn hostile_pickles_are_errors() {
    // A memo index of four thousand million costs nothing.
    assert_eq!(parse(&file(b"\x80\x02}r\xff\xff\xff\xff0j\xff\xff\xff\xff.")).unwrap().len(), 0);
    for (object, problem) in [
        (b"\x80\x02h\x07.".as_slice(), "nothing was remembered as 7"),
        (b"\x80\x02.", "too few values"),
        (b"\x80\x02K\x01(0.", "too few values"),
        (b"\x80\x02t.", "a mark is missing"),
        (b"\x80\x02}(K\x01u.", "a key without a value"),
        (b"\x80\x02K\x01K\x02a.", "no list"),
        (b"\x80\x02K\x01}b.", "attributes may not be set"),
        (b"\x80\x02X\xff\xff\xff\xff.", "cut short"),
        (b"\x80\x02X\x01\x00\x00\x00\xff.", "not UTF-8"),
        (b"\x80\x05.", "protocol 5"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system is not allowed"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", "builtins.eval is not allowed"),
        (b"\x80\x04K\x01K\x02\x93.", "a text was expected"),
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xffa.", "cut short"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fa.", "cut short"),
        (b"\x80\x04\x94.", "too few values"),
        (b"\x80\x04\x8f.", "0x8f has no place"),
        (b"\x80\x04)\x81.", "0x81 has no place"),
        (b"\x80\x02].", "no state dictionary"),
        (b"\x80\x02}K\x01K\x02s.", "a text was expected"),
    ] {
        let message = refusal(&file(object));
        assert!(message.contains(problem), "{message}, not {problem}");
    }
    // A list that holds itself, nested a million deep: nothing recurses.
    let deep = [b"\x80\x02]q\x00h\x00a".as_slice(), &[0x85; 1_000_000], b"."].concat();
    assert!(refusal(&file(&deep)).contains("no state dictionary"));
    let long = [b"\x80\x02(".as_slice(), &vec![b'N'; 1_200_000], b"t."].concat();
    assert!(refusal(&file(&long)).contains("no weights are that many"));
}

#[test]
fn what_a_zip_must_have() {
    let archive = |files: &[(&str, &[u8])]| {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, content) in files {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            std::io::Write::write_all(&mut zip, content).unwrap();
        }
        zip.finish().unwrap().into_inner()
    };
    let pickle =
        b"\x80\x02}U\x01wctorch._utils\n_rebuild_tensor\n((U\x07storagectorch\nFloatStorage\nU\x01kU\x03cpuK\x02tQK\x00K\x02\x85K\x01\x85tRs.";
    let whole = archive(&[("x/data.pkl", pickle), ("x/byteorder", b"little\n"), ("x/data/k", &[0; 8])]);
    assert_eq!(parse(&whole).unwrap()["w"].to_vec1::<f32>().unwrap(), [0.0, 0.0]);
    let zeros = vec![0; 1 << 20];
    for (files, problem) in [
        (&[("x/version", b"3".as_slice())][..], "no data.pkl"),
        (&[("x/data.pkl", pickle), ("x/byteorder", b"big")], "big-endian"),
        (&[("x/data.pkl", pickle)], "x/data/k"),
        (&[("x/data.pkl", pickle), ("x/data/k", &[0; 7])], "has 7 bytes and should have 8"),
        (&[("x/data.pkl", b"\x80\x02cos\nsystem\nU\x04trueR.")], "os.system"),
        (&[("x/data.pkl", b"\x80\x02}..")], "1 bytes follow"),
        // A million zeros pack into a thousand bytes.
        (&[("x/data.pkl", pickle), ("x/data/k", &zeros)], "far more than weights"),
    ] {
        let message = refusal(&archive(files));
        assert!(message.contains(problem), "{message}, not {problem}");
    }
}

#[test]
fn other_files_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.pth");
    std::fs::write(&path, b"PK\x03\x04 and more").unwrap();
    let message = read_torch(&path).unwrap_err().to_string();
    assert!(message.contains("new.pth") && message.contains("zip"), "{message}");
    assert!(refusal(b"hello").contains("magic number"));
    assert!(matches!(read_torch(&folder.path().join("none.pth")), Err(crate::ImportError::Io { .. })));
}

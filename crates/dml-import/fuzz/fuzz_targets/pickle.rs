//! Pickles, alone and in torch's files, and numpy's arrays.
#![no_main]

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    let _ = dml_import::parse_object(file);
    let _ = dml_import::parse_torch(file);
    let _ = dml_import::parse_npy(file);
    let _ = dml_import::parse_npz(file);
});

//! Caffe's networks and means.
#![no_main]

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    let _ = dml_import::parse_caffemodel(file);
    let _ = dml_import::parse_binaryproto(file);
});
